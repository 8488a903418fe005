"""Options of `run` for further seeds, and what is printed of them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.times import seconds
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.execution import Outcome
    from harness.separation import Goal

MARGIN = "0.5"


@dataclass(frozen=True)
class Further:
    """Whether to go on after the planned seeds, and how far."""

    until_separated: Annotated[
        bool,
        typer.Option(
            "--until-separated",
            help="After the planned seeds: further ones where they most likely split a tie, until every pair of rows "
            "is separated or equivalent, or the budget is gone.",
        ),
    ] = False
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time for further seeds: 2h, 90m, 1h30m; no trial begins after it."),
    ] = None
    margin: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS", help=f"Rows that differ by less (scores x 100) are equivalent; 0: none. [{MARGIN}]"
        ),
    ] = None

    def goal(self) -> Goal | None:
        """What was asked for; UserError for what makes no sense. None without --until-separated."""
        from harness.separation import Goal

        for name in ("budget", "margin"):
            if getattr(self, name) is not None and not self.until_separated:
                raise UserError(f"--{name} is for --until-separated; say that too, or leave it out.")
        if not self.until_separated:
            return None
        return Goal(
            _points(self.margin or MARGIN) / 100, None if self.budget is None else seconds("--budget", self.budget)
        )


def _points(text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = math.nan
    if not 0 <= points < 100:
        raise UserError(f"--margin {text}: give points from 0 to 100, such as 0.5.")
    return points


def print_separation(outcome: Outcome, margin: float) -> None:
    """A line for each table: how many of its pairs are decided."""
    for grid in dict.fromkeys(pair.grid for pair in outcome.pairs):
        counts = Counter(pair.state for pair in outcome.pairs if pair.grid == grid)
        why = f" ({outcome.ended})" if counts["open"] else ""
        typer.echo(
            f"{grid}: of {counts.total()} pairs {counts['separated']} separated, {counts['equivalent']} equivalent "
            f"within {100 * margin:g} points, {counts['open']} open{why}."
        )
