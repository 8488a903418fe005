"""From records to table rows and back: hashes, compression, and the statements that write."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import uuid
import zlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from harness import schema
from harness.database import to_json
from harness.records import Member, Predictions, RunRecord, SuiteInfo
from harness.redaction import redacted
from harness.trial import Trial

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql


def fingerprint(value: Any) -> str:
    """First 16 hexadecimal digits of the sha256 of the value's canonical JSON."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()[:16]


def pack(values: list[Any]) -> bytes:
    """zlib-compressed JSON; a number that is not finite becomes null."""
    return zlib.compress(to_json(finite(values)).encode(), level=9)


def unpack(packed: bytes) -> list[Any]:
    """What `pack` took."""
    values: list[Any] = json.loads(zlib.decompress(packed))
    return values


def finite(value: Any) -> Any:
    """The value in plain Python types, with None for every float, at any depth, that is NaN or infinite."""
    if hasattr(value, "tolist"):  # numpy and torch, scalars and arrays
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def or_nan(value: float | None) -> float:
    """The value, with NaN for what the database holds as NULL."""
    return math.nan if value is None else value


def plain_rows(connection: sa.Connection, query: sa.Select) -> list[tuple[Any, ...]]:
    """The rows of a query as the driver gives them, much faster than as SQLAlchemy's: JSON and times are text."""
    cursor: Any = connection.execute(query).cursor
    rows: list[tuple[Any, ...]] = [] if cursor is None else cursor.fetchall()
    return rows


def upsert(connection: sa.Connection, table: sa.Table, new: list[dict[str, Any]]) -> None:
    """Insert rows; a row whose primary key exists is replaced."""
    if not new:
        return
    statement = _insert(connection, table)
    keys = [column.name for column in table.primary_key]
    rest = {name: statement.excluded[name] for name in new[0] if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=rest), new)


def insert_missing(connection: sa.Connection, table: sa.Table, new: list[dict[str, Any]]) -> None:
    """Insert rows; a row whose primary key exists stays as it is."""
    if new:
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), new)


def _insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    # Both dialects spell ON CONFLICT alike, but SQLAlchemy keeps it out of its common insert().
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # a twentieth of a second that most databases need not wait for

        return postgresql.insert(table)
    return sqlite.insert(table)


def insert_trials(connection: sa.Connection, trials: Iterable[Trial]) -> None:
    """Insert the trials, and their backbones, that are not there yet."""
    distinct = {trial.id: trial for trial in trials}
    backbones = dict.fromkeys(trial.backbone for trial in distinct.values())
    insert_missing(connection, schema.BACKBONES, [{"name": b.name, "revision": b.revision} for b in backbones])
    insert_missing(connection, schema.TRIALS, [_trial_row(trial_id, trial) for trial_id, trial in distinct.items()])


def _trial_row(trial_id: str, trial: Trial) -> dict[str, Any]:
    return {
        "id": trial_id,
        "backbone": trial.backbone.name,
        "backbone_revision": trial.backbone.revision,
        "task": trial.task,
        "task_version": trial.task_version,
        "method": trial.method,
        "parameters": trial.parameters,
        "recipe": dataclasses.asdict(trial.recipe),
        "train_size": trial.train_size,
        "start": str(trial.start),
        "seed": trial.seed,
        "canonical": trial.canonical,
    }


Cell = tuple[str, str, str, str, int, str]
"""Grid, label, backbone, task, train size, start: what the seeds of one cell of a table have in common."""


def insert_members(connection: sa.Connection, suite: SuiteInfo) -> None:
    """Add the suite's members behind those it has; see `Store.set_suite` for what takes whose place."""
    place, trial = schema.SUITE_MEMBERS.c, schema.TRIALS.c
    columns = (trial.backbone, trial.task, trial.train_size, trial.start)
    query = sa.select(place.grid, place.label, *columns, place.trial_id, place.position, trial.canonical)
    stored = connection.execute(
        query.join(schema.TRIALS, trial.id == place.trial_id).where(place.suite == suite.name)
    ).all()
    planned = dict.fromkeys((member.grid, member.label, member.trial.id) for member in suite.members)
    examples = {_cell(member): member.trial for member in suite.members}
    labels = {member.label for member in suite.members}
    for row in stored:
        cell: Cell = (row.grid, row.label, row.backbone, row.task, row.train_size, row.start)
        if (row.grid, row.label, row.trial_id) in planned:
            continue
        if cell in examples:
            leaves = _without_seed(row.canonical) != _without_seed(examples[cell].canonical)
        else:
            leaves = suite.whole and row.label in labels
        if leaves:
            condition = (place.suite == suite.name, place.grid == row.grid, place.label == row.label)
            connection.execute(sa.delete(schema.SUITE_MEMBERS).where(*condition, place.trial_id == row.trial_id))
    first = 1 + max((row.position for row in stored), default=-1)
    new = [
        {"suite": suite.name, "grid": grid, "label": label, "trial_id": trial_id, "position": first + index}
        for index, (grid, label, trial_id) in enumerate(planned)
    ]
    insert_missing(connection, schema.SUITE_MEMBERS, new)


