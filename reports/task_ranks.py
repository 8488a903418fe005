"""Average ranks over tasks, for the critical-difference diagram of a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.stats.friedman import CriticalDifference, critical_difference
from reports.views import Board, BoardRow

MOST_ROWS = 30
"""Contenders that are ranked, the best by their average: a diagram of more says nothing."""


@dataclass(frozen=True)
class TaskRanks:
    """Contenders with a score on every task, and what their ranks over tasks come to."""

    rows: tuple[BoardRow, ...]
    """In the order of `found.ranks`."""
    tasks: int
    left_out: int
    """Further contenders with a score on every task."""
    found: CriticalDifference


def task_ranks(board: Board) -> TaskRanks | None:
    """The ranks of a board's contenders; None below three of them or two tasks."""
    known = [row for row in board.contenders if all(cell.mean is not None for cell in row.cells)]
    rows = known[:MOST_ROWS]
    if len(rows) < 3 or len(board.tasks) < 2:
        return None
    scores = np.array([[cell.mean or 0.0 for cell in row.cells] for row in rows])
    return TaskRanks(tuple(rows), len(board.tasks), len(known) - len(rows), critical_difference(scores))
