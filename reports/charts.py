"""Charts as SVG text, drawn from views with Altair and vl-convert: no browser, no network.

Colours of text and lines come from the page's style sheet, so that a chart follows the light or dark page.
Points carry their row's mark (colour and shape) and their name; nothing is told by colour alone.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

from reports import formats
from reports.cells import Cell
from reports.labels import CHARACTER, GAP, HEIGHT, Anchor, place
from reports.marks import GREY, Mark
from reports.views import Board, BoardRow, CurvePanel

Marks = Mapping[str, Mark]
"""Row label -> mark."""


@dataclass(frozen=True)
class Size:
    """Inner width and height of a plot in pixels."""

    width: int
    height: int


SCATTER = Size(640, 340)
PANEL = Size(300, 210)


@dataclass(frozen=True)
class Chart:
    """A drawing with what a reader who cannot see it needs."""

    title: str
    description: str
    svg: str


@dataclass(frozen=True)
class _Point:
    """One mark with its name (empty: none), position in axis units, and spread of the score."""

    label: str
    name: str
    x: float
    cell: Cell


@dataclass(frozen=True)
class _Axis:
    """A horizontal axis: its ends, its ticks with their names, its title."""

    title: str
    low: float
    high: float
    ticks: Mapping[float, str]


def score_over_parameters(board: Board, marks: Marks) -> tuple[Chart, list[BoardRow]] | None:
    """Average score over adapter parameters (log scale; zero has a tick of its own at the left).

    A control far below the rest would squeeze them all: it is left out and returned beside the chart, to be
    named under it. None if no row has an average.
    """
    rows = [row for row in board.rows if row.average.mean is not None and row.costs.adapter_params is not None]
    if not rows:
        return None
    drawn, low_controls = _without_low_controls(rows)
    logs = {row.label: _log_parameters(row) for row in drawn}
    known = [value for value in logs.values() if value is not None] or [3.0]
    first, last = math.floor(min(known)), max(math.ceil(max(known)), math.floor(min(known)) + 1)
    zero = None if None not in logs.values() else first - 0.6
    ticks = {float(power): formats.short(10**power) for power in range(first, last + 1)}
    if zero is not None:
        ticks = {zero: "0", **ticks}
    axis = _Axis("Adapter parameters (log scale)", (zero if zero is not None else first) - 0.3, last + 0.1, ticks)
    points = [
        _Point(row.label, row.title, x if (x := logs[row.label]) is not None else axis.low + 0.3, row.average)
        for row in drawn
    ]
    told = "Average score and adapter parameters: " + "; ".join(
        f"{row.title} {formats.score(row.average.mean)}, {formats.span(row.costs.adapter_params)}" for row in drawn
    )
    chart = _plot(points, axis, marks, SCATTER, lines=False)
    return Chart("Average score over adapter parameters", told, _tidy(chart, "Average score")), low_controls


def size_curves(panel: CurvePanel, marks: Marks) -> Chart:
    """Score over training size on one task: mean and spread of every row; "all" stands last."""
    sizes = panel.sizes
    known = [math.log2(size) for size in sizes if size]
    after = (max(known) + 1.0) if known else 0.0
    at = {size: math.log2(size) if size else after for size in sizes}
    ticks = {at[size]: formats.train_size(size) for size in sizes}
    width = max(at.values()) - min(at.values()) or 1.0
    longest = max(len(curve.title) for curve in panel.curves)
    room = (CHARACTER * longest + 2 * GAP) / PANEL.width
    right = max(at.values()) + min(room, 0.6) * width / (1 - min(room, 0.6))
    axis = _Axis("Training rows (log scale)", min(at.values()) - 0.04 * width, right, ticks)
    points = [
        _Point(curve.label, curve.title if point is curve.points[-1] else "", at[point.size], point.cell)
        for curve in panel.curves
        for point in curve.points
    ]
    told = "; ".join(
        f"{curve.title}: " + ", ".join(f"{formats.score(p.cell.mean)} at {ticks[at[p.size]]}" for p in curve.points)
        for curve in panel.curves
    )
    title = f"{panel.task.title} over training size"
    return Chart(title, told, _tidy(_plot(points, axis, marks, PANEL, lines=True), title))


def _without_low_controls(rows: Sequence[BoardRow]) -> tuple[list[BoardRow], list[BoardRow]]:
    """Rows to draw, and controls that lie more than one range of the contenders below the lowest of them."""
    means = [row.average.mean or 0.0 for row in rows if not row.control]
    if not means:
        return list(rows), []
    floor = min(means) - max(max(means) - min(means), 0.02)
    low = [row for row in rows if row.control and (row.average.mean or 0.0) < floor]
    return [row for row in rows if row not in low], low


def _log_parameters(row: BoardRow) -> float | None:
    """log10 of the (geometric middle of the) adapter parameters; None for zero."""
    span = row.costs.adapter_params
    if span is None or span.low <= 0:
        return None
    return (math.log10(span.low) + math.log10(span.high)) / 2


def _plot(points: Sequence[_Point], axis: _Axis, marks: Marks, size: Size, lines: bool) -> alt.LayerChart:
    """Points with error bars of one spread each way, their names, and lines between the points of a row."""
    low, high = _score_range(points)
    x = alt.X(
        "x:Q",
        scale=alt.Scale(domain=[axis.low, axis.high], nice=False, zero=False),
        axis=alt.Axis(title=axis.title, values=list(axis.ticks), labelExpr=_tick_names(axis), grid=False),
    )
    y = alt.Y(
        "y:Q",
        scale=alt.Scale(domain=[low, high], nice=False, zero=False),
        axis=alt.Axis(title="Score × 100, ± 1 standard deviation", tickCount=5),
    )
    base = alt.Chart(alt.Data(values=_data(points, marks))).encode(x)
    colour = alt.Color("colour:N", scale=None)
    layers = [base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(alt.Y("low:Q"), alt.Y2("high:Q"), colour)]
    if lines:
        layers.append(base.mark_line(strokeWidth=1.5).encode(y, colour, alt.Detail("label:N")))
    shape, fill = alt.Shape("path:N", scale=None), alt.Fill("fill:N", scale=None)
    layers.append(base.mark_point(size=90, opacity=1).encode(y, colour, fill, shape))
    return alt.layer(*layers, *_names(points, axis, (low, high), size)).properties(width=size.width, height=size.height)


def _data(points: Sequence[_Point], marks: Marks) -> list[dict[str, Any]]:
    rows = []
    for point in points:
        mark, mean, spread = marks[point.label], 100 * (point.cell.mean or 0.0), 100 * (point.cell.spread or 0.0)
        looks = {"colour": mark.colour, "fill": mark.fill, "path": mark.path, "label": point.label}
        rows.append({"x": point.x, "y": mean, "low": mean - spread, "high": mean + spread, **looks})
    return rows


def _names(points: Sequence[_Point], axis: _Axis, scores: tuple[float, float], size: Size) -> list[alt.Chart]:
    """Layers with each named point's name beside it, and a hair line to it where it had to move away."""
    low, high = scores
    across, down = (axis.high - axis.low) / size.width, (high - low) / size.height
    anchors = [
        Anchor(point.name, (point.x - axis.low) / across, (high - 100 * (point.cell.mean or 0.0)) / down)
        for point in points
        if point.name
    ]
    rows = [
        {
            "name": placed.anchor.text,
            "leftward": placed.leftward,
            "moved": abs(placed.y - placed.anchor.y) > HEIGHT / 2,
            "x": axis.low + placed.x * across,
            "y": high - placed.y * down,
            "near": axis.low + (placed.x + (3 if placed.leftward else -3)) * across,
            "x2": axis.low + placed.anchor.x * across,
            "y2": high - placed.anchor.y * down,
        }
        for placed in place(anchors, size.width, size.height)
    ]
    lines = alt.Chart(alt.Data(values=[row for row in rows if row["moved"]]))
    layers = [
        lines.mark_rule(strokeWidth=0.75, opacity=0.5, stroke=GREY).encode(
            alt.X("near:Q"), alt.X2("x2:Q"), alt.Y("y:Q"), alt.Y2("y2:Q")
        )
    ]
    for leftward, align in ((False, "left"), (True, "right")):
        names = alt.Chart(alt.Data(values=[row for row in rows if row["leftward"] == leftward]))
        text = names.mark_text(align=align, baseline="middle", fontSize=12)  # type: ignore[arg-type]
        layers.append(text.encode(alt.X("x:Q"), alt.Y("y:Q"), alt.Text("name:N")))
    return layers


