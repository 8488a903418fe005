"""A whole table: averages, and the range of ranks that each row may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.stats.corpus import Array
from harness.stats.estimates import LEVEL, Estimate, average, contrast
from harness.stats.pairs import all_pairs, differences, holm
from harness.stats.resampling import TaskScores


@dataclass(frozen=True)
class RankRange:
    """Ranks that a row may hold, 1 the best. Rows with one `best` share that rank."""

    best: int
    """One more than the rows that are shown to be better."""
    worst: int
    """The number of rows less those that are shown to be worse."""


@dataclass(frozen=True)
class Table:
    """What R rows on some tasks come to. A row without two seeds on every task has no place."""

    averages: Estimate
    """[R]: mean over tasks."""
    pairs: tuple[tuple[int, int], ...]
    """All pairs of rows that have a place."""
    differences: Estimate
    """[pairs]: first minus second."""
    adjusted: Array
    """[pairs]: p-values after Holm."""
    ranges: tuple[RankRange | None, ...]
    """By row; None for a row without a place."""
    level: float = LEVEL

    @property
    def separated(self) -> tuple[tuple[int, int], ...]:
        """(better, worse) of the pairs that are told apart."""
        found = zip(self.pairs, self.differences.value, self.adjusted, strict=True)
        return tuple(
            (first, second) if value > 0 else (second, first)
            for (first, second), value, p in found
            if p <= 1 - self.level
        )


def judge_table(tasks: Sequence[TaskScores], level: float = LEVEL) -> Table:
    """The table of some tasks, whose rank ranges hold all true ranks at once with probability `level`."""
    rows = len(tasks[0].points)
    averages = average([contrast(task, np.eye(rows)) for task in tasks])
    placed = [row for row in range(rows) if averages.seeds[row] >= 2]
    pairs = [(placed[i], placed[j]) for i, j in all_pairs(len(placed))]
    difference = differences(tasks, pairs)
    adjusted = holm(difference.p_value())
    found = rank_ranges(pairs, difference.value, adjusted <= 1 - level, rows)
    ranges = tuple(found[row] if row in placed else None for row in range(rows))
    return Table(averages, tuple(pairs), difference, adjusted, ranges, level)


def rank_ranges(
    pairs: Sequence[tuple[int, int]], values: Array, separated: NDArray[np.bool_], rows: int
) -> list[RankRange]:
    """The range of every row: better rows that are separated from it push it down, worse ones hold it up.

    If no pair is called wrong, every range holds its row's true rank (Mogstad et al. 2024, doi:10.1093/restud/rdad006);
    so pairs that are corrected as one family make ranges that hold together. Rows without a pair count for none.
    """
    better, worse = np.zeros(rows, int), np.zeros(rows, int)
    for (first, second), value, apart in zip(pairs, values, separated, strict=True):
        if apart:
            winner, loser = (first, second) if value > 0 else (second, first)
            better[loser] += 1
            worse[winner] += 1
    count = len({row for pair in pairs for row in pair}) or 1
    return [RankRange(1 + int(better[row]), count - int(worse[row])) for row in range(rows)]


def task_ranks(scores: Array) -> Array:
    """Each row's rank on each task, 1 the best, ties at their mean rank: [rows, tasks] from scores of that shape."""
    better = (scores[None, :, :] > scores[:, None, :]).sum(axis=1)
    alike = (scores[None, :, :] == scores[:, None, :]).sum(axis=1)
    return np.asarray(better + (alike + 1) / 2)


def average_ranks(scores: Array) -> Array:
    """Mean over tasks of a row's rank on a task: 1 for the best score, rows that tie at the mean of their ranks.

    scores: [rows, tasks]. Returns [rows].
    """
    return np.asarray(task_ranks(scores).mean(axis=1))


def interquartile_mean(scores: Array) -> Array:
    """Mean of the middle half of a row's runs over all tasks, which a few lucky or failed runs do not move.

    A quarter of the runs, rounded down, is left out at either end (Agarwal et al. 2021, arXiv:2108.13264).

    scores: [rows, runs], NaN where there is no run. Returns [rows], NaN for a row without runs.
    """
    ordered, place = np.sort(scores, axis=1), np.arange(scores.shape[1])  # NaN comes last
    runs = (~np.isnan(scores)).sum(1, keepdims=True)
    middle = (place >= runs // 4) & (place < runs - runs // 4)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(middle, ordered, 0.0).sum(1) / middle.sum(1))
