"""Views in the terminal, with Rich. Names from the database are printed as they are, never read as markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from reports import formats
from reports.ranks import RANKS_SAY, Standings, unranked
from reports.views import Board, CurvePanel, SuiteView

if TYPE_CHECKING:
    from harness.records import Score
    from harness.store import RunDetails


def render_leaderboard(view: SuiteView, console: Console, standings: Mapping[str, Standings]) -> None:
    """Print a suite's tables under its own protocol, then what failed and what is not run yet.

    standings: of the first board of each grid.
    """
    console.print(Text(view.title, style="bold"))
    for section in view.sections:
        _print_board(section.boards[0], standings.get(section.grid, {}), console)
    for panel in view.panels:
        _print_whole(_sizes_table(panel), console)
    console.print(Text(caution(view), style="dim"))
    for row in view.failures:
        place = f"{row.title} on {row.task_title}, seed {row.seed}"
        console.print(Text(f"{row.status}: {place}: {row.reason} (run {row.run_id})", style="red"))
    if view.unfinished:
        console.print(Text(f"{formats.plural(view.unfinished, 'trial')} not run yet."))


def caution(view: SuiteView) -> str:
    """How the table is to be read."""
    seeds = "over one seed: no spread" if view.seeds == 1 else f"and spread over {formats.plural(view.seeds, 'seed')}"
    return f"Mean {seeds}, × 100, {view.rank_by} epoch. {RANKS_SAY}"


def render_run(details: RunDetails, console: Console) -> None:
    """Print one run: what it was, how it ended, scores per epoch, costs."""
    record, trial = details.record, details.record.trial
    facts = {
        "run": details.id,
        "status": f"{record.status}: {record.reason}" if record.reason else record.status,
        "trial": trial.id,
        "task": f"{trial.task} (version {trial.task_version})",
        "method": trial.method,
        "parameters": _settings(trial.parameters),
        "recipe": _settings(vars(trial.recipe)),
        "backbone": f"{trial.backbone.name} @ {trial.backbone.revision}",
        "train size": formats.train_size(trial.train_size),
        "start": str(trial.start),
        "seed": str(trial.seed),
        "started": record.started_at.isoformat(timespec="seconds"),
        "stack": details.stack or formats.DASH,
        "stands in": ", ".join(f"{suite}/{grid}/{label}" for suite, grid, label in details.members) or formats.DASH,
        "commit": _commit(details),
    }
    if details.origin:
        facts["submitted by"] = details.origin
    if head := record.provenance.get("start_head"):
        facts["head at the start"] = head
    if record.parameters is not None:
        counts = record.parameters
        facts["trainable"] = f"adapter {formats.count(counts.adapter)} + head {formats.count(counts.head)}"
        facts["total"] = formats.count(counts.total)
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in {**facts, **_costs(details)}.items():
        table.add_row(Text(name, style="dim"), Text(value))
    console.print(table)
    if record.scores:
        _print_whole(_scores_table(record.scores), console)
    if record.traceback:
        console.print(Text(record.traceback, style="red"))


def _print_board(board: Board, standings: Standings, console: Console) -> None:
    table = Table(title=Text(board.grid), title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("Method", no_wrap=True)
    for name in (*(task.title for task in board.tasks), *formats.board_columns(board)):
        table.add_column(Text(name), justify="right")
    for row in board.contenders:
        table.add_row(*map(Text, [row.title, *formats.board_row(row, board, standings.get(row.label))]))
    if board.controls:
        table.add_row("Controls", style="dim italic")
    for row in board.controls:
        table.add_row(*map(Text, [row.title, *formats.board_row(row, board)]), style="dim")
    _print_whole(table, console)
    for line in unranked(board, standings):
        console.print(Text(line, style="dim"))


def _print_whole(table: Table, console: Console) -> None:
    """Print a table at its natural width: numbers cut short by a narrow window or a pipe would be wrong numbers."""
    natural = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    before, console.width = console.width, max(console.width, natural)
    console.print(table, crop=False)
    console.width = before


def _sizes_table(panel: CurvePanel) -> Table:
    """Scores by training size; every cell names its number of seeds only where it is one."""
    title = Text(f"{panel.task.title} over training size ({panel.grid})")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("Method", no_wrap=True)
    for size in panel.sizes:
        table.add_column(formats.train_size(size), justify="right")
    for curve in panel.curves:
        cells = [curve.at(size) for size in panel.sizes]
        table.add_row(Text(curve.title), *(Text(formats.cell(cell, cell.n)) for cell in cells))
    return table


def _scores_table(scores: Sequence[Score]) -> Table:
    """A row for each epoch, a column for each split and metric, scores times 100."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("epoch", justify="right")
    columns = list(dict.fromkeys((score.split, score.metric) for score in scores))
    for split, metric in columns:
        table.add_column(Text(f"{split} {metric}"), justify="right")
    values = {(score.epoch, score.split, score.metric): score.value for score in scores}
    for epoch in sorted({score.epoch for score in scores}):
        table.add_row(str(epoch), *(formats.score(values.get((epoch, *column))) for column in columns))
    return table


def _costs(details: RunDetails) -> dict[str, str]:
    """The measured costs and perplexities by name; what was not measured is left out."""
    shown = {name: formats.quantity(value) for name, value in vars(details.record.costs).items()}
    shown |= {name: formats.perplexity(value) for name, value in vars(details.record.forgetting).items()}
    return {name.replace("_", " "): text for name, text in shown.items() if text != formats.DASH}


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items()) or formats.DASH


def _commit(details: RunDetails) -> str:
    provenance = details.record.provenance
    changed = " (working tree changed)" if provenance.get("dirty") else ""
    return f"{provenance.get('commit') or formats.DASH}{changed}"
