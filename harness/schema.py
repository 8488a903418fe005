"""The tables of the leaderboard database, with typed columns. `docs/schema.md` is rendered from them.

Types are portable: the same tables on SQLite and PostgreSQL. Unknown is NULL, never a sentinel; no NaN or infinity is
stored. Times are UTC, ISO 8601 with microseconds, so that they sort as text.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar, get_args

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    Named,
    String,
    Table,
    TypedColumns,
    TypeDecorator,
)
from sqlalchemy.schema import SchemaItem

from harness.records import Status

SCHEMA_VERSION = 4
"""Number of the newest file in `migrations/versions`: a change of the tables needs a new file and a new number."""

VERSION_TABLE = "harness_schema"
"""Table in which Alembic keeps the schema version; its presence marks a database as ours."""

RANK_BY = ("last", "selected", "optimistic")


class UtcText(TypeDecorator[datetime]):
    """An aware datetime as text: 2026-01-31T12:00:00.000000+00:00."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone; use datetime.now(UTC)")
        return value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


Columns = TypeVar("Columns", bound=TypedColumns)
METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)


def _table(name: str, columns: type[Columns], comment: str, *items: SchemaItem, rowid: bool = True) -> Table[Columns]:
    """rowid=False, for wide keys: rows lie in the key's order, without a second copy of the key (SQLite)."""
    return Table(name, METADATA, columns, *items, comment=comment, sqlite_with_rowid=rowid)


class _Method(TypedColumns):
    name: Named[str] = Column(primary_key=True, comment="Name of the plugin: lora_xs.")
    title: Named[str] = Column(comment="Name as printed: LoRA-XS.")
    paper: Named[str] = Column(comment="Citation; empty if there is none.")
    formula: Named[str] = Column(comment="The adapted weight in one line.")
    summary: Named[str] = Column(comment="First paragraph of the plugin's docstring.")
    control: Named[bool] = Column(comment="True for a row that is only there to be compared with.")


METHODS = _table("methods", _Method, "Methods as their plugins described themselves, last description kept.")


class _Task(TypedColumns):
    name: Named[str] = Column(primary_key=True, comment="Name of the plugin: mrpc.")
    version: Named[int] = Column(primary_key=True, autoincrement=False, comment="Version of its meaning.")
    title: Named[str] = Column(comment="Name as printed: MRPC.")
    kind: Named[str] = Column(comment="classification, regression or generation.")
    metrics: Named[list[str]] = Column(JSON, comment="JSON list of metrics, more is better; the first one ranks.")
    tests: Named[list[str]] = Column(JSON, comment="JSON list of test splits; the score is the mean over them.")
    source: Named[str] = Column(comment="Where the data come from.")


TASKS = _table(
    "tasks",
    _Task,
    "Tasks by name and version; a change of meaning is a new version.",
    _one_of("kind", ("classification", "regression", "generation")),
)


class _Backbone(TypedColumns):
    name: Named[str] = Column(primary_key=True, comment="Hub id, or name of a local folder.")
    revision: Named[str] = Column(primary_key=True, comment="Hub commit, or sha256: and 16 digits if local.")
    weights_sha256: Named[str | None] = Column(comment="Hash of the weights, from the first run that told it.")


BACKBONES = _table("backbones", _Backbone, "Pretrained models that trials start from.")


class _Trial(TypedColumns):
    id: Named[str] = Column(String(16), primary_key=True, comment="16 hex digits: hash of canonical.")
    backbone: Named[str] = Column(comment="Name of the backbone.")
    backbone_revision: Named[str] = Column(comment="Its revision.")
    task: Named[str] = Column(comment="Name of the task.")
    task_version: Named[int] = Column(comment="Its version.")
    method: Named[str] = Column(ForeignKey("methods.name"), comment="Name of the method.")
    parameters: Named[dict[str, Any]] = Column(JSON, comment="JSON: the method's complete configuration.")
    recipe: Named[dict[str, Any]] = Column(JSON, comment="JSON: how it is trained.")
    train_size: Named[int] = Column(comment="Training rows asked for; 0 means all that the task has.")
    start: Named[str] = Column(comment="Where training starts: pretrained, or warmup(...).")
    seed: Named[int] = Column(BigInteger, comment="Seed of the trial's random streams.")
    canonical: Named[str] = Column(comment="Canonical JSON of the whole trial.")


