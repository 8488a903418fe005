"""Metrics once more from kept predictions, over all history: to check them, or to add one. Nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from harness import metrics, rows
from harness.bundle.writing import all_predictions
from harness.records import Predictions, TaskInfo
from harness.schema import RUNS, SCORES, TRIALS
from harness.store import Store

TOLERANCE = 1e-9
"""Within which a score computed again is the stored one."""


@dataclass
class Rescored:
    """What a rescoring found."""

    runs: int = 0
    """Runs with kept predictions."""
    agreeing: int = 0
    """Stored scores that came out again."""
    differing: list[str] = field(default_factory=list)
    """Stored scores that did not, in words."""
    added: int = 0
    """Scores of a new metric."""
    unfit: list[str] = field(default_factory=list)
    """Tasks that the new metric cannot be computed for, and why."""


def rescore(store: Store, metric: str | None = None) -> Rescored:
    """Compute every stored test score again from the predictions that were kept for it; with `metric`, add that one.

    Scores are added for the kept epochs (the selected and the last one). No stored score is changed.
    """
    result = Rescored()
    tasks = {(info.name, info.version): info for info in store.tasks()}
    unfit: dict[tuple[str, int], str] = {}
    new: list[dict[str, Any]] = []
    for run_id, task in list(_runs(store, tasks)):
        predictions = all_predictions(store, run_id)
        if not predictions:
            continue
        result.runs += 1
        stored = {(s.epoch, s.split, s.metric): s.value for s in store.run(run_id).record.scores}
        for kept in predictions:
            _check(result, run_id, task, kept, stored)
            if metric is not None and (task.name, task.version) not in unfit:
                try:
                    value = _compute(metric, task, kept)
                except ValueError as error:
                    unfit[task.name, task.version] = f"{task.name}: {str(error).splitlines()[0]}"
                    continue
                if (kept.epoch, kept.split, metric) not in stored:
                    place = {"run_id": run_id, "epoch": kept.epoch, "split": kept.split, "metric": metric}
                    new.append({**place, "value": rows.finite(value)})
    if new:
        with store.database.writing() as connection:
            rows.insert_missing(connection, SCORES, new)
    result.added, result.unfit = len(new), sorted(unfit.values())
    return result


def _runs(store: Store, tasks: dict[tuple[str, int], TaskInfo]) -> Iterator[tuple[str, TaskInfo]]:
    query = sa.select(RUNS.c.id, TRIALS.c.task, TRIALS.c.task_version).join(TRIALS, TRIALS.c.id == RUNS.c.trial_id)
    with store.reading() as connection:
        found = connection.execute(query.where(RUNS.c.status == "ok").order_by(RUNS.c.started_at, RUNS.c.id)).all()
    for row in found:
        yield row.id, tasks[row.task, row.task_version]


def _check(
    result: Rescored, run_id: str, task: TaskInfo, kept: Predictions, stored: dict[tuple[int, str, str], float]
) -> None:
    for name in {name for epoch, split, name in stored if (epoch, split) == (kept.epoch, kept.split)}:
        if name not in metrics.METRIC_NAMES:
            continue  # a judge of its own, which predictions alone do not give back
        value, before = _compute(name, task, kept), stored[kept.epoch, kept.split, name]
        if math.isclose(value, before, rel_tol=0, abs_tol=TOLERANCE) or (math.isnan(value) and math.isnan(before)):
            result.agreeing += 1
        else:
            result.differing.append(
                f"run {run_id}: {name} on {kept.split} after epoch {kept.epoch} is stored as {before}; its predictions "
                f"give {value}"
            )


def _compute(name: str, task: TaskInfo, kept: Predictions) -> float:
    """The metric; ValueError if it is none for such a task."""
    wanted = metrics.KINDS.get(name, task.kind)
    if task.kind != wanted:
        raise ValueError(f"{name} is for {wanted}, this is {task.kind}")
    return metrics.compute(name, kept.values, kept.labels)
