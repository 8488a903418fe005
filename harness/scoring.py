"""Derived scores as data frames: which epoch counts, and what a trial scored there.

Every metric is a number of which more is better. The *score* of a run after an epoch is the task's first
metric, averaged over the task's test splits; it exists only if all of them were scored. Epoch 0 is the model
before any training: it counts only for a run that has no other epoch (a control that does not train), and
then all protocols give it.
"""

from __future__ import annotations

from collections.abc import Callable
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
    "suite": SuiteMember.suite,
    "grid": SuiteMember.grid,
    "label": SuiteMember.label,
    "position": SuiteMember.position,
    "trial_id": SuiteMember.trial_id,
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
        chosen = _chosen_epochs(connection, suite)
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
        chosen = _chosen_epochs(connection, suite)
        runs = _ok_runs(suite)
        scored = pd.read_sql(sa.select(Score).join(runs, runs.c.run_id == Score.run_id), connection)
    long = chosen[["run_id", "protocol", "epoch"]].merge(scored, on=KEY)
    order = long["protocol"].map({protocol: index for index, protocol in enumerate(PROTOCOLS)})
    return (
        long.assign(order=order)
        .sort_values(["run_id", "order", "split", "metric"], ignore_index=True)
        .drop(columns="order")
    )


def _chosen_epochs(connection: sa.Connection, suite: str | None) -> Frame:
    """run_id, protocol, epoch, score, select: the epoch that each protocol chooses, and its score on `select`."""
    by_epoch = _by_epoch(connection, suite)
    parts = [choose(by_epoch).assign(protocol=protocol) for protocol, choose in PROTOCOLS.items()]
    return pd.concat(parts)[["run_id", "protocol", "epoch", "score", "select"]]


def _by_epoch(connection: sa.Connection, suite: str | None) -> Frame:
    """run_id, epoch, score, select: the first metric after every epoch that may be chosen."""
    runs = _ok_runs(suite)
    query = sa.select(Score.run_id, Score.epoch, Score.split, Score.value).join(runs, runs.c.run_id == Score.run_id)
    first = pd.read_sql(query.where(Score.metric == runs.c.first_metric), connection)
    select = first[first["split"] == SELECT].set_index(KEY)["value"].rename("select")
    on_tests = first.merge(_tests(connection, runs), on=["run_id", "split"]).groupby(KEY)
    groups = on_tests.agg(score=("value", "mean"), found=("value", "count"), wanted=("tests", "first"))
    complete = groups[groups["found"] == groups["wanted"]].join(select).reset_index()
    last = complete.groupby("run_id")["epoch"].transform("max")
    return complete.loc[(complete["epoch"] > 0) | (last == 0), [*KEY, "score", "select"]].reset_index(drop=True)


def _check_suite(store: Store, connection: sa.Connection, suite: str | None) -> None:
    names = connection.scalars(sa.select(schema.Suite.name)).all()
    if suite is not None and suite not in names:
        raise unknown("suite", suite, names, store.database.where)


def _members(connection: sa.Connection, suite: str | None) -> Frame:
    shown = _shown_runs()
    columns: list[sa.ColumnElement[Any]] = [column.label(name) for name, column in IDENTIFICATION.items()]
    run_columns = [Run.id.label("run_id"), *(getattr(Run, name) for name in RUN_COLUMNS)]
    query = (
        _within(sa.select(*columns, FIRST_METRIC.label("metric"), *run_columns), suite)
        .join(Trial, Trial.id == SuiteMember.trial_id)
        .join(schema.Method, schema.Method.name == Trial.method)
        .join(schema.Task, OF_TASK)
        .join(shown, shown.c.trial_id == SuiteMember.trial_id, isouter=True)
        .join(Run, Run.id == shown.c.run_id, isouter=True)
        .order_by(SuiteMember.suite, SuiteMember.position, SuiteMember.trial_id)
    )
    dtypes = {
        column.name: dtype
        for column in query.selected_columns
        for kind, dtype in DTYPES.items()
        if isinstance(column.type, kind)
    }
    return pd.read_sql(query, connection).astype(dtypes)


def _tests(connection: sa.Connection, runs: sa.Subquery) -> Frame:
    """One row for each test split that a run's task has: run_id, split, tests (how many there are)."""
    task = schema.Task
    splits = [
        (row.name, row.version, len(row.tests), split)
        for row in connection.execute(sa.select(task.name, task.version, task.tests))
        for split in row.tests
    ]
    tests = Frame(splits, columns=["task", "task_version", "tests", "split"])
    tasks = pd.read_sql(sa.select(runs.c.run_id, runs.c.task, runs.c.task_version), connection)
    return tasks.merge(tests, on=["task", "task_version"])[["run_id", "split", "tests"]]


def _ok_runs(suite: str | None) -> sa.Subquery:
    """The ok runs that `results` shows: run_id, task, task_version, first_metric."""
    shown = _shown_runs()
    query = (
        sa.select(shown.c.run_id, Trial.task, Trial.task_version, FIRST_METRIC.label("first_metric"))
        .join(Trial, Trial.id == shown.c.trial_id)
        .join(schema.Task, OF_TASK)
        .where(shown.c.status == "ok", Trial.id.in_(_within(sa.select(SuiteMember.trial_id), suite)))
    )
    return query.subquery()


def _within(query: sa.Select[Any], suite: str | None) -> sa.Select[Any]:
    return query if suite is None else query.where(SuiteMember.suite == suite)


def _shown_runs() -> sa.Subquery:
    """run_id, trial_id, status of each trial's latest ok run, or of its latest run if none is ok."""
    order = ((Run.status == "ok").desc(), Run.started_at.desc(), Run.id.desc())
    rank = sa.func.row_number().over(partition_by=Run.trial_id, order_by=order).label("rank")
    ranked = sa.select(Run.id.label("run_id"), Run.trial_id, Run.status, rank).subquery()
    return sa.select(ranked.c.run_id, ranked.c.trial_id, ranked.c.status).where(ranked.c.rank == 1).subquery()