TRIALS = _table(
    "trials",
    _Trial,
    "Points of the grids: what was to be run. A trial may have many runs, or none yet.",
    ForeignKeyConstraint(["backbone", "backbone_revision"], ["backbones.name", "backbones.revision"]),
    ForeignKeyConstraint(["task", "task_version"], ["tasks.name", "tasks.version"]),
)


class _Suite(TypedColumns):
    name: Named[str] = Column(primary_key=True, comment="Name, with overrides in brackets if there were any.")
    title: Named[str] = Column(comment="Name as printed.")
    description: Named[str] = Column(comment="What the suite is for.")
    rank_by: Named[str] = Column(comment="Epoch that the board shows: last, selected or optimistic.")


SUITES = _table("suites", _Suite, "Suites as they were last planned.", _one_of("rank_by", RANK_BY))


class _SuiteMember(TypedColumns):
    suite: Named[str] = Column(ForeignKey("suites.name"), primary_key=True, comment="Name of the suite.")
    grid: Named[str] = Column(primary_key=True, comment="Grid inside the suite: main, train-size.")
    label: Named[str] = Column(primary_key=True, comment="Name of the table row that the trial belongs to.")
    trial_id: Named[str] = Column(
        String(16), ForeignKey("trials.id"), primary_key=True, index=True, comment="The trial."
    )
    position: Named[int] = Column(comment="Order in which the suite names its trials, from 0.")


SUITE_MEMBERS = _table(
    "suite_members", _SuiteMember, "Which trials make up a suite; a trial may be in many.", rowid=False
)


class _Stack(TypedColumns):
    id: Named[str] = Column(String(16), primary_key=True, comment="16 hex digits: hash of details.")
    details: Named[dict[str, Any]] = Column(JSON, comment="JSON: device, processor, versions.")


STACKS = _table("stacks", _Stack, "Hardware and software that runs happened on. Compare times within one stack only.")


class _Run(TypedColumns):
    id: Named[str] = Column(String(12), primary_key=True, comment="12 random hex digits.")
    trial_id: Named[str] = Column(String(16), ForeignKey("trials.id"), comment="What was run.")
    stack_id: Named[str | None] = Column(String(16), ForeignKey("stacks.id"), index=True, comment="What it ran on.")
    status: Named[str] = Column(comment="ok, failed, oom, diverged, timeout or interrupted.")
    reason: Named[str] = Column(comment="Why it did not end well, in one line; else empty.")
    traceback: Named[str] = Column(comment="Python's traceback of a failure; else empty.")
    started_at: Named[datetime] = Column(UtcText, comment="UTC, ISO 8601.")
    finished_at: Named[datetime] = Column(UtcText, comment="UTC, ISO 8601.")
    adapter_params: Named[int | None] = Column(BigInteger, comment="Trainable scalars outside the head.")
    head_params: Named[int | None] = Column(BigInteger, comment="Trainable scalars of the head.")
    trainable_params: Named[int | None] = Column(BigInteger, comment="adapter_params + head_params.")
    total_params: Named[int | None] = Column(BigInteger, comment="All scalars of the adapted model.")
    train_flops: Named[float | None] = Column(comment="Floating-point operations of training.")
    inference_flops_per_example: Named[float | None] = Column(comment="FLOPs of one test row's forward pass.")
    load_seconds: Named[float | None] = Column(comment="Loading the backbone and the data.")
    init_seconds: Named[float | None] = Column(comment="Initialising the adapter (SVD, QR, gradient).")
    train_seconds: Named[float | None] = Column(comment="Training steps only.")
    eval_seconds: Named[float | None] = Column(comment="All evaluations.")
    start_seconds: Named[float | None] = Column(comment="Making the start (warm-up), when it was first made.")
    step_seconds: Named[float | None] = Column(comment="Training seconds per optimizer step, alone.")
    step_seconds_spread: Named[float | None] = Column(comment="Its standard deviation, if it was repeated.")
    pack_trials: Named[int | None] = Column(comment="Most trials that shared its steps; NULL: it ran alone.")
    pack_seconds: Named[float | None] = Column(comment="Wall time in its pack.")
    pack_share_seconds: Named[float | None] = Column(comment="Its share of the pack's training time.")
    examples_per_second: Named[float | None] = Column(comment="Training rows per training second.")
    tokens_per_second: Named[float | None] = Column(comment="Training tokens, no padding, per training second.")
    padding_share: Named[float | None] = Column(comment="Share of padding among training positions, 0 to 1.")
    peak_memory_bytes: Named[int | None] = Column(BigInteger, comment="Peak of the device, or growth of the process.")
    adapter_bytes: Named[int | None] = Column(BigInteger, comment="Size of the adapter as a safetensors file.")
    perplexity_before: Named[float | None] = Column(comment="Perplexity of held-out text: the pretrained backbone.")
    perplexity_after: Named[float | None] = Column(
        comment="Perplexity of held-out text: the model after the last epoch."
    )
    origin: Named[str | None] = Column(comment="Who submitted it, as a bundle says; NULL: run into this database.")
    git_commit: Named[str | None] = Column(comment="Git commit of the harness.")
    git_dirty: Named[bool | None] = Column(comment="True if the working tree differed from the commit.")
    provenance: Named[dict[str, Any]] = Column(JSON, comment="JSON: what else is known of the run's making.")


