"""The critical-difference diagram: average ranks over tasks, and which of them Nemenyi's test does not tell apart."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from reports.plots.drawing import Chart, Marks, finish, says
from reports.views import Board, BoardRow

WIDTH = 640
LINE = 22
"""Pixels from one name to the next."""
INK = "#808792"
HALF = 0.5
AXIS = "Average rank over tasks (1 is best)"


def critical_differences(board: Board, marks: Marks) -> Chart | None:
    """The diagram of a board's contenders that have a score on every task; None below three rows or two tasks."""
    from harness.stats.friedman import critical_difference  # brings SciPy

    rows = [row for row in board.contenders if not row.missing]
    if len(rows) < 3 or len(board.tasks) < 2:
        return None
    found = critical_difference(np.array([[cell.mean for cell in row.cells] for row in rows], float))
    order = sorted(range(len(rows)), key=lambda index: (found.ranks[index], index))
    ranked = [(rows[index], found.ranks[index]) for index in order]
    groups = [tuple(order.index(index) for index in group) for group in found.groups]
    told = "Average ranks over tasks, 1 the best: " + "; ".join(f"{row.title} {rank:.2f}" for row, rank in ranked)
    told += f". Ranks closer than {found.difference:.2f} are not told apart; Friedman's test: p = {found.p_value:.3f}"
    chart = _draw(ranked, groups, found.difference, marks)
    return finish(chart, "Critical-difference diagram", told, [row.title for row, _ in ranked])


def _draw(
    ranked: list[tuple[BoardRow, float]], groups: list[tuple[int, ...]], difference: float, marks: Marks
) -> alt.LayerChart:
    """Names at both sides, the better half on the left, each with a line up to its rank; bars join what is alike."""
    count, left = len(ranked), (len(ranked) + 1) // 2
    under = 10.0 + 8 * len(groups)
    axis = alt.Axis(orient="top", title=AXIS, values=list(range(1, count + 1)), format="d", grid=False)
    x = alt.X("x:Q", scale=alt.Scale(domain=[HALF, count + HALF], nice=False, zero=False), axis=axis)
    height = under + LINE * left
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, height], reverse=True, nice=False), axis=None)
    bars = [
        {"x": ranked[group[0]][1] - 0.04, "x2": ranked[group[-1]][1] + 0.04, "y": 8 + 8 * k}
        for k, group in enumerate(groups)
    ]
    names = [_name(ranked, place, left, under, marks) for place in range(count)]
    joined = alt.Chart(alt.Data(values=bars)).mark_rule(strokeWidth=4, stroke=INK, strokeCap="round")
    layers = [*_lines(names, x, y), joined.encode(x, y, alt.X2("x2:Q")), *_ruler(difference, x, y)]
    for is_left, align, step in ((True, "right", -1), (False, "left", 1)):
        some = alt.Chart(alt.Data(values=[name for name in names if name["left"] == is_left])).encode(x, y)
        dots = some.mark_point(size=70, opacity=1, xOffset=8 * step).encode(
            alt.Shape("path:N", scale=None),
            alt.Fill("fill:N", scale=None),
            alt.Color("colour:N", scale=None),
            alt.Description("words:N"),
        )
        text = some.mark_text(align=align, dx=18 * step, fontSize=12, limit=220)  # type: ignore[arg-type]
        layers += [dots, text.encode(alt.Text("text:N"))]
    return alt.layer(*layers).properties(width=WIDTH, height=height)


def _name(ranked: list[tuple[BoardRow, float]], place: int, left: int, under: float, marks: Marks) -> dict[str, Any]:
    """Where a row's name goes, and how it looks."""
    row, rank = ranked[place]
    is_left = place < left
    mark = marks[row.label]
    return {
        "x": HALF if is_left else len(ranked) + HALF,
        "y": under + LINE * ((place if is_left else len(ranked) - 1 - place) + HALF),
        "rank": rank,
        "left": is_left,
        "text": f"{row.title}  {rank:.2f}",
        "words": says(place, f"{row.title}: average rank {rank:.2f}"),
        "path": mark.path,
        "fill": mark.fill,
        "colour": mark.colour,
    }


def _lines(names: list[dict[str, Any]], x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """From each name across to its rank, and up to the axis."""
    across = [{**name, "x2": name["rank"], "y2": name["y"]} for name in names]
    up = [{**name, "x": name["rank"], "x2": name["rank"], "y2": 0} for name in names]
    rules = alt.Chart(alt.Data(values=across + up)).mark_rule(strokeWidth=1.25)
    colour = alt.Color("colour:N", scale=None)
    return [rules.encode(x, y, alt.X2("x2:Q"), alt.Y2("y2:Q"), colour, alt.Description("words:N"))]


def _ruler(difference: float, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """How far apart two ranks have to be, as a bar above the axis with its number."""
    base = alt.Chart(alt.Data(values=[{"x": 1.0, "x2": 1.0 + difference, "y": -46.0, "text": f"{difference:.2f}"}]))
    name = base.mark_text(align="right", dx=-6, fontSize=11).encode(x, y, alt.Text("text:N"))
    return [base.mark_rule(strokeWidth=2, stroke=INK).encode(x, y, alt.X2("x2:Q")), name]
