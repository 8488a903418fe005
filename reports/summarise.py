"""From a suite's view and its statistics to its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.judged import Judged
from reports.marks import Mark
from reports.rows import PLANNED, Row
from reports.summaries import NEWEST, Drawn, Picture, Result, RunLine, SuiteSummary, TableRow
from reports.views import Board, BoardRow, SuiteView


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
        intervals = of_board.task_intervals if of_board else {}
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
