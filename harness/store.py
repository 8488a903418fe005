"""The leaderboard database: what was planned, what was run, what came out. Runs are appended, never edited.

    with open_store("leaderboard.db") as store:
        store.describe(method_infos, task_infos)
        store.set_suite(suite_info)
        run_id = store.add_run(record)

Everything can also be read with plain SQL; `docs/schema.md` explains the tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import sqlalchemy as sa

from harness import rows, schema
from harness.database import Database
from harness.errors import UserError
from harness.records import (
    Costs,
    Forgetting,
    MethodInfo,
    ParameterCounts,
    Predictions,
    RunRecord,
    Score,
    SuiteInfo,
    TaskInfo,
)
from harness.schema import RUNS, SCHEMA_VERSION, SUITE_MEMBERS, TRIALS
from harness.trial import trial_from_json


@dataclass(frozen=True)
class RunDetails:
    """A stored run. `record.predictions` is empty: read them with `Store.predictions`."""

    id: str
    record: RunRecord
    stack: str | None
    """Fingerprint of the hardware and software it ran on."""
    members: tuple[tuple[str, str, str], ...]
    """(suite, grid, label) of each place where its trial stands."""
    origin: str | None = None
    """Who submitted it; None if it was run into this database."""


@dataclass(frozen=True)
class SuiteSummary:
    """A stored suite without its members."""

    name: str
    title: str
    description: str
    rank_by: str
    trials: int
    """Distinct trials among its members."""


def open_store(url: str, create: bool = True) -> Store:
    """The store at a path ("leaderboard.db") or SQLAlchemy URL.

    With `create` a missing database is made and an older schema is brought up to date; else both are errors.
    Opening an existing, current database changes nothing, and neither does reading; only the first write does.
    Raises UserError for a database that is missing, foreign, damaged, newer than this code, or not accessible.
    """
    database = Database(url)
    if (path := database.path) is not None:
        if path.is_dir():
            raise UserError(f"{database.where} is a folder; name a file, such as {path / 'leaderboard.db'}.")
        if not path.parent.is_dir():
            raise UserError(f"the folder of {database.where} does not exist; create it or name another file with --db.")
        if not path.exists() and not create:
            raise UserError(f"there is no database {database.where}; `python -m harness run --all` makes one.")
    fresh = path is not None and not path.exists()
    version = None if fresh else database.version()
    if version is not None and version > SCHEMA_VERSION:
        raise UserError(
            f"{database.where} was written by a newer harness (schema {version}, this one knows {SCHEMA_VERSION}); "
            "update the harness."
        )
    if version is None or version < SCHEMA_VERSION:
        if not create and version is None:
            raise UserError(f"{database.where} holds no results yet; `python -m harness run --all` makes some.")
        if not create:
            raise UserError(f"{database.where} has the older schema {version}; any `python -m harness run` updates it.")
        database.migrate()
    return Store(database)


class Store:
    """An open database. Each call is one transaction; every database error that a user can mend is a UserError."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.database.close()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A read-only connection, for `pandas.read_sql` and queries of one's own."""
        with self.database.reading() as connection:
            yield connection

    # ------------------------------------------------------------------------------------- writing

    def check_writable(self) -> None:
        """Raise UserError unless a write transaction can begin; to be called before any training."""
        with self.database.writing():
            pass

    def describe(self, methods: Iterable[MethodInfo], tasks: Iterable[TaskInfo]) -> None:
        """Keep what plugins say of themselves; trials may only name methods and tasks that are described."""
        with self.database.writing() as connection:
            rows.upsert(connection, schema.METHODS, [dataclasses.asdict(info) for info in methods])
            described = [
                {**dataclasses.asdict(info), "metrics": list(info.metrics), "tests": list(info.tests)} for info in tasks
            ]
            rows.upsert(connection, schema.TASKS, described)

    def set_suite(self, suite: SuiteInfo) -> None:
        """Record a suite as planned, with its trials. Members of earlier plans stay (a plan may be filtered).

        A cell of a suite (grid, label, backbone, task, train size, start) holds what was planned for it last, under
        as many seeds as have ever been: when the suite's recipe has changed, the old trials leave, those of seeds
        that this plan has not among them. Under a whole plan cells that it lacks leave too, but for those of rows that
        it does not know: guests, and rows that a search has tuned. Runs are kept, outside the suite.
        """
        with self.database.writing() as connection:
            head = {name: getattr(suite, name) for name in ("name", "title", "description", "rank_by")}
            rows.upsert(connection, schema.SUITES, [head])
            rows.insert_trials(connection, (member.trial for member in suite.members))
            rows.insert_members(connection, suite)

    def add_run(self, record: RunRecord, lease_of: str = "") -> str:
        """Append one run, whole or not at all. Returns its id, 12 hexadecimal digits.

        lease_of: the driver (`harness.leases`) whose lease of the trial ends in the same moment.
        Its method and task must have been described. A run that calls itself ok and has a score or loss that
        is not finite is stored as diverged, with NULL for the number.
        """
        with self.database.writing() as connection:
            rows.insert_trials(connection, [record.trial])
            rows.set_weights_hash(connection, record)
            mine = (schema.LEASES.c.owner == lease_of, schema.LEASES.c.trial_id == record.trial.id)
            connection.execute(sa.delete(schema.LEASES).where(*mine))
            return rows.insert_run(connection, record)

    # ------------------------------------------------------------------------------------- reading

    def finished(self, trial_ids: Iterable[str]) -> set[str]:
        """Those of the trials that have a run with status ok."""
        with self.reading() as connection:
            done = set(connection.scalars(sa.select(RUNS.c.trial_id).where(RUNS.c.status == "ok").distinct()))
        return done & set(trial_ids)

    def latest_status(self, trial_ids: Iterable[str]) -> dict[str, str]:
        """Status of each trial's latest run; trials without runs are left out."""
        with self.reading() as connection:
            query = sa.select(RUNS.c.trial_id, RUNS.c.status).order_by(RUNS.c.started_at, RUNS.c.id)
            latest = {row.trial_id: row.status for row in connection.execute(query)}
        return {trial_id: latest[trial_id] for trial_id in trial_ids if trial_id in latest}

    def suites(self, name: str | None = None) -> list[SuiteSummary]:
        """All suites by name, or one."""
        with self.reading() as connection:
            count = (
                sa.select(sa.func.count(sa.distinct(SUITE_MEMBERS.c.trial_id)))
                .where(SUITE_MEMBERS.c.suite == schema.SUITES.c.name)
                .scalar_subquery()
            )
            query = sa.select(schema.SUITES, count.label("trials")).order_by(schema.SUITES.c.name)
            query = query if name is None else query.where(schema.SUITES.c.name == name)
            return [SuiteSummary(**row._asdict()) for row in connection.execute(query)]

    def methods(self) -> list[MethodInfo]:
        """All described methods by name."""
        with self.reading() as connection:
            query = sa.select(schema.METHODS).order_by(schema.METHODS.c.name)
            return [MethodInfo(**row._asdict()) for row in connection.execute(query)]

    def tasks(self) -> list[TaskInfo]:
        """All described tasks by name and version."""
        with self.reading() as connection:
            query = sa.select(schema.TASKS).order_by(schema.TASKS.c.name, schema.TASKS.c.version)
            found = [row._asdict() for row in connection.execute(query)]
        return [TaskInfo(**{**row, "metrics": tuple(row["metrics"]), "tests": tuple(row["tests"])}) for row in found]

    def run(self, prefix: str) -> RunDetails:
        """The run whose id begins with `prefix`. UserError if there is none, or more than one."""
        with self.reading() as connection:
            run_id = self._resolve(connection, prefix)
            query = (
                sa.select(RUNS, TRIALS.c.canonical, schema.STACKS.c.details)
                .join(TRIALS, TRIALS.c.id == RUNS.c.trial_id)
                .join(schema.STACKS, schema.STACKS.c.id == RUNS.c.stack_id, isouter=True)
                .where(RUNS.c.id == run_id)
            )
            row = connection.execute(query).one()._asdict()
            members = connection.execute(
                sa.select(SUITE_MEMBERS.c.suite, SUITE_MEMBERS.c.grid, SUITE_MEMBERS.c.label)
                .where(SUITE_MEMBERS.c.trial_id == row["trial_id"])
                .order_by(SUITE_MEMBERS.c.suite, SUITE_MEMBERS.c.grid, SUITE_MEMBERS.c.label)
            )
            record = _record(row, _scores(connection, run_id), _losses(connection, run_id))
            return RunDetails(
                run_id, record, row["stack_id"], tuple((m.suite, m.grid, m.label) for m in members), row["origin"]
            )

    def curve(self, run_id: str) -> list[tuple[int, float]]:
        """The training loss curve: (optimizer steps done, mean loss since the point before; NaN if not finite)."""
        with self.reading() as connection:
            return _losses(connection, self._resolve(connection, run_id))

    def predictions(self, run_id: str, split: str, epoch: int | None = None) -> Predictions:
        """Per-example predictions of a run on one split, by default after the last epoch that has any."""
        kept, examples = schema.PREDICTIONS.c, schema.EXAMPLE_SETS.c
        with self.reading() as connection:
            run_id = self._resolve(connection, run_id)
            query = (
                sa.select(kept.split, kept.epoch, kept.predicted, examples.ids, examples.labels)
                .join(schema.EXAMPLE_SETS, examples.id == kept.example_set_id)
                .where(kept.run_id == run_id)
                .order_by(kept.epoch.desc())
            )
            found = connection.execute(query).all()
        for row in found:
            if row.split == split and epoch in (None, row.epoch):
                ids, labels, values = (rows.unpack(packed) for packed in (row.ids, row.labels, row.predicted))
                return Predictions(split, row.epoch, ids, labels, values)
        places = ", ".join(sorted(f"{row.split} after epoch {row.epoch}" for row in found)) or "none"
        wanted = split if epoch is None else f"{split} after epoch {epoch}"
        raise UserError(f"run {run_id} has no predictions for {wanted}; it has: {places}.")

    def _resolve(self, connection: sa.Connection, prefix: str) -> str:
        query = sa.select(RUNS.c.id).where(RUNS.c.id.startswith(prefix, autoescape=True)).order_by(RUNS.c.id)
        found = list(connection.scalars(query.limit(9)))
        if len(found) == 1:
            return found[0]
        if not found:
            raise UserError(f"no run in {self.database.where} has an id that begins with '{prefix}'.")
        listed = ", ".join(found[:8]) + (", ..." if len(found) > 8 else "")
        raise UserError(f"more than one run id begins with '{prefix}': {listed}. Give more digits.")