RUNS = _table(
    "runs",
    _Run,
    "Executions of trials. Rows are appended, never edited. NULL: not measured, or not known.",
    _one_of("status", get_args(Status)),
    Index(None, "trial_id", "started_at"),
)


class _Lease(TypedColumns):
    trial_id: Named[str] = Column(String(16), ForeignKey("trials.id"), primary_key=True, comment="The trial.")
    owner: Named[str | None] = Column(String(64), comment="The driver: machine, process; NULL: nobody.")
    expires_at: Named[datetime | None] = Column(UtcText, comment="When others may take it, unless it is renewed.")


LEASES = _table("leases", _Lease, "Which driver is at work on which trial, so that no other one does it too.")


class _Score(TypedColumns):
    run_id: Named[str] = Column(String(12), ForeignKey("runs.id"), primary_key=True, comment="The run.")
    epoch: Named[int] = Column(primary_key=True, comment="Epochs trained; 0: before any training.")
    split: Named[str] = Column(primary_key=True, comment="select (cut from train) or a test split.")
    metric: Named[str] = Column(primary_key=True, comment="Name of the metric.")
    value: Named[float | None] = Column(comment="Its value; NULL if it was not finite.")


SCORES = _table("scores", _Score, "One metric on one split after one epoch of a run.", rowid=False)


class _Loss(TypedColumns):
    run_id: Named[str] = Column(String(12), ForeignKey("runs.id"), primary_key=True, comment="The run.")
    step: Named[int] = Column(primary_key=True, comment="Optimizer steps done.")
    loss: Named[float | None] = Column(comment="Mean loss since the point before; NULL if not finite.")


LOSSES = _table("losses", _Loss, "The training loss curve of a run.", rowid=False)


class _ExampleSet(TypedColumns):
    id: Named[str] = Column(String(16), primary_key=True, comment="16 hex digits: hash of the content.")
    task: Named[str] = Column(comment="Name of the task.")
    task_version: Named[int] = Column(comment="Its version.")
    split: Named[str] = Column(comment="The split that the rows are from.")
    ids: Named[bytes] = Column(comment="zlib-compressed JSON list of row ids.")
    labels: Named[bytes] = Column(comment="zlib-compressed JSON list of true labels, in the same order.")


EXAMPLE_SETS = _table(
    "example_sets", _ExampleSet, "Rows that predictions were made for, stored once and shared by runs."
)


class _Prediction(TypedColumns):
    run_id: Named[str] = Column(String(12), ForeignKey("runs.id"), primary_key=True, comment="The run.")
    split: Named[str] = Column(primary_key=True, comment="The split.")
    epoch: Named[int] = Column(primary_key=True, comment="Epochs trained.")
    example_set_id: Named[str] = Column(
        String(16), ForeignKey("example_sets.id"), index=True, comment="Ids and labels."
    )
    predicted: Named[bytes] = Column(comment="zlib-compressed JSON list of predictions, in the set's order.")


PREDICTIONS = _table("predictions", _Prediction, "Per-example predictions of a run.")
