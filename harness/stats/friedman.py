"""Friedman's test over tasks with Nemenyi's critical difference (Demsar 2006, JMLR 7).

Tasks are the sample here, rows are compared by their ranks. A handful of tasks shows next to nothing this way; it is
the field's habit, and says something else than a table's rank ranges, which take the tasks as given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.stats.corpus import Array
from harness.stats.ranks import average_ranks


@dataclass(frozen=True)
class CriticalDifference:
    """What a critical-difference diagram shows."""

    statistic: float
    p_value: float
    """That all rows are alike."""
    ranks: tuple[float, ...]
    """Average rank of each row."""
    difference: float
    """Average ranks closer than this are not told apart."""
    groups: tuple[tuple[int, ...], ...]
    """Largest sets of rows, best first, that are not told apart: the bars of the diagram."""


def critical_difference(scores: Array, level: float = 0.95) -> CriticalDifference:
    """Compare rows by their scores [rows, tasks], all known. ValueError below three rows or two tasks."""
    from scipy import stats  # see `ranks`

    rows, tasks = scores.shape
    if rows < 3 or tasks < 2:
        raise ValueError(f"Friedman's test needs three rows and two tasks; there are {rows} and {tasks}")
    ranks = average_ranks(scores)
    if np.ptp(scores, axis=0).max() == 0:
        statistic, p_value = 0.0, 1.0  # nothing but ties, where the statistic would divide 0 by 0
    else:
        statistic, p_value = (float(part) for part in stats.friedmanchisquare(*scores))
    quantile = float(stats.studentized_range.ppf(level, rows, np.inf)) / math.sqrt(2)
    difference = quantile * math.sqrt(rows * (rows + 1) / (6 * tasks))
    return CriticalDifference(statistic, p_value, tuple(map(float, ranks)), difference, _groups(ranks, difference))


def _groups(ranks: Array, difference: float) -> tuple[tuple[int, ...], ...]:
    order = [int(row) for row in np.argsort(ranks, kind="stable")]
    groups: list[tuple[int, ...]] = []
    for first, row in enumerate(order):
        group = tuple(other for other in order[first:] if ranks[other] - ranks[row] < difference)
        if not groups or group[-1] not in groups[-1]:
            groups.append(group)
    return tuple(group for group in groups if len(group) > 1)
