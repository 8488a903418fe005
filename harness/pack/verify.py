"""Is a pack what its trials are alone? Some of them run both ways, without dropout, and are compared."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.executors import Listener
from harness.records import RunRecord
from harness.settings import Settings
from harness.trial import Trial

LOSS_TOLERANCE = 1e-5
"""Relative, of the first point of the loss curve: rounding alone makes about 1e-7."""
AGREEMENT = 0.99
"""Share of last predictions that must be the same: rounding may turn what is nearly a tie."""
NUMBERS_TOLERANCE = 1e-3
"""Within which two predicted numbers count as the same."""

Together = Callable[[Sequence[Trial], Settings, Listener], object]
Alone = Callable[[Trial, Settings], RunRecord]


@dataclass(frozen=True)
class PackCheck:
    """The largest differences that were seen."""

    compared: int
    loss_difference: float
    """Relative, of the first point of the loss curves."""
    agreement: float
    """Share of the last predictions that are the same."""

    @property
    def passed(self) -> bool:
        return self.compared > 0 and self.loss_difference <= LOSS_TOLERANCE and self.agreement >= AGREEMENT

    def __str__(self) -> str:
        return (
            f"{self.compared} trials compared without dropout: first losses differ by {self.loss_difference:.1e} "
            f"(relative), {self.agreement:.1%} of the last predictions are the same"
        )


@dataclass
class _Kept:
    """A listener that keeps what it is told."""

    records: dict[str, RunRecord] = field(default_factory=dict)

    def started(self, trial: Trial) -> None: ...

    def progress(self, trial: Trial, done: int, total: int) -> None: ...

    def finished(self, record: RunRecord) -> None:
        self.records[record.trial.id] = record


def check_pack_against_alone(
    trials: Sequence[Trial], settings: Settings, together: Together, alone: Alone, sample: int = 2
) -> PackCheck:
    """Run all trials `together`, and the first and last of them `alone`; dropout would draw other numbers in each."""
    plain = [without_dropout(trial) for trial in trials]
    kept = _Kept()
    together(plain, settings, kept)
    chosen = [plain[round(i * (len(plain) - 1) / max(1, sample - 1))] for i in range(min(sample, len(plain)))]
    # a trial that turned out to train more than a pack can carry was left to run alone: nothing to compare
    pairs = [(kept.records[trial.id], alone(trial, settings)) for trial in chosen if trial.id in kept.records]
    return PackCheck(
        len(pairs),
        max((_loss_difference(*pair) for pair in pairs), default=0.0),
        min((_agreement(*pair) for pair in pairs), default=1.0),
    )


def without_dropout(trial: Trial) -> Trial:
    """The same trial with no dropout in the backbone or in the method."""
    parameters = {**trial.parameters, **({"dropout": 0.0} if "dropout" in trial.parameters else {})}
    recipe = dataclasses.replace(trial.recipe, backbone_dropout=0.0)
    return dataclasses.replace(trial, parameters=parameters, recipe=recipe)


def _loss_difference(packed: RunRecord, alone: RunRecord) -> float:
    if not packed.losses or not alone.losses:
        return 0.0 if packed.status == alone.status else math.inf
    expected = alone.losses[0][1]
    return abs(packed.losses[0][1] - expected) / max(abs(expected), 1e-12)


def _agreement(packed: RunRecord, alone: RunRecord) -> float:
    if packed.status != alone.status:
        return 0.0
    last = max((item.epoch for item in alone.predictions), default=0)
    pairs = [
        pair
        for mine, theirs in zip(packed.predictions, alone.predictions, strict=True)
        if theirs.epoch == last
        for pair in zip(mine.values, theirs.values, strict=True)
    ]
    return sum(_same(*pair) for pair in pairs) / len(pairs) if pairs else 1.0


def _same(first: object, second: object) -> bool:
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=NUMBERS_TOLERANCE, abs_tol=NUMBERS_TOLERANCE)
    return first == second
