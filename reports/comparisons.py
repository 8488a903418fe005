"""Every two contenders of a suite's first table side by side: paired differences, and where they disagree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.predictions import StoredPredictions
from harness.stats.estimates import Estimate, contrast
from harness.stats.pairs import all_pairs, differences, holm, pair_coefficients, probability_of_improvement
from harness.stats.power import detectable
from reports.agreement import Agreement, Answers, agreement, answers
from reports.judged import Judged
from reports.views import Board, BoardRow, TaskColumn

WIDEST = 2.0
"""No difference of scores is larger: they lie within [-1, 1]."""
MOST_ROWS = 14
"""Contenders that are compared with each other, the best by their average: 91 pairs, each with a page."""


@dataclass(frozen=True)
class Difference:
    """First minus second. None: not known, for want of two common seeds or of stored predictions."""

    value: float | None
    low: float | None
    high: float | None
    """95 % interval."""
    p: float | None
    """Of no difference, after Holm's correction over the family."""
    improvement: float | None
    """How often a run of the first beats a run of the second."""
    detectable: float | None
    """The smallest true difference that as many seeds and examples find with a probability of 80 %."""
    seeds: int


@dataclass(frozen=True)
class TaskDifference:
    """One task of a pair."""

    task: TaskColumn
    difference: Difference
    agreement: Agreement | None
    """None where predictions are not right or wrong, or not stored."""


@dataclass(frozen=True)
class Pair:
    """Two rows."""

    first: BoardRow
    second: BoardRow
    average: Difference
    tasks: tuple[TaskDifference, ...]


@dataclass(frozen=True)
class Comparison:
    """All pairs of a table."""

    board: Board
    pairs: tuple[Pair, ...]
    left_out: int
    """Contenders beyond `MOST_ROWS`."""


def compare(
    stored: StoredPredictions, board: Board, judged: Judged, right_or_wrong: Sequence[str]
) -> Comparison | None:
    """The pairs of a board; None if it has fewer than two contenders with a run.

    right_or_wrong: tasks whose predictions are one or the other, not near or far. Holm's families are the averages of
    all pairs, and all pairs on all tasks.
    """
    known = [row for row in board.contenders if any(cell.n for cell in row.cells)]
    shown = known[:MOST_ROWS]
    if len(shown) < 2:
        return None
    where = [judged.labels.index(row.label) for row in shown]
    pairs = [(where[i], where[j]) for i, j in all_pairs(len(shown))]
    averages = _differences(judged, pairs, differences(judged.scores, pairs), None)
    coefficients = pair_coefficients(pairs, len(judged.labels))
    by_task = [contrast(scores, coefficients) for scores in judged.scores]
    adjusted = holm(np.concatenate([estimate.p_value() for estimate in by_task])).reshape(len(by_task), -1)
    judged_tasks = [
        _differences(judged, pairs, estimate, task, adjusted[task]) for task, estimate in enumerate(by_task)
    ]
    told = answers(stored, judged.places, right_or_wrong)
    found = []
    for index, (i, j) in enumerate(all_pairs(len(shown))):
        tasks = tuple(
            TaskDifference(column, judged_tasks[k][index], _agreement(told, column, shown[i], shown[j]))
            for k, column in enumerate(board.tasks)
        )
        found.append(Pair(shown[i], shown[j], averages[index], tasks))
    return Comparison(board, tuple(found), len(known) - len(shown))


def _differences(
    judged: Judged,
    pairs: Sequence[tuple[int, int]],
    estimate: Estimate,
    task: int | None,
    adjusted: np.ndarray | None = None,
) -> list[Difference]:
    """The differences of all pairs, averaged over tasks (`task` None) or on one task."""
    scores = judged.scores if task is None else judged.scores[task : task + 1]
    low, high = (np.clip(end, -WIDEST, WIDEST) for end in estimate.accepted())
    p = holm(estimate.p_value()) if adjusted is None else adjusted
    improvement = probability_of_improvement(scores, pairs)
    least = detectable(estimate) if task is None else np.full(len(pairs), math.nan)
    return [
        Difference(
            _known(estimate.value[index]),
            _known(low[index]),
            _known(high[index]),
            _known(p[index]),
            _known(improvement[index]),
            _known(least[index]),
            int(estimate.seeds[index]),
        )
        for index in range(len(pairs))
    ]


def _agreement(told: Mapping[str, Answers], task: TaskColumn, first: BoardRow, second: BoardRow) -> Agreement | None:
    return agreement(told[task.name], first.label, second.label) if task.name in told else None


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
