"""The tables of the leaderboard database, as typed models. `docs/schema.md` is rendered from them.

Types are portable: the same tables on SQLite and PostgreSQL. Unknown is NULL, never a sentinel; no NaN or infinity is
stored. Times are UTC, ISO 8601 with microseconds, so that they sort as text.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, get_args

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from harness.records import Status

SCHEMA_VERSION = 4
"""Number of the newest file in `migrations/versions`: a change of the models needs a new file and a new number."""

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


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON, datetime: UtcText, float: Double}


Big = Annotated[int, mapped_column(BigInteger)]


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)


def _options(comment: str) -> dict[str, Any]:
    """Options of a wide-key table: rows lie in key order, without a second copy of the key (SQLite)."""
    return {"comment": comment, "sqlite_with_rowid": False}


class Method(Base):
    __tablename__ = "methods"
    __table_args__ = {"comment": "Methods as their plugins described themselves, last description kept."}

    name: Mapped[str] = mapped_column(primary_key=True, comment="Name of the plugin: lora_xs.")
    title: Mapped[str] = mapped_column(comment="Name as printed: LoRA-XS.")
    paper: Mapped[str] = mapped_column(comment="Citation; empty if there is none.")
    formula: Mapped[str] = mapped_column(comment="The adapted weight in one line.")
    summary: Mapped[str] = mapped_column(comment="First paragraph of the plugin's docstring.")
    control: Mapped[bool] = mapped_column(comment="True for a row that is only there to be compared with.")


class Task(Base):
    __tablename__ = "tasks"
    __table_args__ = (
        _one_of("kind", ("classification", "regression", "generation")),
        {"comment": "Tasks by name and version; a change of meaning is a new version."},
    )

    name: Mapped[str] = mapped_column(primary_key=True, comment="Name of the plugin: mrpc.")
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, comment="Version of its meaning.")
    title: Mapped[str] = mapped_column(comment="Name as printed: MRPC.")
    kind: Mapped[str] = mapped_column(comment="classification, regression or generation.")
    metrics: Mapped[list[str]] = mapped_column(comment="JSON list of metrics, more is better; the first one ranks.")
    tests: Mapped[list[str]] = mapped_column(comment="JSON list of test splits; the score is the mean over them.")
    source: Mapped[str] = mapped_column(comment="Where the data come from.")


class Backbone(Base):
    __tablename__ = "backbones"
    __table_args__ = {"comment": "Pretrained models that trials start from."}

    name: Mapped[str] = mapped_column(primary_key=True, comment="Hub id, or name of a local folder.")
    revision: Mapped[str] = mapped_column(primary_key=True, comment="Hub commit, or sha256: and 16 digits if local.")
    weights_sha256: Mapped[str | None] = mapped_column(comment="Hash of the weights, from the first run that told it.")


class Trial(Base):
    __tablename__ = "trials"
    __table_args__ = (
        ForeignKeyConstraint(["backbone", "backbone_revision"], ["backbones.name", "backbones.revision"]),
        ForeignKeyConstraint(["task", "task_version"], ["tasks.name", "tasks.version"]),
        {"comment": "Points of the grids: what was to be run. A trial may have many runs, or none yet."},
    )

    id: Mapped[str] = mapped_column(String(16), primary_key=True, comment="16 hex digits: hash of canonical.")
    backbone: Mapped[str] = mapped_column(comment="Name of the backbone.")
    backbone_revision: Mapped[str] = mapped_column(comment="Its revision.")
    task: Mapped[str] = mapped_column(comment="Name of the task.")
    task_version: Mapped[int] = mapped_column(comment="Its version.")
    method: Mapped[str] = mapped_column(ForeignKey("methods.name"), comment="Name of the method.")
    parameters: Mapped[dict[str, Any]] = mapped_column(comment="JSON: the method's complete configuration.")
    recipe: Mapped[dict[str, Any]] = mapped_column(comment="JSON: how it is trained.")
    train_size: Mapped[int] = mapped_column(comment="Training rows asked for; 0 means all that the task has.")
    start: Mapped[str] = mapped_column(comment="Where training starts: pretrained, or warmup(...).")
    seed: Mapped[int] = mapped_column(BigInteger, comment="Seed of the trial's random streams.")
    canonical: Mapped[str] = mapped_column(comment="Canonical JSON of the whole trial.")


class Suite(Base):
    __tablename__ = "suites"
    __table_args__ = (
        _one_of("rank_by", RANK_BY),
        {"comment": "Suites as they were last planned."},
    )

    name: Mapped[str] = mapped_column(primary_key=True, comment="Name, with overrides in brackets if there were any.")
    title: Mapped[str] = mapped_column(comment="Name as printed.")
    description: Mapped[str] = mapped_column(comment="What the suite is for.")
    rank_by: Mapped[str] = mapped_column(comment="Epoch that the board shows: last, selected or optimistic.")


class SuiteMember(Base):
    __tablename__ = "suite_members"
    __table_args__ = _options("Which trials make up a suite; a trial may be in many.")

    suite: Mapped[str] = mapped_column(ForeignKey("suites.name"), primary_key=True, comment="Name of the suite.")
    grid: Mapped[str] = mapped_column(primary_key=True, comment="Grid inside the suite: main, train-size.")
    label: Mapped[str] = mapped_column(primary_key=True, comment="Name of the table row that the trial belongs to.")
    trial_id: Mapped[str] = mapped_column(ForeignKey("trials.id"), primary_key=True, index=True, comment="The trial.")
    position: Mapped[int] = mapped_column(comment="Order in which the suite names its trials, from 0.")


class Stack(Base):
    __tablename__ = "stacks"
    __table_args__ = {"comment": "Hardware and software that runs happened on. Compare times within one stack only."}

    id: Mapped[str] = mapped_column(String(16), primary_key=True, comment="16 hex digits: hash of details.")
    details: Mapped[dict[str, Any]] = mapped_column(comment="JSON: device, processor, versions.")


class Run(Base):
    __tablename__ = "runs"
    __table_args__ = (
        _one_of("status", get_args(Status)),
        Index(None, "trial_id", "started_at"),
        {"comment": "Executions of trials. Rows are appended, never edited. NULL: not measured, or not known."},
    )

    id: Mapped[str] = mapped_column(String(12), primary_key=True, comment="12 random hex digits.")
    trial_id: Mapped[str] = mapped_column(ForeignKey("trials.id"), comment="What was run.")
    stack_id: Mapped[str | None] = mapped_column(ForeignKey("stacks.id"), index=True, comment="What it ran on.")
    status: Mapped[str] = mapped_column(comment="ok, failed, oom, diverged, timeout or interrupted.")
    reason: Mapped[str] = mapped_column(comment="Why it did not end well, in one line; else empty.")
    traceback: Mapped[str] = mapped_column(comment="Python's traceback of a failure; else empty.")
    started_at: Mapped[datetime] = mapped_column(comment="UTC, ISO 8601.")
    finished_at: Mapped[datetime] = mapped_column(comment="UTC, ISO 8601.")
    adapter_params: Mapped[Big | None] = mapped_column(comment="Trainable scalars outside the head.")
    head_params: Mapped[Big | None] = mapped_column(comment="Trainable scalars of the head.")
    trainable_params: Mapped[Big | None] = mapped_column(comment="adapter_params + head_params.")
    total_params: Mapped[Big | None] = mapped_column(comment="All scalars of the adapted model.")
    train_flops: Mapped[float | None] = mapped_column(comment="Floating-point operations of training.")
    inference_flops_per_example: Mapped[float | None] = mapped_column(comment="FLOPs of one test row's forward pass.")
    load_seconds: Mapped[float | None] = mapped_column(comment="Loading the backbone and the data.")
    init_seconds: Mapped[float | None] = mapped_column(comment="Initialising the adapter (SVD, QR, gradient).")
    train_seconds: Mapped[float | None] = mapped_column(comment="Training steps only.")
    eval_seconds: Mapped[float | None] = mapped_column(comment="All evaluations.")
    start_seconds: Mapped[float | None] = mapped_column(comment="Making the start (warm-up), when it was first made.")
    step_seconds: Mapped[float | None] = mapped_column(comment="Training seconds per optimizer step, alone.")
    step_seconds_spread: Mapped[float | None] = mapped_column(comment="Its standard deviation, if it was repeated.")
    pack_trials: Mapped[int | None] = mapped_column(comment="Most trials that shared its steps; NULL: it ran alone.")
    pack_seconds: Mapped[float | None] = mapped_column(comment="Wall time in its pack.")
    pack_share_seconds: Mapped[float | None] = mapped_column(comment="Its share of the pack's training time.")
    examples_per_second: Mapped[float | None] = mapped_column(comment="Training rows per training second.")
    tokens_per_second: Mapped[float | None] = mapped_column(comment="Training tokens, no padding, per training second.")
    padding_share: Mapped[float | None] = mapped_column(comment="Share of padding among training positions, 0 to 1.")
    peak_memory_bytes: Mapped[Big | None] = mapped_column(comment="Peak of the device, or growth of the process.")
    adapter_bytes: Mapped[Big | None] = mapped_column(comment="Size of the adapter as a safetensors file.")
    perplexity_before: Mapped[float | None] = mapped_column(
        comment="Perplexity of held-out text: the pretrained backbone."
    )
    perplexity_after: Mapped[float | None] = mapped_column(
        comment="Perplexity of held-out text: the model after the last epoch."
    )
    origin: Mapped[str | None] = mapped_column(
        comment="Who submitted it, as a bundle says; NULL: run into this database."
    )
    git_commit: Mapped[str | None] = mapped_column(comment="Git commit of the harness.")
    git_dirty: Mapped[bool | None] = mapped_column(comment="True if the working tree differed from the commit.")
    provenance: Mapped[dict[str, Any]] = mapped_column(comment="JSON: what else is known of the run's making.")


class Lease(Base):
    __tablename__ = "leases"
    __table_args__ = {"comment": "Which driver is at work on which trial, so that no other one does it too."}

    trial_id: Mapped[str] = mapped_column(ForeignKey("trials.id"), primary_key=True, comment="The trial.")
    owner: Mapped[str | None] = mapped_column(String(64), comment="The driver: machine, process; NULL: nobody.")
    expires_at: Mapped[datetime | None] = mapped_column(comment="When others may take it, unless it is renewed.")


class Score(Base):
    __tablename__ = "scores"
    __table_args__ = _options("One metric on one split after one epoch of a run.")

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True, comment="The run.")
    epoch: Mapped[int] = mapped_column(primary_key=True, comment="Epochs trained; 0: before any training.")
    split: Mapped[str] = mapped_column(primary_key=True, comment="select (cut from train) or a test split.")
    metric: Mapped[str] = mapped_column(primary_key=True, comment="Name of the metric.")
    value: Mapped[float | None] = mapped_column(comment="Its value; NULL if it was not finite.")


class Loss(Base):
    __tablename__ = "losses"
    __table_args__ = _options("The training loss curve of a run.")

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True, comment="The run.")
    step: Mapped[int] = mapped_column(primary_key=True, comment="Optimizer steps done.")
    loss: Mapped[float | None] = mapped_column(comment="Mean loss since the point before; NULL if not finite.")


class ExampleSet(Base):
    __tablename__ = "example_sets"
    __table_args__ = {"comment": "Rows that predictions were made for, stored once and shared by runs."}

    id: Mapped[str] = mapped_column(String(16), primary_key=True, comment="16 hex digits: hash of the content.")
    task: Mapped[str] = mapped_column(comment="Name of the task.")
    task_version: Mapped[int] = mapped_column(comment="Its version.")
    split: Mapped[str] = mapped_column(comment="The split that the rows are from.")
    ids: Mapped[bytes] = mapped_column(comment="zlib-compressed JSON list of row ids.")
    labels: Mapped[bytes] = mapped_column(comment="zlib-compressed JSON list of true labels, in the same order.")


class Prediction(Base):
    __tablename__ = "predictions"
    __table_args__ = {"comment": "Per-example predictions of a run."}

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True, comment="The run.")
    split: Mapped[str] = mapped_column(primary_key=True, comment="The split.")
    epoch: Mapped[int] = mapped_column(primary_key=True, comment="Epochs trained.")
    example_set_id: Mapped[str] = mapped_column(ForeignKey("example_sets.id"), index=True, comment="Ids and labels.")
    predicted: Mapped[bytes] = mapped_column(comment="zlib-compressed JSON list of predictions, in the set's order.")
