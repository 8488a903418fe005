"""From a database to a bundle."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from harness import __version__, rows, schema
from harness.bundle.format import MANIFEST, VERSION, canonical, run_sha256, sha256
from harness.errors import UserError
from harness.records import Predictions, RunRecord
from harness.redaction import redacted
from harness.schema import SCHEMA_VERSION
from harness.store import RunDetails, Store
from harness.trial import Trial
from harness.whole_files import check_new, replacing

_EPOCH = (1980, 1, 1, 0, 0, 0)

KeepArray = Callable[[list[Any]], str]


def run_line(
    details: RunDetails, predictions: Iterable[Predictions], keep: KeepArray, metrics: Collection[str]
) -> dict[str, Any]:
    """A run as a line of `runs.jsonl`; `keep` takes each array and returns its hash.

    `metrics` are the task's own. Others were computed from the predictions later, and can be again.
    """
    record: RunRecord = redacted(details.record)
    counts = record.parameters
    provenance = {name: value for name, value in record.provenance.items() if name != "stack"}
    line: dict[str, Any] = {
        "id": details.id,
        "trial": rows.finite(_trial(record)),
        "stack": details.stack,
        "status": record.status,
        "reason": record.reason,
        "traceback": record.traceback,
        "started_at": _moment(record.started_at),
        "finished_at": _moment(record.finished_at),
        "parameters": None if counts is None else [counts.adapter, counts.head, counts.total],
        "costs": rows.finite(dataclasses.asdict(record.costs)),
        "forgetting": rows.finite(dataclasses.asdict(record.forgetting)),
        "scores": sorted(
            [s.epoch, s.split, s.metric, rows.finite(s.value)] for s in record.scores if s.metric in metrics
        ),
        "losses": [[step, rows.finite(loss)] for step, loss in record.losses],
        "predictions": sorted([p.split, p.epoch, *map(keep, (p.ids, p.labels, p.values))] for p in predictions),
        "provenance": rows.finite(provenance),
        "origin": details.origin,
    }
    return {**line, "sha256": run_sha256(line)}


def write_bundle(store: Store, run_ids: Sequence[str], file: Path, origin: str | None) -> dict[str, int]:
    """Write the runs, with all that their rows refer to, into a new file. Returns how many of what.

    `origin` names who made the runs that were run into this database; those that came in a bundle keep theirs.
    """
    check_new(file)
    arrays: dict[str, bytes] = {}

    def keep(values: list[Any]) -> str:
        content = canonical(rows.finite(values))
        digest = sha256(content)
        arrays[digest] = content
        return digest

    lines, records, stacks = [], [], {}
    own = metrics_of(store)
    for run_id in run_ids:
        details = store.run(run_id)
        line = run_line(details, all_predictions(store, details.id), keep, own(details.record.trial))
        lines.append({**line, "origin": details.origin or origin})
        records.append(details)
        if details.stack is not None:
            stacks[details.stack] = details.record.provenance["stack"]
    trials = {details.record.trial.id for details in records}
    tables = {
        "methods": _methods(store, {details.record.trial.method for details in records}),
        "tasks": _tasks(store, {(d.record.trial.task, d.record.trial.task_version) for d in records}),
        "suites": _suites(store, trials),
        "stacks": [{"id": key, "details": stacks[key]} for key in sorted(stacks)],
        "runs": lines,
    }
    members = {f"{name}.jsonl": b"".join(canonical(line) + b"\n" for line in found) for name, found in tables.items()}
    members |= {f"arrays/{digest}.json": arrays[digest] for digest in sorted(arrays)}
    manifest = {
        "version": VERSION,
        "harness": __version__,
        "schema": SCHEMA_VERSION,
        "origin": origin,
        "made_at": _moment(datetime.now(UTC)),
        "sha256": {name: sha256(content) for name, content in members.items()},
    }
    _write(file, {MANIFEST: canonical(manifest), **members})
    return {**{name: len(found) for name, found in tables.items()}, "arrays": len(arrays)}


def metrics_of(store: Store) -> Callable[[Trial], Collection[str]]:
    """Tells the metrics of a trial's task."""
    known = {(info.name, info.version): info.metrics for info in store.tasks()}
    return lambda trial: known[trial.task, trial.task_version]


def all_predictions(store: Store, run_id: str) -> list[Predictions]:
    """Every kept prediction of a run."""
    kept, examples = schema.PREDICTIONS.c, schema.EXAMPLE_SETS.c
    query = (
        sa.select(kept.split, kept.epoch, examples.ids, examples.labels, kept.predicted)
        .join(schema.EXAMPLE_SETS, examples.id == kept.example_set_id)
        .where(kept.run_id == run_id)
        .order_by(kept.split, kept.epoch)
    )
    with store.reading() as connection:
        found = connection.execute(query).all()
    return [Predictions(row.split, row.epoch, *map(rows.unpack, (row.ids, row.labels, row.predicted))) for row in found]


def _trial(record: RunRecord) -> dict[str, Any]:
    import json

    trial: dict[str, Any] = json.loads(record.trial.canonical)
    return trial


def _moment(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _methods(store: Store, wanted: Collection[str]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(info) for info in store.methods() if info.name in wanted]


def _tasks(store: Store, wanted: Collection[tuple[str, int]]) -> list[dict[str, Any]]:
    found = [dataclasses.asdict(info) for info in store.tasks() if (info.name, info.version) in wanted]
    return [{**info, "metrics": list(info["metrics"]), "tests": list(info["tests"])} for info in found]


def _suites(store: Store, trials: Collection[str]) -> list[dict[str, Any]]:
    """The suites that the trials stand in, with these trials as members."""
    member = schema.SUITE_MEMBERS.c
    query = sa.select(member.suite, member.grid, member.label, member.trial_id).order_by(member.suite, member.position)
    places: dict[str, list[list[str]]] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            if row.trial_id in trials:
                places.setdefault(row.suite, []).append([row.grid, row.label, row.trial_id])
    return [
        {
            "name": s.name,
            "title": s.title,
            "description": s.description,
            "rank_by": s.rank_by,
            "members": places[s.name],
        }
        for s in store.suites()
        if s.name in places
    ]


def _write(file: Path, members: dict[str, bytes]) -> None:
    """The archive, whole or not at all; the same members give the same bytes."""
    try:
        with replacing(file) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}.") from error
