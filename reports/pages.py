"""What the templates are given: one `SuitePage` per suite, with its links, marks and charts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from reports import charts, formats
from reports.commands import run_suite
from reports.marks import Mark, mark_of
from reports.ranks import Standings, shares_rank, unranked
from reports.rows import Row
from reports.strips import Strip, strips
from reports.views import MAIN, Board, CurvePanel, MethodNote, SuiteView

if TYPE_CHECKING:
    from harness.standings import Standing


def slug(name: str) -> str:
    """The name as a part of a file name or anchor: itself if it is plain, else a plain form and a hash."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:60]
    return plain if plain and plain == name else f"{plain or 'x'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class RunGroup:
    """The runs behind one cell: one row's trials on one task of one grid."""

    grid: str
    task_title: str
    metric: str
    anchor: str
    rows: tuple[Row, ...]

    @property
    def tells_forgetting(self) -> bool:
        """Whether any of them read a held-out text."""
        return any(row.perplexity_after is not None for row in self.rows)


@dataclass(frozen=True)
class SuitePage:
    """A suite's pages. Files are relative to the site's folder, links to the page at hand (`root`)."""

    view: SuiteView
    marks: dict[str, Mark]
    scatter: charts.Chart | None
    scatter_note: str
    curves: tuple[tuple[CurvePanel, charts.Chart], ...]
    protocol_notes: dict[str, str]
    standings: dict[tuple[str, str], Standings]
    """By grid and protocol."""
    root: str = ""

    def at(self, root: str) -> SuitePage:
        """The same for a page from which the site's folder is reached by `root` ("../")."""
        return replace(self, root=root)

    @property
    def file(self) -> str:
        return f"suites/{slug(self.view.name)}.html"

    @property
    def json_file(self) -> str:
        return f"data/{slug(self.view.name)}.json"

    @property
    def csv_file(self) -> str:
        return f"data/{slug(self.view.name)}.csv"

    @property
    def run_command(self) -> str:
        return run_suite(self.view.name)

    def row_file(self, label: str) -> str:
        """The page of one row's runs."""
        return f"suites/{slug(self.view.name)}/{slug(label)}.html"

    def row_link(self, label: str) -> str:
        return self.root + self.row_file(label)

    def cell_link(self, label: str, grid: str, task: str) -> str:
        """Link to the runs behind one cell."""
        return f"{self.row_link(label)}#{_anchor(grid, task)}"

    def grid_title(self, grid: str) -> str:
        return "Leaderboard" if grid == MAIN else grid

    def strips(self, board: Board) -> dict[str, Strip]:
        return self._strips[board.grid, board.protocol]

    @cached_property
    def _strips(self) -> dict[tuple[str, str], dict[str, Strip]]:
        boards = [board for section in self.view.sections for board in section.boards]
        return {(board.grid, board.protocol): strips(board) for board in boards}

    def standing(self, board: Board, label: str) -> Standing | None:
        """Interval and rank of a table's row; None for a control."""
        return self.standings[board.grid, board.protocol].get(label)

    def shares_rank(self, board: Board, label: str) -> bool:
        """Whether another row of the table begins at the row's rank."""
        return shares_rank(self.standings[board.grid, board.protocol], label)

    def unranked(self, board: Board) -> list[str]:
        """Which rows of the table have no rank, and why."""
        return unranked(board, self.standings[board.grid, board.protocol])

    @cached_property
    def row_groups(self) -> dict[str, tuple[RunGroup, ...]]:
        """Runs by row label, then grid and task, in the order of the plan."""
        found: dict[str, dict[tuple[str, str], list[Row]]] = {}
        for row in self.view.rows:
            found.setdefault(row.label, {}).setdefault((row.grid, row.task), []).append(row)
        return {label: tuple(map(_group, groups.values())) for label, groups in found.items()}

    def notes_on(self, label: str) -> tuple[MethodNote, ...]:
        """Notes on the methods that a row was made with: one, unless a suite gave two of them one label."""
        names = {row.method for group in self.row_groups[label] for row in group.rows}
        return tuple(note for note in self.view.methods if note.name in names)


def suite_page(
    view: SuiteView, protocol_notes: dict[str, str], standings: dict[tuple[str, str], Standings]
) -> SuitePage:
    """The page of a view, its charts drawn. standings: of all its boards."""
    controls = frozenset(row.label for row in view.rows if row.control)
    marks = {label: mark_of(label, view.labels, controls) for label in view.labels}
    drawn = charts.score_over_parameters(view.main, marks) if view.main else None
    scatter, low = drawn or (None, [])
    curves = tuple((panel, charts.size_curves(panel, marks)) for panel in view.panels)
    below = ", ".join(f"{row.title} ({formats.score(row.average.mean)})" for row in low)
    note = f"Below the chart: {below}." if below else ""
    return SuitePage(view, marks, scatter, note, curves, protocol_notes, standings)


def _group(rows: Iterable[Row]) -> RunGroup:
    ordered = tuple(sorted(rows, key=lambda row: (row.train_size == 0, row.train_size, row.seed)))
    first = ordered[0]
    return RunGroup(first.grid, first.task_title, first.metric, _anchor(first.grid, first.task), ordered)


def _anchor(grid: str, task: str) -> str:
    return f"{slug(grid)}.{slug(task)}"