def _score_range(points: Sequence[_Point]) -> tuple[float, float]:
    """Lowest and highest end of an error bar, times 100, with some air; at least one point wide."""
    ends = [100 * ((p.cell.mean or 0.0) + sign * (p.cell.spread or 0.0)) for p in points for sign in (-1, 1)]
    air = max(0.08 * (max(ends) - min(ends)), 0.5)
    return min(ends) - air, max(ends) + air


def _tick_names(axis: _Axis) -> str:
    """A Vega expression from a tick's value to its name; both are ours, never a user's."""
    tests = (f"abs(datum.value - {value!r}) < 1e-6 ? '{name}' : " for value, name in axis.ticks.items())
    return "".join(tests) + "''"


def _tidy(chart: alt.LayerChart, title: str) -> str:
    """The chart as SVG to be put into a page: one labelled image, no background, no style of its own."""
    configured = (
        chart.configure(background="transparent", font="Helvetica, Arial, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(titleFontWeight="normal", titlePadding=8)
    )
    svg: str = vl_convert.vegalite_to_svg(
        configured.to_dict(validate=False)
    )  # twice as fast; the tests look at the result
    opening = re.match(r"<svg[^>]*?(width=\"[\d.]+\" height=\"[\d.]+\" viewBox=\"[^\"]*\")[^>]*>", svg)
    assert opening is not None
    body = svg[opening.end() :]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" aria-label="{html.escape(title)}" '
        f"{opening.group(1)}>{body}"
    )
