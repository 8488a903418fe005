"""What the templates of a suite's pages are given: its view with links, marks, charts and statistics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from harness.stats.cells import CellSummary, summarise
from reports.cells import RowCosts, costs_of
from reports.commands import run_suite
from reports.gallery import Gallery
from reports.judged import Judged
from reports.marks import Mark
from reports.names import anchor, compare_file, pair_file, row_file, run_file, slug, suite_file
from reports.plots.chart import Chart
from reports.ranks import Standings, shares_rank, unranked
from reports.rows import Row
from reports.strips import Strip, strips
from reports.views import MAIN, Board, CurvePanel, MethodNote, SuiteView

if TYPE_CHECKING:
    from harness.standings import Standing
    from reports.comparisons import Comparison
    from reports.efficiency import Crossing, FrontRow
    from reports.overall import Overall

TUNED = "-tuned"
"""Ends the label of a row whose configuration a search has chosen, beside the default one."""
MOST_CELLS = 3000
"""Cells of all tables on a suite's page; with more, each way of choosing an epoch has a page of its own."""
MOST_RUNS = 1000
"""Runs listed on a row's page; the data files hold all."""


@dataclass(frozen=True)
class RunGroup:
    """The runs behind one cell: one row's trials on one task of one grid."""

    grid: str
    task_title: str
    metric: str
    anchor: str
    cell: CellSummary | None
    """What the runs come to under the suite's protocol; None where they are of several training sizes."""
    rows: tuple[Row, ...]
    left_out: int
    """Runs that are only in the data files."""

    @cached_property
    def tells_forgetting(self) -> bool:
        """Whether any of them read a held-out text."""
        return any(row.perplexity_after is not None for row in self.rows)

    @cached_property
    def tells_starts(self) -> bool:
        """Whether any of them began elsewhere than at the pretrained weights."""
        return any(row.start_seconds is not None for row in self.rows)


@dataclass(frozen=True)
class StackCosts:
    """What the rows of the first table cost on one stack."""

    stack: str
    runs: int
    costs: tuple[tuple[str, str, RowCosts], ...]
    """Label, title, costs."""
    canary: float | None
    """Seconds that the canary's fixed trial takes there; None if it has not been run."""

    def ratio(self, costs: RowCosts) -> float | None:
        """Training seconds in units of the canary's."""
        if self.canary is None or costs.train_seconds is None:
            return None
        return costs.train_seconds / self.canary


