"""A suite's table as Markdown, and the README that holds it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from reports import formats
from reports.ranks import Standings, board_standings, unranked
from reports.rows import load_suite
from reports.terminal import caution
from reports.views import Board, BoardRow, SuiteView, suite_view

if TYPE_CHECKING:
    from harness.store import Store

START = re.compile(r"<!-- leaderboard:start suite=(?P<suite>\S+) -->\n")
END = "<!-- leaderboard:end -->"


def leaderboard_markdown(view: SuiteView, standings: Standings) -> str:
    """The first table of a suite with a line that says how to read it; ends with a newline."""
    board = view.main
    if board is None or not board.usual_n:
        return "No run of this suite has ended well yet.\n"
    tasks = [f"{task.title} ({task.metric})" for task in board.tasks]
    header = ["Method", *tasks, *formats.board_columns(board)]
    lines = [_line(header), "|".join(["", ":---", *["---:"] * (len(header) - 1), ""])]
    lines += [_contender(row, board, standings) for row in board.contenders]
    lines += [_line([f"{row.title} (control)", *formats.board_row(row, board)]) for row in board.controls]
    notes = [caution(view), *unranked(board, standings)]
    if view.failures:
        notes.append(f"{formats.plural(len(view.failures), 'trial')} did not end well.")
    if view.unfinished:
        notes.append(f"{formats.plural(view.unfinished, 'trial')} not run yet.")
    return "\n".join([*lines, "", " ".join(notes), ""])


def update_readme(readme: Path, store: Store) -> bool:
    """Put current tables between the README's markers; True if the file changed.

    A table belongs between `<!-- leaderboard:start suite=NAME -->` and `<!-- leaderboard:end -->`, each on a
    line of its own. UserError for a file without them, and for a suite that the database does not have.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {readme}: {error.strerror or error}; name the file to update.") from error
    parts = _between_markers(text, readme)
    updated = text
    for start, end, suite in reversed(parts):
        view = suite_view(load_suite(store, suite))
        standings = {} if view.main is None else board_standings(store, view, view.main)
        table = leaderboard_markdown(view, standings)
        updated = f"{updated[:start]}\n{table}\n{updated[end:]}"
    if updated != text:
        readme.write_text(updated, encoding="utf-8")
    return updated != text


def _between_markers(text: str, readme: Path) -> list[tuple[int, int, str]]:
    """(start, end, suite) of the text between each pair of markers."""
    parts = []
    for match in START.finditer(text):
        end = text.find(END, match.end())
        if end < 0 or START.search(text, match.end(), end):
            raise UserError(f"{readme}: '{match.group().strip()}' has no '{END}' after it; add one.")
        parts.append((match.end(), end, match["suite"]))
    if not parts:
        raise UserError(f"{readme} has no '<!-- leaderboard:start suite=NAME -->' line; add it and '{END}'.")
    return parts


def _contender(row: BoardRow, board: Board, standings: Standings) -> str:
    return _line([row.title, *formats.board_row(row, board, standings.get(row.label))])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escape(cell) for cell in cells)} |"


def _escape(text: str) -> str:
    """Text that stays text: no table bars, HTML, links, emphasis or line breaks."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))
