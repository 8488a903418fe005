"""One row for each place of a trial in a suite: what it is, the run that stands for it, and what that run scored.

Plain tuples, from which both the frames of `harness.scoring` and the rows of the reports are made; pandas takes longer
to import than most reports take to read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from harness import schema
from harness.errors import unknown
from harness.garbage_collection import never_collected
from harness.protocols import PROTOCOLS, Scored
from harness.records import SELECT
from harness.rows import plain_rows
from harness.schema import RUNS, SCORES, SUITE_MEMBERS, TRIALS
from harness.store import Store

IDENTIFICATION: dict[str, sa.ColumnElement[Any]] = {
    "task": TRIALS.c.task,
    "task_title": schema.TASKS.c.title,
    "task_version": TRIALS.c.task_version,
    "method": TRIALS.c.method,
    "method_title": schema.METHODS.c.title,
    "control": schema.METHODS.c.control,
    "backbone": TRIALS.c.backbone,
    "backbone_revision": TRIALS.c.backbone_revision,
    "train_size": TRIALS.c.train_size,
    "start": TRIALS.c.start,
    "seed": TRIALS.c.seed,
    "parameters": sa.cast(TRIALS.c.parameters, sa.String),
    "recipe": sa.cast(TRIALS.c.recipe, sa.String),
}
LEFT_OUT = ("id", "trial_id", "traceback", "provenance")
RUN_COLUMNS = [column.name for column in RUNS.c if column.name not in LEFT_OUT]
FIRST_METRIC = schema.TASKS.c.metrics[0].as_string()
OF_TASK = sa.and_(schema.TASKS.c.name == TRIALS.c.task, schema.TASKS.c.version == TRIALS.c.task_version)
TIMES = ("started_at", "finished_at")

Types = dict[str, sa.types.TypeEngine[Any]]
"""Columns in order, with what kind of value they hold."""
Chosen = dict[str, Scored]
"""By protocol: the epoch that it chooses, if any."""


@dataclass(frozen=True)
class Table:
    """Rows under named columns. Times are text (ISO 8601, UTC), unknown values None."""

    types: Types
    rows: list[tuple[Any, ...]]


def result_rows(store: Store, suite: str | None = None) -> Table:
    """One row for each place of a trial in a suite (all suites, or one), in the suite's order.

    The row tells of the trial's latest ok run, or, if none is ok, of its latest run; without any run the columns
    from `run_id` on are None. Columns: identification, the columns of the table `runs` (counts, costs,
    status), and of ok runs `score_<protocol>` and `epoch_<protocol>` for each of `PROTOCOLS`, and
    `select_selected`, the chosen epoch's score on `select`, on the scale of `metric`. UserError for an unknown suite.
    """
    with store.reading() as connection, never_collected():
        placed = _placed(store, connection, suite)
        chosen = _chosen(connection, suite, placed)
    scored = {run_id: tuple(_derived(found)) for run_id, found in chosen.items()}
    run, unscored = list(placed.types).index("run_id"), (None,) * len(DERIVED)
    return Table(placed.types | DERIVED, [row + scored.get(row[run], unscored) for row in placed.rows])


def chosen_epochs(store: Store, suite: str | None = None) -> dict[str, Chosen]:
    """The epochs that count, by run id: of the ok runs that `result_rows` shows. UserError for an unknown suite."""
    with store.reading() as connection, never_collected():
        return _chosen(connection, suite, _placed(store, connection, suite))


def runs_of(suite: str) -> sa.Select[Any]:
    """The ids of all runs of a suite's trials."""
    return sa.select(RUNS.c.id).where(RUNS.c.trial_id.in_(_trials_of(suite)))


def read(connection: sa.Connection, query: sa.Select) -> Table:
    """The rows of a query, where yes and no are bools."""
    types: Types = {column.name: column.type for column in query.selected_columns}
    rows = plain_rows(connection, query)
    for place in [place for place, kind in enumerate(types.values()) if isinstance(kind, sa.Boolean)]:
        rows = [row if row[place] is None else (*row[:place], bool(row[place]), *row[place + 1 :]) for row in rows]
    return Table(types, rows)


DERIVED: Types = {
    "score_last": sa.Double(),
    "epoch_last": sa.Integer(),
    "score_selected": sa.Double(),
    "epoch_selected": sa.Integer(),
    "select_selected": sa.Double(),
    "score_optimistic": sa.Double(),
    "epoch_optimistic": sa.Integer(),
}
"""The columns that are computed: what of the epoch that a protocol chooses."""
_ASKED = [column.split("_") for column in DERIVED]


def _derived(chosen: Chosen) -> Iterator[float | int | None]:
    """Values of the columns `DERIVED`."""
    for quantity, protocol in _ASKED:
        point = chosen.get(protocol)
        yield point and getattr(point, quantity)


def _placed(store: Store, connection: sa.Connection, suite: str | None) -> Table:
    """Places, trials and runs, each table read once and joined here: one wide query would sort and carry every column
    for every place."""
    names = connection.scalars(sa.select(schema.SUITES.c.name)).all()
    if suite is not None and suite not in names:
        raise unknown("suite", suite, names, store.database.where)
    member = SUITE_MEMBERS.c
    columns = (member.suite, member.grid, member.label, member.position, member.trial_id)
    of_places = sa.select(*columns).order_by(member.suite, member.position, member.trial_id)
    places = read(connection, of_places if suite is None else of_places.where(member.suite == suite))
    trials, runs = _trials(connection, suite), _shown_runs(connection, suite)
    of_trial = {row[0]: row[1:] for row in trials.rows}
    of_run = {row[0]: row[1:] for row in runs.rows}
    without = (None,) * (len(runs.types) - 1)
    known = (row for row in places.rows if row[-1] in of_trial)  # all of them, but in a damaged file
    rows = [row + of_trial[row[-1]] + of_run.get(row[-1], without) for row in known]
    return Table(places.types | trials.types | runs.types, rows)


