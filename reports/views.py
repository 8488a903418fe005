"""What a report shows, as plain data: one view per suite, made from rows. No markup, no numbers as text.

A *board* is one table; the suite's view holds a
board for each grid of one training size and protocol, and learning curves for each grid of several sizes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from harness.protocols import PROTOCOLS
from reports.cells import (
    EMPTY,
    UNKNOWN,
    Cell,
    Perplexities,
    RowCosts,
    StartCosts,
    average_over_tasks,
    cell,
    costs_of,
    perplexities_of,
    scores_by_seed,
    start_costs,
    start_shares,
)
from reports.rows import PLANNED, Row, SuiteRows

MAIN = "main"
"""The grid that a suite's first table is made of."""


@dataclass(frozen=True)
class BoardRow:
    """One row of a table."""

    label: str
    title: str
    control: bool
    cells: tuple[Cell, ...]
    """In the order of the board's tasks."""
    average: Cell
    """Mean over tasks; its spread is over the seeds that every task has. Empty if a task has no score."""
    missing: tuple[str, ...]
    """Titles of the tasks without a score."""
    costs: RowCosts
    perplexities: Perplexities
    starts: StartCosts


@dataclass(frozen=True)
class TaskColumn:
    """One task of a table."""

    name: str
    title: str
    metric: str


@dataclass(frozen=True)
class Board:
    """One table: rows in order of their average, incomplete ones last. `reports.ranks` tells what is known of ranks."""

    grid: str
    protocol: str
    tasks: tuple[TaskColumn, ...]
    contenders: tuple[BoardRow, ...]
    controls: tuple[BoardRow, ...]
    tells_forgetting: bool
    """Whether any run read a held-out text: the columns for it are left out otherwise."""
    tells_starts: bool
    """Whether any run began elsewhere than at the pretrained weights; likewise."""

    @property
    def rows(self) -> tuple[BoardRow, ...]:
        return self.contenders + self.controls

    @cached_property
    def usual_n(self) -> int:
        """The number of seeds that most cells have; 0 without any score."""
        counts = Counter(c.n for row in self.rows for c in row.cells if c.n)
        return max(counts, key=lambda n: (counts[n], n), default=0)


@dataclass(frozen=True)
class Section:
    """One grid's boards, the suite's own protocol first."""

    grid: str
    boards: tuple[Board, ...]


@dataclass(frozen=True)
class CurvePoint:
    """One training size of a curve; size 0 is all rows that the task has."""

    size: int
    cell: Cell


@dataclass(frozen=True)
class Curve:
    """Score over training size of one row on one task, sizes ascending, "all" (0) last."""

    label: str
    title: str
    points: tuple[CurvePoint, ...]

    def at(self, size: int) -> Cell:
        """The cell of one training size; empty if the row was not run with it."""
        return next((point.cell for point in self.points if point.size == size), EMPTY)


