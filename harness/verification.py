"""A run once more: do the same numbers come out, and which recorded input has changed since?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import DeviceLost
from harness.pack.verify import AGREEMENT, NUMBERS_TOLERANCE
from harness.provenance import VARIABLES
from harness.records import Predictions, RunRecord
from harness.settings import Settings
from harness.store import RunDetails
from harness.trial import Trial

SCORE_TOLERANCE = 0.01
"""Within which a score counts as the same: one test row in a hundred."""
LOSS_TOLERANCE = 1e-3
"""Relative, for the first point of the loss curve: rounding of another processor makes about 1e-6."""

Verdict = Literal["identical", "within tolerance", "different"]
Repeat = Callable[[Trial, Settings], RunRecord]

_INPUTS = (
    "harness",
    "commit",
    "dirty_sha256",
    "os",
    "versions",
    "environment",
    "switches",
    "stack",
    "backbone_sha256",
    "tokenizer_sha256",
    "data_sha256",
    "rows_sha256",
    "plugins_sha256",
    "start_sha256",
    "whole_batches",
    "gradient_checkpointing",
)
"""Parts of a run's provenance that may explain another outcome."""


@dataclass(frozen=True)
class Change:
    """A recorded input that is not what it was."""

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name}: {_short(self.before)} then, {_short(self.now)} now"


@dataclass(frozen=True)
class Verification:
    """What a repetition of a run showed."""

    run_id: str
    verdict: Verdict
    differences: tuple[str, ...]
    """What came out otherwise, in words; the most telling first."""
    changes: tuple[Change, ...]
    """Inputs that were recorded then and are others now."""
    unrecorded: tuple[str, ...]
    """Inputs of which the run's row says nothing: it was made before they were recorded."""


def verify(details: RunDetails, kept: Sequence[Predictions], settings: Settings, repeat: Repeat) -> Verification:
    """Repeat a run as it was recorded (its threads, its way of batching) and compare. Nothing is stored."""
    before = dataclasses.replace(details.record, predictions=list(kept))
    try:
        now = repeat(before.trial, as_recorded(before, settings))
    except DeviceLost as lost:
        if lost.record is None:
            raise
        now = lost.record
    found = list(_differences(before, now))
    far, near = ([text for close, text in found if close is side] for side in (False, True))
    verdict: Verdict = "different" if far else "within tolerance" if near else "identical"
    changes = tuple(_changes(before.provenance, now.provenance))
    missing = tuple(name for name in _INPUTS if name in now.provenance and name not in before.provenance)
    return Verification(details.id, verdict, (*far, *near), changes, missing)


def as_recorded(record: RunRecord, settings: Settings) -> Settings:
    """The settings with what a run recorded of its own: threads, whole batches; never in a pack."""
    stack = record.provenance.get("stack") or {}
    return dataclasses.replace(
        settings,
        threads=settings.threads or int(stack.get("threads") or 0),
        split_batches=not record.provenance.get("whole_batches", False),
        pack="off",
    )


def _differences(before: RunRecord, now: RunRecord) -> Iterator[tuple[bool, str]]:
    """What differs, each with whether it is within tolerance."""
    if before.status != now.status:
        reason = f": {now.reason}" if now.reason else ""
        yield False, f"status: {before.status} then, {now.status} now{reason}"
        return
    if before.parameters != now.parameters:
        yield False, f"parameters: {before.parameters} then, {now.parameters} now"
    yield from _score_differences(before, now)
    yield from _loss_differences(before.losses, now.losses)
    yield from _prediction_differences(before.predictions, now.predictions)


def _score_differences(before: RunRecord, now: RunRecord) -> Iterator[tuple[bool, str]]:
    first, second = ({(s.epoch, s.split, s.metric): s.value for s in record.scores} for record in (before, now))
    known = {metric for _, _, metric in second}  # what a rescoring added is not measured again
    found = []
    for key in sorted(set(first) | set(second)):
        if key[2] not in known:
            continue
        old, new = first.get(key), second.get(key)
        if not _same(old, new):
            near = old is not None and new is not None and abs(old - new) <= SCORE_TOLERANCE
            epoch, split, metric = key
            found.append((near, f"{metric} on {split} after epoch {epoch}: {_short(old)} then, {_short(new)} now"))
    yield from sorted(found, key=lambda item: item[0])


def _loss_differences(
    before: Sequence[tuple[int, float]], now: Sequence[tuple[int, float]]
) -> Iterator[tuple[bool, str]]:
    if [step for step, _ in before] != [step for step, _ in now]:
        yield False, f"loss curve: {len(before)} points then, {len(now)} now, or at other steps"
        return
    apart = [index for index, (a, b) in enumerate(zip(before, now, strict=True)) if not _same(a[1], b[1])]
    if apart:
        (step, old), (_, new) = before[apart[0]], now[apart[0]]
        # small differences grow in training: only the first point can be held to a tolerance
        near = apart[0] > 0 or math.isclose(old, new, rel_tol=LOSS_TOLERANCE)
        yield near, f"loss at step {step}: {old!r} then, {new!r} now; {len(apart)} of {len(now)} points differ"


def _prediction_differences(before: Sequence[Predictions], now: Sequence[Predictions]) -> Iterator[tuple[bool, str]]:
    again = {(item.split, item.epoch): item for item in now}
    for old in before:
        new = again.get((old.split, old.epoch))
        where = f"predictions on {old.split} after epoch {old.epoch}"
        if new is None:
            yield False, f"{where}: none now"
        elif (list(map(str, old.ids)), old.labels) != (list(map(str, new.ids)), new.labels):
            yield False, f"{where}: other rows or labels now"
        elif old.values != new.values:
            pairs = list(zip(old.values, new.values, strict=True))
            equal = sum(_near(*pair) for pair in pairs) / len(pairs)
            apart = sum(a != b for a, b in pairs)
            yield equal >= AGREEMENT, f"{where}: {apart} of {len(pairs)} differ"


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    for name in _INPUTS:
        if name in before and name in now:
            yield from _changed(name, *(_still_recorded(name, part[name]) for part in (before, now)))


def _still_recorded(name: str, value: Any) -> Any:
    """Without environment variables that are recorded no longer."""
    if name != "environment" or not isinstance(value, Mapping):
        return value
    return {variable: text for variable, text in value.items() if variable in VARIABLES}


def _changed(name: str, before: Any, now: Any) -> Iterator[Change]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted(set(before) | set(now)):
            yield from _changed(f"{name}.{key}", before.get(key), now.get(key))
    elif before != now:
        yield Change(name, before, now)


def _same(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return first == second or (math.isnan(first) and math.isnan(second))


def _near(first: Any, second: Any) -> bool:
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=NUMBERS_TOLERANCE, abs_tol=NUMBERS_TOLERANCE)
    return bool(first == second)


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:16]}..."
