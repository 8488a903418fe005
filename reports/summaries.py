"""What the pages about several suites need of each: plain data, kept between builds for suites that did not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reports.cells import Span
from reports.judged import Judged
from reports.marks import Mark
from reports.names import anchor, row_file, run_file, suite_file
from reports.rows import PLANNED, Row
from reports.views import Board, BoardRow, SuiteView

NEWEST = 12
"""Runs that the overview names."""


@dataclass(frozen=True)
class Drawn:
    """A row's mark, as plain data."""

    colour: str
    path: str
    hollow: bool

    @property
    def fill(self) -> str:
        return "transparent" if self.hollow else self.colour


@dataclass(frozen=True)
class TableRow:
    """One row of one table of a suite, under the suite's own protocol. Scores as fractions."""

    suite: str
    suite_title: str
    grid: str
    label: str
    title: str
    method: str
    control: bool
    backbone: str
    mark: Drawn
    average: float | None
    spread: float | None
    n: int
    usual_n: int
    tasks: int
    missing: int
    """Tasks without a score."""
    low: float | None
    high: float | None
    best: int | None
    worst: int | None
    shared: bool
    reason: str
    """Why it has no rank."""
    params_low: int | None
    params_high: int | None
    train_flops: float | None
    train_seconds: float | None
    peak_memory_bytes: int | None
    adapter_bytes: int | None
    run: str | None
    """One of its ok runs."""

    @property
    def params(self) -> Span | None:
        if self.params_low is None or self.params_high is None:
            return None
        return Span(self.params_low, self.params_high)

    @property
    def link(self) -> str:
        return row_file(self.suite, self.label)

    @property
    def suite_link(self) -> str:
        return suite_file(self.suite)


@dataclass(frozen=True)
class Result:
    """One row of a suite on one task."""

    suite: str
    suite_title: str
    grid: str
    label: str
    title: str
    method: str
    control: bool
    task: str
    task_title: str
    version: int
    metric: str
    backbone: str
    sizes: str
    """Training rows, as text: "500", "all", or several."""
    mean: float
    spread: float | None
    n: int
    low: float | None
    high: float | None

    @property
    def link(self) -> str:
        return f"{row_file(self.suite, self.label)}#{anchor(self.grid, self.task)}"

    @property
    def suite_link(self) -> str:
        return suite_file(self.suite)


@dataclass(frozen=True)
class RunLine:
    """A run in a list of runs."""

    id: str
    suite: str
    suite_title: str
    label: str
    title: str
    task_title: str
    size: int
    seed: int
    status: str
    reason: str
    started_at: str
    score: float | None
    metric: str

    @property
    def link(self) -> str:
        return run_file(self.id)

    @property
    def suite_link(self) -> str:
        return suite_file(self.suite)


@dataclass(frozen=True)
class Picture:
    """A chart's parts."""

    title: str
    description: str
    svg: str
    note: str


@dataclass(frozen=True)
class SuiteSummary:
    """One suite."""

    name: str
    title: str
    description: str
    rank_by: str
    done: int
    unfinished: int
    failed: int
    seeds: int
    rows: int
    backbones: tuple[str, ...]
    table: tuple[TableRow, ...]
    """Of its first table, in its order."""
    other_tables: tuple[TableRow, ...]
    results: tuple[Result, ...]
    newest: tuple[RunLine, ...]
    picture: Picture | None

    @property
    def file(self) -> str:
        return suite_file(self.name)

    @property
    def podium(self) -> tuple[TableRow, ...]:
        """Contenders that may hold the first rank; without any rank the best three by their average."""
        contenders = [row for row in self.table if not row.control and row.average is not None]
        first = [row for row in contenders if row.best == 1]
        return tuple(first or contenders[:3])

    @property
    def ranked(self) -> int:
        """Contenders with a rank."""
        return sum(row.best is not None for row in self.table)

    @property
    def last_run(self) -> str:
        return self.newest[0].started_at if self.newest else ""


def to_plain(summary: SuiteSummary) -> dict[str, Any]:
    """A summary as JSON holds it."""
    return asdict(summary)


def from_plain(data: Mapping[str, Any]) -> SuiteSummary:
    """What `to_plain` took, also after a way through JSON."""
    rows = {
        name: tuple(TableRow(**{**row, "mark": Drawn(**row["mark"])}) for row in data[name])
        for name in ("table", "other_tables")
    }
    lists = {"backbones": tuple(data["backbones"]), **rows}
    lists["results"] = tuple(Result(**row) for row in data["results"])
    lists["newest"] = tuple(RunLine(**row) for row in data["newest"])
    picture = None if data["picture"] is None else Picture(**data["picture"])
    return SuiteSummary(**{**data, **lists, "picture": picture})