def _trials(connection: sa.Connection, suite: str | None) -> Table:
    """The trials' ids, and what identifies them."""
    columns = [column.label(name) for name, column in IDENTIFICATION.items()]
    query = (
        sa.select(TRIALS.c.id.label("trial_id"), *columns, FIRST_METRIC.label("metric"))
        .join(schema.METHODS, schema.METHODS.c.name == TRIALS.c.method)
        .join(schema.TASKS, OF_TASK)
    )
    return read(connection, query if suite is None else query.where(TRIALS.c.id.in_(_trials_of(suite))))


def _shown_runs(connection: sa.Connection, suite: str | None) -> Table:
    """Each trial's latest ok run, or its latest run if none is ok: trial_id, run_id, RUN_COLUMNS."""
    columns = [_as_stored(name) for name in RUN_COLUMNS]
    query = sa.select(RUNS.c.trial_id, RUNS.c.id.label("run_id"), *columns).order_by(RUNS.c.started_at, RUNS.c.id)
    runs = read(connection, query if suite is None else query.where(RUNS.c.trial_id.in_(_trials_of(suite))))
    status, *times = (list(runs.types).index(name) for name in ("status", *TIMES))
    for row in runs.rows:  # what is no time is told as an error of the database
        for place in times:
            datetime.fromisoformat(row[place])
    latest = {row[0]: row for row in runs.rows}
    latest_ok = {row[0]: row for row in runs.rows if row[status] == "ok"}
    return Table(runs.types, list((latest | latest_ok).values()))


def _as_stored(name: str) -> sa.ColumnElement[Any]:
    """A column of the table `runs`; times as the text that they are stored as."""
    column: sa.ColumnElement[Any] = RUNS.c[name]
    return sa.type_coerce(column, sa.String).label(name) if name in TIMES else column


def _chosen(connection: sa.Connection, suite: str | None, placed: Table) -> dict[str, Chosen]:
    """By run id, for the ok runs that are placed."""
    courses = _courses(connection, suite, _kinds(connection, placed))
    found: dict[str, Chosen] = {}
    for run_id, course in courses.items():
        trained = [point for point in course if point.epoch > 0]
        points = {protocol: choose(trained or course) for protocol, choose in PROTOCOLS.items()}
        found[run_id] = {protocol: point for protocol, point in points.items() if point is not None}
    return found


@dataclass(frozen=True)
class _Kind:
    """What a score of a task is made of."""

    metric: str
    tests: tuple[str, ...]


def _kinds(connection: sa.Connection, placed: Table) -> dict[str, _Kind]:
    """By run id, for the ok runs that are placed."""
    task = schema.TASKS.c
    tasks = connection.execute(sa.select(task.name, task.version, task.metrics, task.tests))
    kinds = {(row.name, row.version): _Kind(row.metrics[0], tuple(row.tests)) for row in tasks}
    run, status, name, version = (list(placed.types).index(n) for n in ("run_id", "status", "task", "task_version"))
    return {row[run]: kinds[row[name], row[version]] for row in placed.rows if row[status] == "ok"}


def _courses(connection: sa.Connection, suite: str | None, kinds: Mapping[str, _Kind]) -> Mapping[str, list[Scored]]:
    """The epochs in which all test splits of a run's task were scored, by run id."""
    # One pass over the scores in the order of their key: what each kind of task would make of them, side by side.
    columns: list[Any] = [SCORES.c.run_id, SCORES.c.epoch]
    place: dict[_Kind, int] = {}
    for kind in dict.fromkeys(kinds.values()):
        place[kind] = len(columns)
        on_tests = sa.and_(SCORES.c.metric == kind.metric, SCORES.c.split.in_(kind.tests))
        on_select = sa.and_(SCORES.c.metric == kind.metric, SCORES.c.split == SELECT)
        columns += [
            sa.func.avg(sa.case((on_tests, SCORES.c.value))).label(f"score{len(place)}"),
            sa.func.count(sa.case((on_tests, SCORES.c.value))).label(f"found{len(place)}"),
            sa.func.max(sa.case((on_select, SCORES.c.value))).label(f"select{len(place)}"),
        ]
    query = sa.select(*columns).group_by(SCORES.c.run_id, SCORES.c.epoch).order_by(SCORES.c.run_id, SCORES.c.epoch)
    wanted = {run_id: (place[kind], len(kind.tests)) for run_id, kind in kinds.items()}
    courses: dict[str, list[Scored]] = defaultdict(list)
    for row in read(connection, query if suite is None else query.where(SCORES.c.run_id.in_(runs_of(suite)))).rows:
        if (of_run := wanted.get(row[0])) is None:
            continue
        first, tests = of_run
        score, found, select = row[first : first + 3]
        if found == tests:
            courses[row[0]].append(Scored(row[1], score, select))
    return courses


def _trials_of(suite: str) -> sa.Select[Any]:
    return sa.select(SUITE_MEMBERS.c.trial_id).where(SUITE_MEMBERS.c.suite == suite)
