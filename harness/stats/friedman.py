"""Friedman's test over tasks with Nemenyi's critical difference (Demsar 2006, JMLR 7).

Tasks are the sample here, rows are compared by their ranks. A handful of tasks shows next to nothing this way; it is
the field's habit, and says something else than a table's rank ranges, which take the tasks as given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from harness.stats.corpus import Array
from harness.stats.ranks import task_ranks


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
    rows, tasks = scores.shape
    if rows < 3 or tasks < 2:
        raise ValueError(f"Friedman's test needs three rows and two tasks; there are {rows} and {tasks}")
    by_task = task_ranks(scores)
    ranks, middle = by_task.mean(axis=1), (rows + 1) / 2
    spread = float(((by_task - middle) ** 2).sum())
    # Of nothing but ties there is no spread: all rows are alike.
    statistic = (rows - 1) * tasks**2 * float(((ranks - middle) ** 2).sum()) / spread if spread else 0.0
    difference = range_quantile(level, rows) / math.sqrt(2) * math.sqrt(rows * (rows + 1) / (6 * tasks))
    p_value = float(special.chdtrc(rows - 1, statistic))
    return CriticalDifference(statistic, p_value, tuple(map(float, ranks)), difference, _groups(ranks, difference))


def range_quantile(level: float, count: int) -> float:
    """What the range of `count` independent standard normals stays below with probability `level`.

    The studentized range with infinite degrees of freedom. `scipy.stats` has it, and takes half a second to import.
    """
    nodes, weights = np.polynomial.legendre.leggauss(200)
    least, weights = 9.0 * nodes, 9.0 * weights * np.exp(-((9.0 * nodes) ** 2) / 2) / math.sqrt(2 * math.pi)

    def below(width: float) -> float:
        others = special.ndtr(least + width) - special.ndtr(least)
        return float(count * (weights * others ** (count - 1)).sum())

    low, high = 0.0, 18.0
    while high - low > 1e-10:
        middle = (low + high) / 2
        low, high = (low, middle) if below(middle) >= level else (middle, high)
    return high


def _groups(ranks: Array, difference: float) -> tuple[tuple[int, ...], ...]:
    order = [int(row) for row in np.argsort(ranks, kind="stable")]
    groups: list[tuple[int, ...]] = []
    for first, row in enumerate(order):
        group = tuple(other for other in order[first:] if ranks[other] - ranks[row] < difference)
        if not groups or group[-1] not in groups[-1]:
            groups.append(group)
    return tuple(group for group in groups if len(group) > 1)