def summarise(
    view: SuiteView,
    marks: Mapping[str, Mark],
    judged: Mapping[tuple[str, str], Judged],
    picture: Picture | None,
) -> SuiteSummary:
    """The summary of a suite's view; judged: its boards by (grid, protocol)."""
    boards = [section.boards[0] for section in view.sections]
    tables = [_table_rows(view, board, marks, judged.get((board.grid, board.protocol))) for board in boards]
    known = [row for row in view.rows if row.status != PLANNED]
    newest = sorted(known, key=lambda row: (row.started_at or "", row.run_id or ""), reverse=True)
    return SuiteSummary(
        name=view.name,
        title=view.title,
        description=view.description,
        rank_by=view.rank_by,
        done=view.done,
        unfinished=view.unfinished,
        failed=len(view.failures),
        seeds=view.seeds,
        rows=len(view.labels),
        backbones=view.backbones,
        table=tables[0] if tables else (),
        other_tables=tuple(row for table in tables[1:] for row in table),
        results=_results(view, judged),
        newest=tuple(run_line(view, row) for row in newest[:NEWEST]),
        picture=picture,
    )


def run_line(view: SuiteView, row: Row) -> RunLine:
    """A run of the suite as a line."""
    return RunLine(
        id=row.run_id or "",
        suite=view.name,
        suite_title=view.title,
        label=row.label,
        title=row.title,
        task_title=row.task_title,
        size=row.train_size,
        seed=row.seed,
        status=row.status,
        reason=row.reason,
        started_at=row.started_at or "",
        score=row.score(view.rank_by),
        metric=row.metric,
    )


def _table_rows(
    view: SuiteView, board: Board, marks: Mapping[str, Mark], judged: Judged | None
) -> tuple[TableRow, ...]:
    members: dict[str, list[Row]] = {}
    for row in view.rows:
        if row.grid == board.grid:
            members.setdefault(row.label, []).append(row)
    standings = {} if judged is None else judged.standings
    begins = [standing.rank.best for standing in standings.values() if standing.rank is not None]
    return tuple(_table_row(view, board, row, members[row.label], marks, standings, begins) for row in board.rows)


def _table_row(
    view: SuiteView,
    board: Board,
    row: BoardRow,
    members: Sequence[Row],
    marks: Mapping[str, Mark],
    standings: Mapping[str, Any],
    begins: Sequence[int],
) -> TableRow:
    standing, mark, costs = standings.get(row.label), marks[row.label], row.costs
    rank = standing.rank if standing else None
    low, high = (standing.interval if standing else None) or (None, None)
    return TableRow(
        suite=view.name,
        suite_title=view.title,
        grid=board.grid,
        label=row.label,
        title=row.title,
        method=members[0].method,
        control=row.control,
        backbone=", ".join(dict.fromkeys(member.backbone for member in members)),
        mark=Drawn(mark.colour, mark.path, mark.hollow),
        average=row.average.mean,
        spread=row.average.spread,
        n=row.average.n,
        usual_n=board.usual_n,
        tasks=len(row.cells),
        missing=len(row.missing),
        low=low,
        high=high,
        best=rank.best if rank else None,
        worst=rank.worst if rank else None,
        shared=rank is not None and begins.count(rank.best) > 1,
        reason=standing.reason if standing else "a control" if row.control else "no run",
        params_low=costs.adapter_params.low if costs.adapter_params else None,
        params_high=costs.adapter_params.high if costs.adapter_params else None,
        train_flops=costs.train_flops,
        train_seconds=costs.train_seconds,
        peak_memory_bytes=costs.peak_memory_bytes,
        adapter_bytes=costs.adapter_bytes,
        run=next((member.run_id for member in members if member.status == "ok"), None),
    )


def _results(view: SuiteView, judged: Mapping[tuple[str, str], Judged]) -> tuple[Result, ...]:
    """Every row of every table on every task where it has a score."""
    first: dict[tuple[str, str, str], Row] = {}
    sizes: dict[tuple[str, str, str], set[int]] = {}
    for row in view.rows:
        place = (row.grid, row.label, row.task)
        first.setdefault(place, row)
        sizes.setdefault(place, set()).add(row.train_size)
    found = []
    for board in (section.boards[0] for section in view.sections):
        of_board = judged.get((board.grid, board.protocol))
        intervals = of_board.task_intervals() if of_board else {}
        for line in board.rows:
            for task, cell in zip(board.tasks, line.cells, strict=True):
                if cell.mean is None:
                    continue
                place = (board.grid, line.label, task.name)
                run = first[place]
                low, high = intervals.get((line.label, task.name), (None, None))
                found.append(
                    Result(
                        suite=view.name,
                        suite_title=view.title,
                        grid=board.grid,
                        label=line.label,
                        title=line.title,
                        method=run.method,
                        control=line.control,
                        task=task.name,
                        task_title=task.title,
                        version=run.task_version,
                        metric=task.metric,
                        backbone=run.backbone,
                        sizes=", ".join(f"{size:,}" if size else "all" for size in sorted(sizes[place])),
                        mean=cell.mean,
                        spread=cell.spread,
                        n=cell.n,
                        low=low,
                        high=high,
                    )
                )
    return tuple(found)