@dataclass(frozen=True)
class CurvePanel:
    """The curves of one grid on one task."""

    grid: str
    task: TaskColumn
    curves: tuple[Curve, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """All training sizes, ascending, "all" (0) last."""
        return _ascending(point.size for curve in self.curves for point in curve.points)


@dataclass(frozen=True)
class MethodNote:
    """What a table's reader may look up about a method."""

    name: str
    title: str
    formula: str
    paper: str
    summary: str


@dataclass(frozen=True)
class SuiteView:
    """Everything that a report says about one suite."""

    name: str
    title: str
    description: str
    rank_by: str
    sections: tuple[Section, ...]
    """The main grid first."""
    panels: tuple[CurvePanel, ...]
    labels: tuple[str, ...]
    """Row labels in the order of the plan: a label's colour and shape is its place in here."""
    methods: tuple[MethodNote, ...]
    backbones: tuple[str, ...]
    rows: tuple[Row, ...]
    failures: tuple[Row, ...]
    done: int
    """Trials with a good run."""
    unfinished: int
    """Trials without any run yet."""
    seeds: int
    stack: str | None
    """The stack that times and memory are taken from: the one with most runs."""
    other_stacks: int

    @property
    def main(self) -> Board | None:
        """The first table, or None if no grid of one training size has rows."""
        return self.sections[0].boards[0] if self.sections else None


def suite_view(suite: SuiteRows) -> SuiteView:
    """The view of one suite. A suite without runs has boards with empty cells."""
    rows = suite.rows
    done = [row for row in rows if row.status == "ok"]
    stacks = Counter(row.stack_id for row in done if row.stack_id)
    stack = max(stacks, key=lambda name: (stacks[name], name), default=None)
    protocols = sorted(PROTOCOLS, key=lambda name: name != suite.rank_by)
    grids = _grids(rows)
    sized = {name: members for name, members in grids.items() if _has_several_sizes(members)}
    return SuiteView(
        name=suite.name,
        title=suite.title or suite.name,
        description=suite.description,
        rank_by=suite.rank_by,
        sections=tuple(
            Section(name, tuple(_board(protocol, members, stack) for protocol in protocols))
            for name, members in grids.items()
            if name not in sized
        ),
        panels=tuple(panel for members in sized.values() for panel in _panels(members, suite.rank_by)),
        labels=_unique(row.label for row in rows),
        methods=_method_notes(suite),
        backbones=_unique(row.backbone for row in rows),
        rows=rows,
        failures=tuple(row for row in rows if row.status not in ("ok", PLANNED)),
        done=len({row.trial_id for row in done}),
        unfinished=len({row.trial_id for row in rows if row.status == PLANNED}),
        seeds=len({row.seed for row in done}),
        stack=stack,
        other_stacks=max(0, len(stacks) - 1),
    )


def _has_several_sizes(rows: Sequence[Row]) -> bool:
    """Whether one task is there with more than one training size; tasks may well differ in theirs."""
    return len({(row.task, row.train_size) for row in rows}) > len({row.task for row in rows})


def _grids(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by grid, the main grid first."""
    grids: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grids[row.grid].append(row)
    return dict(sorted(grids.items(), key=lambda item: item[0] != MAIN))


def _board(protocol: str, rows: Sequence[Row], stack: str | None) -> Board:
    tasks = tuple(task_column(row) for row in _first_by(rows, lambda row: row.task))
    shares = start_shares(rows)
    board_rows = [_board_row(protocol, tasks, members, stack, shares) for members in _by_label(rows).values()]
    if len({row.held_out for row in rows if row.held_out}) > 1:  # not one text: nothing to compare
        board_rows = [replace(row, perplexities=UNKNOWN) for row in board_rows]
    board_rows.sort(key=lambda row: (row.average.mean is None, -(row.average.mean or 0.0), row.label))
    return Board(
        rows[0].grid,
        protocol,
        tasks,
        tuple(row for row in board_rows if not row.control),
        tuple(row for row in board_rows if row.control),
        any(row.perplexity_after is not None for row in rows),
        bool(shares),
    )


def _board_row(
    protocol: str, tasks: Sequence[TaskColumn], rows: Sequence[Row], stack: str | None, shares: Mapping[str, float]
) -> BoardRow:
    by_task = [[row for row in rows if row.task == task.name and row.status == "ok"] for task in tasks]
    scores = [scores_by_seed(members, protocol) for members in by_task]
    return BoardRow(
        label=rows[0].label,
        title=rows[0].title,
        control=rows[0].control,
        cells=tuple(cell(list(by_seed.values())) for by_seed in scores),
        average=average_over_tasks(scores),
        missing=tuple(task.title for task, by_seed in zip(tasks, scores, strict=True) if not by_seed),
        costs=costs_of(by_task, stack),
        perplexities=perplexities_of(by_task),
        starts=start_costs(by_task, shares),
    )


def _panels(rows: Sequence[Row], protocol: str) -> list[CurvePanel]:
    """One panel for each task; tasks and labels without a score are left out."""
    panels = []
    for first in _first_by(rows, lambda row: row.task):
        members = [row for row in rows if row.task == first.task and row.score(protocol) is not None]
        curves = tuple(_curve(of_label, protocol) for of_label in _by_label(members).values())
        if curves:
            panels.append(CurvePanel(first.grid, task_column(first), curves))
    return panels


def _ascending(sizes: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(sizes), key=lambda size: (size == 0, size)))


def _curve(rows: Sequence[Row], protocol: str) -> Curve:
    points = []
    for size in _ascending(row.train_size for row in rows):
        scores = scores_by_seed((row for row in rows if row.train_size == size), protocol)
        points.append(CurvePoint(size, cell(list(scores.values()))))
    return Curve(rows[0].label, rows[0].title, tuple(points))


def task_column(row: Row) -> TaskColumn:
    """The column of a row's task."""
    return TaskColumn(row.task, row.task_title, row.metric)


def _method_notes(suite: SuiteRows) -> tuple[MethodNote, ...]:
    found = [suite.methods[name] for name in _unique(row.method for row in suite.rows) if name in suite.methods]
    return tuple(MethodNote(info.name, info.title, info.formula, info.paper, info.summary) for info in found)


def _by_label(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.label].append(row)
    return groups


def _first_by(rows: Iterable[Row], key: Callable[[Row], str]) -> list[Row]:
    """The first row of each key, in order of appearance."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(key(row), row)
    return list(first.values())


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