@dataclass(frozen=True)
class SuitePage:
    """A suite's pages. Files are relative to the site's folder, links to the page at hand (`root`)."""

    view: SuiteView
    marks: dict[str, Mark]
    plots: Gallery
    protocol_notes: dict[str, str]
    judged: Mapping[tuple[str, str], Judged]
    """By grid and protocol."""
    fronts: tuple[FrontRow, ...] = ()
    crossings: tuple[tuple[CurvePanel, tuple[Crossing, ...]], ...] = ()
    comparison: Comparison | None = None
    overall: Overall | None = None
    canary: Mapping[str, float] = field(default_factory=dict)
    """Seconds of the canary's fixed trial by stack."""
    root: str = ""

    def at(self, root: str) -> SuitePage:
        """The same for a page from which the site's folder is reached by `root` ("../")."""
        return replace(self, root=root)

    @property
    def file(self) -> str:
        return suite_file(self.view.name)

    @property
    def compare_link(self) -> str:
        """Link to all pairs."""
        return self.root + compare_file(self.view.name)

    def pair_link(self, first: str, second: str) -> str:
        return self.root + pair_file(self.view.name, first, second)

    @property
    def json_file(self) -> str:
        return f"data/{slug(self.view.name)}.json"

    @property
    def csv_file(self) -> str:
        return f"data/{slug(self.view.name)}.csv"

    @property
    def run_command(self) -> str:
        return run_suite(self.view.name)

    def chart_file(self, chart: Chart) -> str:
        """The file of one of the suite's plots."""
        return f"suites/{slug(self.view.name)}/charts/{chart.file}"

    def chart_link(self, chart: Chart) -> str:
        return self.root + self.chart_file(chart)

    def row_file(self, label: str) -> str:
        """The page of one row's runs."""
        return row_file(self.view.name, label)

    def row_link(self, label: str) -> str:
        return self.root + self.row_file(label)

    def run_link(self, run_id: str) -> str:
        return self.root + run_file(run_id)

    def cell_link(self, label: str, grid: str, task: str) -> str:
        """Link to the runs behind one cell."""
        return f"{self.row_link(label)}#{anchor(grid, task)}"

    def grid_title(self, grid: str) -> str:
        return "Leaderboard" if grid == MAIN else grid

    @cached_property
    def split(self) -> bool:
        """Whether the tables are too large for one page: each protocol but the first has one of its own."""
        cells = sum(len(board.rows) * (len(board.tasks) + 9) for s in self.view.sections for board in s.boards)
        return cells > MOST_CELLS

    def protocol_file(self, protocol: str) -> str:
        """The page of the tables under one protocol, where they do not stand on the suite's page."""
        return f"suites/{slug(self.view.name)}/tables/{protocol}.html"

    def strips(self, board: Board) -> dict[str, Strip]:
        return self._strips[board.grid, board.protocol]

    @cached_property
    def _strips(self) -> dict[tuple[str, str], dict[str, Strip]]:
        boards = [board for section in self.view.sections for board in section.boards]
        return {(board.grid, board.protocol): strips(board) for board in boards}

    def standings(self, board: Board) -> Standings:
        """Standings of a table's contenders; empty if it has none."""
        judged = self.judged.get((board.grid, board.protocol))
        return {} if judged is None else judged.standings

    def standing(self, board: Board, label: str) -> Standing | None:
        """Interval and rank of a table's row; None for a control."""
        return self.standings(board).get(label)

    def shares_rank(self, board: Board, label: str) -> bool:
        """Whether another row of the table begins at the row's rank."""
        return shares_rank(self.standings(board), label)

    def is_best(self, board: Board, label: str, task: str | None = None) -> bool:
        """Whether a table's row shares the best rank: in the average, or on one task."""
        return (label, task) in self._best[board.grid, board.protocol]

    def has_best(self, board: Board) -> bool:
        """Whether any row of a table has a rank, in the average or on a task."""
        return bool(self._best[board.grid, board.protocol])

    @cached_property
    def _best(self) -> Mapping[tuple[str, str], frozenset[tuple[str, str | None]]]:
        return defaultdict(frozenset, {key: judged.best() for key, judged in self.judged.items()})

    def unranked(self, board: Board) -> list[str]:
        """Which rows of the table have no rank, and why."""
        return unranked(board, self.standings(board))

    def is_tuned(self, label: str) -> bool:
        """Whether a search has chosen the row's configuration."""
        return label.endswith(TUNED) and label.removesuffix(TUNED) in self.view.labels

    def has_tuned(self, board: Board) -> bool:
        """Whether the table has tuned rows beside default ones."""
        return any(self.is_tuned(row.label) for row in board.rows)

    @cached_property
    def stacks(self) -> tuple[StackCosts, ...]:
        """Costs of the first table's rows on each stack, where there are several; the one with most runs first."""
        board = self.view.main
        done = [row for row in self.view.rows if row.status == "ok" and row.stack_id]
        counts = {stack: sum(row.stack_id == stack for row in done) for stack in {row.stack_id for row in done}}
        if board is None or len(counts) < 2:
            return ()
        found = []
        for stack in sorted(counts, key=lambda name: (-counts[name], name or "")):
            costs = []
            for row in board.rows:
                members = [r for r in done if (r.grid, r.label, r.stack_id) == (board.grid, row.label, stack)]
                by_task = [[r for r in members if r.task == task.name] for task in board.tasks]
                costs.append((row.label, row.title, costs_of(by_task, stack)))
            found.append(StackCosts(stack or "", counts[stack], tuple(costs), self.canary.get(stack or "")))
        return tuple(found)

    @cached_property
    def row_groups(self) -> dict[str, tuple[RunGroup, ...]]:
        """Runs by row label, then grid and task, in the order of the plan."""
        found: dict[str, dict[tuple[str, str], list[Row]]] = {}
        for row in self.view.rows:
            found.setdefault(row.label, {}).setdefault((row.grid, row.task), []).append(row)
        intervals = {
            (grid, *place): interval
            for (grid, protocol), judged in self.judged.items()
            if protocol == self.view.rank_by
            for place, interval in judged.task_intervals.items()
        }
        return {
            label: tuple(
                _group(rows, max(5, MOST_RUNS // len(groups)), self._cell(rows, intervals)) for rows in groups.values()
            )
            for label, groups in found.items()
        }

    def _cell(
        self, rows: Sequence[Row], intervals: Mapping[tuple[str, str, str], tuple[float, float]]
    ) -> CellSummary | None:
        if len({row.train_size for row in rows}) > 1:
            return None
        scores = [row.score(self.view.rank_by) for row in rows]
        known = np.array([score for score in scores if score is not None])
        return summarise(known, intervals.get((rows[0].grid, rows[0].label, rows[0].task)))

    def notes_on(self, label: str) -> tuple[MethodNote, ...]:
        """Notes on the methods that a row was made with: one, unless a suite gave two of them one label."""
        names = {row.method for group in self.row_groups[label] for row in group.rows}
        return tuple(note for note in self.view.methods if note.name in names)


def _group(rows: Iterable[Row], most: int, cell: CellSummary | None) -> RunGroup:
    ordered = sorted(rows, key=lambda row: (row.train_size == 0, row.train_size, row.seed))
    first, shown = ordered[0], tuple(ordered[:most])
    place = anchor(first.grid, first.task)
    return RunGroup(first.grid, first.task_title, first.metric, place, cell, shown, len(ordered) - len(shown))
