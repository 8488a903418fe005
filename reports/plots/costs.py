"""What the rows of a table cost, as bars beside each other: seconds and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt

from reports import formats
from reports.plots.drawing import Chart, Marks, finish, names_axis, says
from reports.views import Board, BoardRow

WIDTH = 300
BAR = 22

COSTS: tuple[tuple[str, Callable[[BoardRow], float | None], Callable[[float | None], str]], ...] = (
    ("Training seconds", lambda row: row.costs.train_seconds, formats.seconds),
    ("Peak memory", lambda row: row.costs.peak_memory_bytes, lambda value: formats.quantity(value, "B")),
)
"""Title, value and how it is printed."""


def cost_bars(board: Board, marks: Marks) -> tuple[Chart, ...]:
    """A chart for each cost that is known of two rows or more, in the order of the table."""
    charts = []
    for title, value, text in COSTS:
        known = [(row, cost) for row in board.rows if (cost := value(row)) is not None]
        if len(known) > 1:
            charts.append(_bars(title, known, text, marks))
    return tuple(charts)


def _bars(title: str, known: list[tuple[BoardRow, float]], text: Callable[[float | None], str], marks: Marks) -> Chart:
    data: list[dict[str, Any]] = [
        {
            "place": place,
            "cost": cost,
            "text": text(cost),
            "colour": marks[row.label].colour,
            "fill": 0.1 if marks[row.label].hollow else 0.75,
            "words": says(place, f"{row.title}: {text(cost)}"),
        }
        for place, (row, cost) in enumerate(known)
    ]
    names = [row.title for row, _ in known]
    top = max(cost for _, cost in known) or 1.0
    base = alt.Chart(alt.Data(values=data)).encode(
        alt.X("cost:Q", axis=None, scale=alt.Scale(domain=[0, top * 1.22], nice=False)),
        alt.Y("place:O", axis=alt.Axis(title=None, ticks=False, domain=False, labelExpr=names_axis(names))),
        alt.Description("words:N"),
    )
    bars = base.mark_bar(strokeWidth=1).encode(
        alt.Fill("colour:N", scale=None), alt.Stroke("colour:N", scale=None), alt.FillOpacity("fill:Q", scale=None)
    )
    numbers = base.mark_text(align="left", dx=5, fontSize=11).encode(alt.Text("text:N"))
    chart = alt.layer(bars, numbers).properties(width=WIDTH, height=BAR * len(known))
    told = f"{title}: " + "; ".join(f"{row.title} {text(cost)}" for row, cost in known)
    return finish(chart, title, told, names)
