"""The standings of a board's rows: ranks and intervals, from the predictions behind its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.views import Board, SuiteView

if TYPE_CHECKING:
    from harness.standings import Place, Standing
    from harness.store import Store

Standings = Mapping[str, "Standing"]
"""By row label; controls have none."""

RANKS_SAY = (
    "Rows are in order of their average. 95 %: its interval, over seeds and test rows. Rank: the ranks that a row may "
    "hold, all of them right at once with 95 % confidence; rows that begin at one rank share it."
)


def suite_standings(store: Store, view: SuiteView) -> dict[tuple[str, str], Standings]:
    """Standings of all boards of a suite, by (grid, protocol)."""
    found: dict[tuple[str, str], Standings] = {}
    known: dict[_Asked, Standings] = {}
    for board in (board for section in view.sections for board in section.boards):
        asked = _asked(view, board)  # the same where two protocols choose the same epochs
        if asked not in known:
            known[asked] = _standings(store, asked)
        found[board.grid, board.protocol] = known[asked]
    return found


def first_standings(store: Store, view: SuiteView) -> dict[str, Standings]:
    """Standings of the first board of each grid, under the suite's own protocol, by grid."""
    return {section.grid: board_standings(store, view, section.boards[0]) for section in view.sections}


def row_standings(view: SuiteView, first: Mapping[str, Standings]) -> dict[tuple[str, str, str], Standing]:
    """Standings of the first boards by suite, grid and row label."""
    return {(view.name, grid, label): standing for grid, found in first.items() for label, standing in found.items()}


def board_standings(store: Store, view: SuiteView, board: Board) -> Standings:
    """Standings of a board's contenders under its protocol. Controls are no competitors and get no rank."""
    return _standings(store, _asked(view, board))


@dataclass(frozen=True)
class _Asked:
    """What the standings of a board depend on."""

    places: tuple[Place, ...]
    labels: tuple[str, ...]
    tasks: tuple[str, ...]


def _asked(view: SuiteView, board: Board) -> _Asked:
    from harness.standings import Place  # brings SciPy

    places = tuple(
        Place(row.label, row.task, row.seed, row.metric, row.run_id, epoch)
        for row in view.rows
        if row.grid == board.grid and row.run_id is not None and (epoch := row.epoch(board.protocol)) is not None
    )
    labels = tuple(row.label for row in board.contenders)
    return _Asked(places, labels, tuple(task.name for task in board.tasks))


def _standings(store: Store, asked: _Asked) -> Standings:
    from harness.standings import standings

    return standings(store, asked.places, asked.labels, asked.tasks) if asked.labels else {}


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
