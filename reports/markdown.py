"""Tables as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from reports import formats
from reports.ranks import Standings, unranked
from reports.terminal import caution
from reports.views import Board, BoardRow, SuiteView

NO_RUN = "No run of this table has ended well yet.\n"


def leaderboard_markdown(view: SuiteView, board: Board | None, standings: Standings) -> str:
    """One table of a suite with a line that says how to read it; ends with a newline."""
    if board is None or not board.usual_n:
        return NO_RUN
    tasks = [f"{task.title} ({task.metric})" for task in board.tasks]
    header = ["Method", *tasks, *formats.board_columns(board)]
    rows = [_contender(row, board, standings) for row in board.contenders]
    rows += [[f"{row.title} (control)", *formats.board_row(row, board)] for row in board.controls]
    notes = [caution(view), *unranked(board, standings)]
    if view.failures:
        notes.append(f"{formats.plural(len(view.failures), 'trial')} did not end well.")
    if view.unfinished:
        notes.append(f"{formats.plural(view.unfinished, 'trial')} not run yet.")
    return f"{table(header, rows)}\n{' '.join(notes)}\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, its first column flush left, the others flush right; ends with a newline."""
    ruler = "|".join(["", ":---", *["---:"] * (len(header) - 1), ""])
    return "\n".join([_line(header), ruler, *map(_line, rows)]) + "\n"


def bullets(items: Iterable[str]) -> str:
    """A list; ends with a newline."""
    return "".join(f"- {item}\n" for item in items)


def escape(text: str) -> str:
    """Text that stays text: no table bars, HTML, links, emphasis or line breaks."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))


def _contender(row: BoardRow, board: Board, standings: Standings) -> list[str]:
    return [row.title, *formats.board_row(row, board, standings.get(row.label))]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(escape(cell) for cell in cells)} |"