def _cell(member: Member) -> Cell:
    trial = member.trial
    return (
        member.grid,
        member.label,
        trial.backbone.name,
        trial.task,
        trial.train_size,
        str(trial.start),
    )


def _without_seed(canonical: str) -> dict[str, Any]:
    """What the canonical JSON of a trial says beside its seed."""
    return {name: value for name, value in json.loads(canonical).items() if name != "seed"}


def set_weights_hash(connection: sa.Connection, record: RunRecord) -> None:
    """Keep the backbone's weights hash, if the run tells it and none is known."""
    columns, backbone = schema.BACKBONES.c, record.trial.backbone
    known = record.provenance.get("backbone_sha256")
    condition = (columns.name == backbone.name, columns.revision == backbone.revision, columns.weights_sha256.is_(None))
    if known:
        connection.execute(sa.update(schema.BACKBONES).where(*condition).values(weights_sha256=known))


def insert_run(connection: sa.Connection, record: RunRecord, run_id: str = "", origin: str | None = None) -> str:
    """Insert a run with its scores, losses and predictions, its texts redacted. Returns its id, new if none is given.

    `origin` names who submitted it, if it was not run into this database.
    """
    record = redacted(record)
    run_id = run_id or uuid.uuid4().hex[:12]
    provenance = finite(record.provenance)
    stack = provenance.pop("stack", None)
    stack_id = None if stack is None else fingerprint(stack)
    if stack is not None:
        insert_missing(connection, schema.STACKS, [{"id": stack_id, "details": stack}])
    connection.execute(
        sa.insert(schema.RUNS),
        [{"id": run_id, "stack_id": stack_id, "provenance": provenance, "origin": origin, **_run_row(record)}],
    )
    scores = [{"run_id": run_id, **finite(dataclasses.asdict(score))} for score in record.scores]
    losses = [{"run_id": run_id, "step": step, "loss": finite(loss)} for step, loss in record.losses]
    for table, new in ((schema.SCORES, scores), (schema.LOSSES, losses)):
        if new:
            connection.execute(sa.insert(table), new)
    for predictions in record.predictions:
        _insert_predictions(connection, run_id, record.trial, predictions)
    return run_id


def _run_row(record: RunRecord) -> dict[str, Any]:
    counts = record.parameters
    status, reason = _status(record)
    return {
        "trial_id": record.trial.id,
        "status": status,
        "reason": reason,
        "traceback": record.traceback,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "adapter_params": counts and counts.adapter,
        "head_params": counts and counts.head,
        "trainable_params": counts and counts.trainable,
        "total_params": counts and counts.total,
        **finite(dataclasses.asdict(record.costs)),
        **finite(dataclasses.asdict(record.forgetting)),
        "git_commit": record.provenance.get("commit"),
        "git_dirty": record.provenance.get("dirty"),
    }


def _status(record: RunRecord) -> tuple[str, str]:
    """The run's status and reason; a run that calls itself ok with a number that is not finite has diverged."""
    if record.status == "ok":
        for score in record.scores:
            if not math.isfinite(score.value):
                return "diverged", f"{score.metric} on {score.split} after epoch {score.epoch} is {score.value}."
        for step, loss in record.losses:
            if not math.isfinite(loss):
                return "diverged", f"the training loss at step {step} is {loss}."
    return record.status, record.reason


def _insert_predictions(connection: sa.Connection, run_id: str, trial: Trial, kept: Predictions) -> None:
    if not len(kept.ids) == len(kept.labels) == len(kept.values):
        raise ValueError(f"{len(kept.ids)} ids, {len(kept.labels)} labels and {len(kept.values)} predictions")
    set_id = fingerprint([trial.task, trial.task_version, kept.split, finite(kept.ids), finite(kept.labels)])
    present = sa.select(schema.EXAMPLE_SETS.c.id).where(schema.EXAMPLE_SETS.c.id == set_id)
    if connection.scalar(present) is None:
        examples = {
            "id": set_id,
            "task": trial.task,
            "task_version": trial.task_version,
            "split": kept.split,
            "ids": pack(kept.ids),
            "labels": pack(kept.labels),
        }
        insert_missing(connection, schema.EXAMPLE_SETS, [examples])
    row = {"run_id": run_id, "split": kept.split, "epoch": kept.epoch, "example_set_id": set_id}
    connection.execute(sa.insert(schema.PREDICTIONS), [{**row, "predicted": pack(kept.values)}])
