"""Derived scores as data frames: which epoch counts, and what a trial scored there.

Every metric is a number of which more is better. The *score* of a run after an epoch is the task's first
metric, averaged over the task's test splits; it exists only if all of them were scored. Epoch 0 is the model
before any training: it counts only for a run that has no other epoch (a control that does not train), and
then all protocols give it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import sqlalchemy as sa

from harness import schema
from harness.errors import unknown
from harness.records import SELECT
from harness.schema import Run, Score, SuiteMember, Trial
from harness.store import Store

Frame = pd.DataFrame

IDENTIFICATION = {
    "task": Trial.task,
    "task_title": schema.Task.title,
    "task_version": Trial.task_version,
    "method": Trial.method,
    "method_title": schema.Method.title,
    "control": schema.Method.control,
    "backbone": Trial.backbone,
    "backbone_revision": Trial.backbone_revision,
    "train_size": Trial.train_size,
    "start": Trial.start,
    "seed": Trial.seed,
    "parameters": sa.cast(Trial.parameters, sa.String),
    "recipe": sa.cast(Trial.recipe, sa.String),
}
LEFT_OUT = ("id", "trial_id", "traceback", "provenance")
RUN_COLUMNS = [column.name for column in sa.inspect(Run).columns if column.name not in LEFT_OUT]
DTYPES = {sa.Integer: "Int64", sa.Double: "float64", sa.Boolean: "boolean"}
"""pandas types that can say "unknown", by column type; without them a column of NULLs would be objects."""
FIRST_METRIC = schema.Task.metrics[0].as_string()
OF_TASK = sa.and_(schema.Task.name == Trial.task, schema.Task.version == Trial.task_version)
KEY = ["run_id", "epoch"]
TIMES = ("started_at", "finished_at")


def last_epoch(scored: Frame) -> Frame:
    """Last: the score after the last epoch. Nothing is chosen, so nothing can be chosen to please."""
    return scored.loc[scored.groupby("run_id")["epoch"].idxmax()]


def selected_epoch(scored: Frame) -> Frame:
    """Selected: the score after the epoch whose first metric is best on `select`, a split cut from train.

    Of equally good epochs the earliest counts. The test sets have no say. A run of a single epoch has
    no choice to make; a run of several that were not scored on `select` has no selected score.
    """
    runs = scored.groupby("run_id")["epoch"].transform("size")
    single, choosable = scored[runs == 1], scored[(runs > 1) & scored["select"].notna()]
    best = choosable.sort_values(["select", "epoch"], ascending=[False, True], kind="stable")
    return pd.concat([single, best.drop_duplicates("run_id")])


def optimistic_epoch(scored: Frame) -> Frame:
    """Optimistic: the score after the epoch that is best on the test sets themselves, the earliest of equals.

    Many papers print this number. It is too high: the test sets chose the epoch that they judge.
    """
    best = scored.sort_values(["score", "epoch"], ascending=[False, True], kind="stable")
    return best.drop_duplicates("run_id")


PROTOCOLS: dict[str, Callable[[Frame], Frame]] = {
    "last": last_epoch,
    "selected": selected_epoch,
    "optimistic": optimistic_epoch,
}
"""Which epoch's score a table may show. Each docstring is the definition that the site prints.

