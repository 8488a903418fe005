"""The standings of a board's rows: ranks and intervals, from the predictions behind its scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.predictions import StoredPredictions
from reports.views import Board, SuiteView

if TYPE_CHECKING:
    from harness.standings import Standing
    from harness.store import Store

Standings = Mapping[str, "Standing"]
"""By row label; controls have none."""

RANKS_SAY = (
    "Rows are in order of their average. 95 %: its interval, over seeds and test rows. Rank: the ranks that a row may "
    "hold, all of them right at once with 95 % confidence; rows that begin at one rank share it."
)


def first_standings(store: Store, view: SuiteView) -> dict[str, Standings]:
    """Standings of the first board of each grid, under the suite's own protocol, by grid."""
    stored = StoredPredictions(store)
    return {section.grid: board_standings(stored, view, section.boards[0]) for section in view.sections}


def row_standings(view: SuiteView, first: Mapping[str, Standings]) -> dict[tuple[str, str, str], Standing]:
    """Standings of the first boards by suite, grid and row label."""
    return {(view.name, grid, label): standing for grid, found in first.items() for label, standing in found.items()}


def board_standings(stored: StoredPredictions, view: SuiteView, board: Board) -> Standings:
    """Standings of a board's contenders under its protocol. Controls are no competitors and get no rank."""
    from reports.judged import judge_board  # brings SciPy

    return judge_board(stored, view, board).standings if board.contenders else {}


def shares_rank(found: Standings, label: str) -> bool:
    """Whether another row begins at the row's rank."""
    begins = [standing.rank.best for standing in found.values() if standing.rank is not None]
    rank = found[label].rank if label in found else None
    return rank is not None and begins.count(rank.best) > 1


def unranked(board: Board, found: Standings) -> list[str]:
    """One line for each reason why rows have no rank: "no rank: LoRA, FT (one seed: ...)"."""
    by_reason: dict[str, list[str]] = {}
    for row in board.contenders:
        if row.label in found and found[row.label].rank is None:
            by_reason.setdefault(found[row.label].reason, []).append(row.title)
    return [f"No rank: {', '.join(titles)} ({reason})." for reason, titles in by_reason.items()]
