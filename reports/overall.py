"""A table's contenders over all their tasks and seeds: what does not hang on the mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats.corpus import Array
from harness.stats.profiles import performance_profile
from harness.stats.ranks import average_ranks, interquartile_mean
from reports.rows import Row
from reports.views import Board, BoardRow

THRESHOLDS = 61
"""Scores at which a profile is read, from the lowest of all runs to the highest."""


@dataclass(frozen=True)
class OverallRow:
    """One contender."""

    row: BoardRow
    average_rank: float
    """Over tasks, 1 the best."""
    interquartile_mean: float
    profile: tuple[float, ...]
    """Share of its runs above each threshold."""


@dataclass(frozen=True)
class Overall:
    """Contenders with a score on every task, the best interquartile mean first."""

    tasks: int
    thresholds: tuple[float, ...]
    rows: tuple[OverallRow, ...]


def overall(board: Board, rows: Sequence[Row]) -> Overall | None:
    """Of a board, from its suite's rows; None below two contenders with a score on every task, or two runs of one."""
    contenders = [row for row in board.contenders if not row.missing]
    if len(contenders) < 2:
        return None
    scores = _scores(board, contenders, rows)  # [rows, tasks, seeds]
    if (~np.isnan(scores)).sum((1, 2)).max() < 2:
        return None
    low, high = float(np.nanmin(scores)), float(np.nanmax(scores))
    thresholds = np.linspace(low, high, THRESHOLDS) if high > low else np.array([low])
    profiles = performance_profile(scores, thresholds)
    means = np.array([[cell.mean for cell in row.cells] for row in contenders])  # what ties in the table ties here
    ranks, middles = average_ranks(means), interquartile_mean(scores.reshape(len(contenders), -1))
    found = [
        OverallRow(row, float(ranks[index]), float(middles[index]), tuple(profiles[index].tolist()))
        for index, row in enumerate(contenders)
    ]
    best_first = sorted(found, key=lambda item: (-item.interquartile_mean, item.row.label))
    return Overall(len(board.tasks), tuple(thresholds.tolist()), tuple(best_first))


def _scores(board: Board, contenders: Sequence[BoardRow], rows: Sequence[Row]) -> Array:
    """[contenders, tasks, seeds], NaN where there is no run."""
    by_cell: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for row in rows:
        if row.grid == board.grid and (score := row.score(board.protocol)) is not None:
            by_cell[row.label, row.task][row.seed] = score
    seeds = sorted({seed for scores in by_cell.values() for seed in scores})
    return np.array(
        [
            [[by_cell[row.label, task.name].get(seed, np.nan) for seed in seeds] for task in board.tasks]
            for row in contenders
        ]
    )