Each takes a frame of run_id, epoch, score (mean over the test splits) and select (first metric on `select`),
and returns its chosen rows, at most one for each run.
"""


def results(store: Store, suite: str | None = None) -> Frame:
    """One row for each place of a trial in a suite (all suites, or one), in the suite's order.

    The row tells of the trial's latest ok run, or, if none is ok, of its latest run; without any run the columns
    from `run_id` on are empty. Columns: identification, the columns of the table `runs` (counts, costs,
    status), and of ok runs `score_<protocol>` and `epoch_<protocol>` for each of `PROTOCOLS`, and
    `select_selected`, the chosen epoch's score on `select`, on the scale of `metric`. UserError for an unknown suite.
    """
    with store.reading() as connection:
        _check_suite(store, connection, suite)
        placed = _members(connection, suite)
        chosen = _chosen_epochs(connection, suite, placed)
    for protocol in PROTOCOLS:
        of_run = chosen[chosen["protocol"] == protocol].set_index("run_id")
        placed[f"score_{protocol}"] = placed["run_id"].map(of_run["score"]).astype("float64")
        placed[f"epoch_{protocol}"] = placed["run_id"].map(of_run["epoch"]).astype("float64").astype("Int64")
        if protocol == "selected":
            placed["select_selected"] = placed["run_id"].map(of_run["select"]).astype("float64")
    return placed


def scores(store: Store, suite: str | None = None) -> Frame:
    """Long form, every metric: run_id, protocol, epoch, split, metric, value, for the ok runs that `results` shows.

    `epoch` is the one that the protocol chose by the task's first metric; the other metrics are read at that
    epoch too. UserError for an unknown suite.
    """
    with store.reading() as connection:
        _check_suite(store, connection, suite)
        chosen = _chosen_epochs(connection, suite, _members(connection, suite))
        stored = sa.select(*Score.__table__.columns)
        scored = _frame(connection, stored if suite is None else stored.where(Score.run_id.in_(_runs_of(suite))))
    long = chosen[["run_id", "protocol", "epoch"]].merge(scored, on=KEY)
    order = long["protocol"].map({protocol: index for index, protocol in enumerate(PROTOCOLS)})
    return (
        long.assign(order=order)
        .sort_values(["run_id", "order", "split", "metric"], ignore_index=True)
        .drop(columns="order")
    )


def _chosen_epochs(connection: sa.Connection, suite: str | None, placed: Frame) -> Frame:
    """run_id, protocol, epoch, score, select: the epoch that each protocol chooses, and its score on `select`."""
    by_epoch = _by_epoch(connection, suite, placed)
    parts = [choose(by_epoch).assign(protocol=protocol) for protocol, choose in PROTOCOLS.items()]
    return pd.concat(parts)[["run_id", "protocol", "epoch", "score", "select"]]


def _by_epoch(connection: sa.Connection, suite: str | None, placed: Frame) -> Frame:
    """run_id, epoch, score, select: the first metric after every epoch that may be chosen."""
    runs, kinds = _ok_runs(connection, placed)
    # One pass over the scores in the order of their key: what each kind of task would make of them, side by side.
    columns: list[Any] = [Score.run_id, Score.epoch]
    for number, (metric, tests) in enumerate(kinds):
        on_tests = sa.and_(Score.metric == metric, Score.split.in_(tests))
        on_select = sa.and_(Score.metric == metric, Score.split == SELECT)
        columns += [
            sa.func.avg(sa.case((on_tests, Score.value))).label(f"score{number}"),
            sa.func.count(sa.case((on_tests, Score.value))).label(f"found{number}"),
            sa.func.max(sa.case((on_select, Score.value))).label(f"select{number}"),
        ]
    query = sa.select(*columns).group_by(Score.run_id, Score.epoch).order_by(Score.run_id, Score.epoch)
    if suite is not None:
        query = query.where(Score.run_id.in_(_runs_of(suite)))
    wide = _frame(connection, query).merge(runs, on="run_id")
    parts = [wide.iloc[:0][KEY].assign(score=0.0, select=0.0)]
    for number, (_, tests) in enumerate(kinds):
        part = wide[(wide["kind"] == number) & (wide[f"found{number}"] == len(tests))]
        renamed = {f"score{number}": "score", f"select{number}": "select"}
        parts.append(part[[*KEY, *renamed]].rename(columns=renamed).astype({"score": float, "select": float}))
    complete = pd.concat(parts).sort_values(KEY, ignore_index=True)
    last = complete.groupby("run_id")["epoch"].transform("max")
    return complete.loc[(complete["epoch"] > 0) | (last == 0), [*KEY, "score", "select"]].reset_index(drop=True)


def _check_suite(store: Store, connection: sa.Connection, suite: str | None) -> None:
    names = connection.scalars(sa.select(schema.Suite.name)).all()
    if suite is not None and suite not in names:
        raise unknown("suite", suite, names, store.database.where)


def _members(connection: sa.Connection, suite: str | None) -> Frame:
    member = (SuiteMember.suite, SuiteMember.grid, SuiteMember.label, SuiteMember.position, SuiteMember.trial_id)
    order = (SuiteMember.suite, SuiteMember.position, SuiteMember.trial_id)
    query = sa.select(*member).order_by(*order)
    placed = _frame(connection, query if suite is None else query.where(SuiteMember.suite == suite))
    # Each table is read once and joined here: one wide query would sort and carry every column for every place.
    columns: list[sa.ColumnElement[Any]] = [column.label(name) for name, column in IDENTIFICATION.items()]
    of_trials = (
        sa.select(Trial.id.label("trial_id"), *columns, FIRST_METRIC.label("metric"))
        .join(schema.Method, schema.Method.name == Trial.method)
        .join(schema.Task, OF_TASK)
    )
    of_runs = sa.select(Run.id.label("run_id"), *(_as_stored(name) for name in RUN_COLUMNS))
    if suite is not None:
        of_trials = of_trials.where(Trial.id.in_(_trials_of(suite)))
        of_runs = of_runs.where(Run.id.in_(_runs_of(suite)))
    shown = _frame(connection, _shown_runs(suite))[["run_id", "trial_id"]]
    runs = shown.merge(_frame(connection, of_runs), on="run_id")
    frame = placed.merge(_frame(connection, of_trials), on="trial_id").merge(runs, on="trial_id", how="left")
    for name in TIMES:
        frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    return frame


def _as_stored(name: str) -> sa.ColumnElement[Any]:
    """A column of the table `runs`; times as text, which pandas reads at once."""
    column: sa.ColumnElement[Any] = getattr(Run, name)
    return sa.type_coerce(column, sa.String).label(name) if name in TIMES else column


def _frame(connection: sa.Connection, query: sa.Select) -> Frame:
    """The rows of a query; faster than `pandas.read_sql`, which goes through records."""
    names = [column.name for column in query.selected_columns]
    with _no_collection():
        # As the driver gives them: the types of all columns are ones that pandas makes itself.
        cursor: Any = connection.execute(query).cursor
        rows = cursor.fetchall() if cursor is not None else []
        columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(names, ())
    types: dict[str, Any] = {
        column.name: dtype
        for column in query.selected_columns
        for kind, dtype in DTYPES.items()
        if isinstance(column.type, kind)
    }
    return Frame({name: pd.array(list(values), dtype=types.get(name, object)) for name, values in columns.items()})


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the garbage collector, which would look through millions of new tuples again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _ok_runs(connection: sa.Connection, placed: Frame) -> tuple[Frame, list[tuple[str, list[str]]]]:
    """The ok runs among those placed, and the kinds of tasks: run_id, kind; first metric and test splits by kind."""
    task = schema.Task
    tasks = connection.execute(sa.select(task.name, task.version, task.metrics, task.tests)).all()
    kinds: list[tuple[str, list[str]]] = []
    for row in tasks:
        if (row.metrics[0], row.tests) not in kinds:
            kinds.append((row.metrics[0], row.tests))
    numbers = [(row.name, row.version, kinds.index((row.metrics[0], row.tests))) for row in tasks]
    of_task = Frame(numbers, columns=["task", "task_version", "kind"])
    ok = placed.loc[placed["status"] == "ok", ["run_id", "task", "task_version"]].drop_duplicates("run_id")
    return ok.merge(of_task, on=["task", "task_version"])[["run_id", "kind"]], kinds


def _trials_of(suite: str) -> sa.Select[Any]:
    return sa.select(SuiteMember.trial_id).where(SuiteMember.suite == suite)


def _runs_of(suite: str) -> sa.Select[Any]:
    return sa.select(Run.id).where(Run.trial_id.in_(_trials_of(suite)))


def _shown_runs(suite: str | None) -> sa.Select[Any]:
    """run_id, trial_id, status of each trial's latest ok run, or of its latest run if none is ok."""
    order = ((Run.status == "ok").desc(), Run.started_at.desc(), Run.id.desc())
    rank = sa.func.row_number().over(partition_by=Run.trial_id, order_by=order).label("rank")
    runs = sa.select(Run.id.label("run_id"), Run.trial_id, Run.status, rank)
    ranked = (runs if suite is None else runs.where(Run.trial_id.in_(_trials_of(suite)))).subquery()
    return sa.select(ranked.c.run_id, ranked.c.trial_id, ranked.c.status).where(ranked.c.rank == 1)