def _scores(connection: sa.Connection, run_id: str) -> list[Score]:
    score = schema.SCORES.c
    query = sa.select(score.epoch, score.split, score.metric, score.value).where(score.run_id == run_id)
    ordered = query.order_by(score.epoch, score.split, score.metric)
    return [Score(row.epoch, row.split, row.metric, rows.or_nan(row.value)) for row in connection.execute(ordered)]


def _losses(connection: sa.Connection, run_id: str) -> list[tuple[int, float]]:
    point = schema.LOSSES.c
    query = sa.select(point.step, point.loss).where(point.run_id == run_id).order_by(point.step)
    return [(row.step, rows.or_nan(row.loss)) for row in connection.execute(query)]


def _record(row: dict[str, Any], scores: list[Score], losses: list[tuple[int, float]]) -> RunRecord:
    """The record that `rows.insert_run` took apart, but for the predictions."""
    counts = [row[f"{name}_params"] for name in ("adapter", "head", "total")]
    stack = {} if row["details"] is None else {"stack": row["details"]}
    return RunRecord(
        trial=trial_from_json(row["canonical"]),
        status=row["status"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        reason=row["reason"],
        traceback=row["traceback"],
        parameters=None if None in counts else ParameterCounts(*counts),
        costs=Costs(**{field.name: row[field.name] for field in dataclasses.fields(Costs)}),
        forgetting=Forgetting(row["perplexity_before"], row["perplexity_after"]),
        scores=scores,
        losses=losses,
        provenance={**row["provenance"], **stack},
    )
