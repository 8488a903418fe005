"""The statistics of a suite's tables: read once per table, used for ranks, pairs, fronts and intervals alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.predictions import StoredPredictions
from harness.standings import Place, Standing, standings_of, table_scores
from harness.stats.estimates import contrast
from harness.stats.ranks import Table, judge_table
from harness.stats.resampling import TaskScores
from reports.views import Board, SuiteView

Interval = tuple[float, float]


@dataclass(frozen=True)
class Judged:
    """One table: the scores of its contenders by task, and what they come to."""

    places: tuple[Place, ...]
    labels: tuple[str, ...]
    """Contenders: the rows of `scores`, in the order of the board."""
    tasks: tuple[str, ...]
    scores: tuple[TaskScores, ...]
    """By task."""
    table: Table
    standings: Mapping[str, Standing]

    @cached_property
    def task_intervals(self) -> dict[tuple[str, str], Interval]:
        """95 % interval of a row's score on one task, within [-1, 1], by (label, task); those that are known."""
        found = {}
        for task, scores in zip(self.tasks, self.scores, strict=True):
            low, high = contrast(scores, np.eye(len(self.labels))).interval()
            for index, label in enumerate(self.labels):
                if np.isfinite(low[index]):
                    found[label, task] = (max(float(low[index]), -1.0), min(float(high[index]), 1.0))
        return found

    def best(self) -> frozenset[tuple[str, str | None]]:
        """(label, task) of the rows that share the best rank on a task, and (label, None) of those in the average.

        A rank on one task holds among that task's pairs alone: each column is a family of its own.
        """
        tables = {None: self.table} | {
            task: judge_table([scores]) for task, scores in zip(self.tasks, self.scores, strict=True)
        }
        return frozenset(
            (label, task)
            for task, table in tables.items()
            for label, rank in zip(self.labels, table.ranges, strict=True)
            if rank is not None and rank.best == 1
        )


def judged_boards(stored: StoredPredictions, view: SuiteView) -> dict[tuple[str, str], Judged]:
    """All boards of a suite that have contenders, by (grid, protocol); read once where protocols choose the same."""
    found: dict[tuple[str, str], Judged] = {}
    known: dict[tuple[object, ...], Judged] = {}
    for board in (board for section in view.sections for board in section.boards if board.contenders):
        places = _places_of(view, board)
        asked = (places, tuple(row.label for row in board.contenders))
        if asked not in known:
            known[asked] = _judged(stored, places, board)
        found[board.grid, board.protocol] = known[asked]
    return found


def judge_board(stored: StoredPredictions, view: SuiteView, board: Board) -> Judged:
    """The contenders of one board, judged; there is at least one."""
    return _judged(stored, _places_of(view, board), board)


def _judged(stored: StoredPredictions, places: tuple[Place, ...], board: Board) -> Judged:
    labels, tasks = tuple(row.label for row in board.contenders), tuple(task.name for task in board.tasks)
    scores = table_scores(stored, places, labels, tasks)
    table = judge_table(scores)
    return Judged(places, labels, tasks, tuple(scores), table, standings_of(table, places, labels, tasks))


def _places_of(view: SuiteView, board: Board) -> tuple[Place, ...]:
    """The runs behind a board's scores."""
    return tuple(
        Place(row.label, row.task, row.seed, row.metric, row.run_id, epoch)
        for row in view.rows
        if row.grid == board.grid and row.run_id is not None and (epoch := row.epoch(board.protocol)) is not None
    )
