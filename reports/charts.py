"""Score over parameters and over training size, drawn from views."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import numpy as np

from reports import formats
from reports.cells import Cell
from reports.labels import CHARACTER, GAP, HEIGHT, Anchor, place
from reports.marks import GREY
from reports.plots.drawing import Chart, Marks, Size, finish, says
from reports.views import Board, BoardRow, CurvePanel

Interval = tuple[float, float]
SCATTER = Size(640, 340)
PANEL = Size(300, 210)


@dataclass(frozen=True)
class _Point:
    """One mark with its name (empty: none), position in axis units, score and interval (None: not known)."""

    label: str
    title: str
    name: str
    x: float
    cell: Cell
    interval: Interval | None = None

    @property
    def words(self) -> str:
        """What it says on hover."""
        known = f", 95 % {formats.ends(*self.interval)}" if self.interval else ""
        return f"{self.title}: {formats.score(self.cell.mean)} {formats.spread(self.cell.spread)}{known}"


@dataclass(frozen=True)
class _Axis:
    """A horizontal axis: its ends, its ticks with their names, its title."""

    title: str
    low: float
    high: float
    ticks: Mapping[float, str]


def score_over_parameters(
    board: Board, marks: Marks, intervals: Mapping[str, Interval] | None = None
) -> tuple[Chart, list[BoardRow]] | None:
    """Average score over adapter parameters (log scale; zero has a tick of its own at the left), and the Pareto front.

    intervals: 95 %, by row label. The front is that of the averages as they are, without controls.

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
    points = _apart(
        [
            _Point(
                row.label,
                row.title,
                row.title,
                x if (x := logs[row.label]) is not None else axis.low + 0.3,
                row.average,
                (intervals or {}).get(row.label),
            )
            for row in drawn
        ],
        axis,
    )
    front = _front(drawn, points)
    told = "Average score and adapter parameters: " + "; ".join(
        f"{row.title} {formats.score(row.average.mean)}, {formats.span(row.costs.adapter_params)}" for row in drawn
    )
    if front:
        told += ". On the Pareto front: " + ", ".join(point.title for point in front)
    y_title = "Score × 100, ± 1 standard deviation" + (", thin: 95 %" if intervals else "")
    chart = _plot(points, axis, marks, SCATTER, y_title, [_front_line(front, axis)] if len(front) > 1 else [])
    return finish(chart, "Average score over adapter parameters", told, [p.title for p in points]), low_controls


def _apart(points: list[_Point], axis: _Axis) -> list[_Point]:
    """Points with as many parameters side by side, 7 pixels from each other."""
    step = 7 * (axis.high - axis.low) / SCATTER.width
    moved = []
    for index, point in enumerate(points):
        same = [k for k, other in enumerate(points) if abs(other.x - point.x) < step / 2]
        moved.append(replace(point, x=point.x + (same.index(index) - (len(same) - 1) / 2) * step))
    return moved


def _front(rows: Sequence[BoardRow], points: Sequence[_Point]) -> list[_Point]:
    """The contenders that no other beats in score for as many parameters, from few parameters to many."""
    from harness.stats.efficiency import on_front  # brings SciPy

    pairs = [(row, point) for row, point in zip(rows, points, strict=True) if not row.control]
    scores = np.array([row.average.mean for row, _ in pairs], float)
    costs = np.array([row.costs.adapter_params.high if row.costs.adapter_params else math.nan for row, _ in pairs])
    found = [point for (_, point), is_on in zip(pairs, on_front(scores, costs), strict=True) if is_on]
    return sorted(found, key=lambda point: (point.x, point.cell.mean))


def _front_line(front: Sequence[_Point], axis: _Axis) -> alt.Chart:
    """The best score that so many parameters have reached: steps from point to point, on to the right end."""
    steps = [(point.x, 100 * (point.cell.mean or 0.0)) for point in front]
    values = [{"x": x, "y": y, "order": order} for order, (x, y) in enumerate([*steps, (axis.high, steps[-1][1])])]
    line = alt.Chart(alt.Data(values=values)).mark_line(
        interpolate="step-after", strokeWidth=1.25, strokeDash=[4, 3], stroke=GREY
    )
    return line.encode(alt.X("x:Q"), alt.Y("y:Q"), alt.Order("order:Q"))


def size_curves(panel: CurvePanel, marks: Marks) -> Chart:
    """Score over training size on one task: mean of every row in a band of its spread; "all" stands last."""
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
        _Point(curve.label, curve.title, curve.title if point is curve.points[-1] else "", at[point.size], point.cell)
        for curve in panel.curves
        for point in curve.points
    ]
    told = "; ".join(
        f"{curve.title}: " + ", ".join(f"{formats.score(p.cell.mean)} at {ticks[at[p.size]]}" for p in curve.points)
        for curve in panel.curves
    )
    title = f"{panel.task.title} over training size"
    names = [point.title for point in points]
    bands = _bands(points, axis, marks)
    chart = _plot(points, axis, marks, PANEL, "Score × 100, ± 1 standard deviation", bands)
    return finish(chart, title, told, names, toggles=True)


def _bands(points: Sequence[_Point], axis: _Axis, marks: Marks) -> list[alt.Chart]:
    """A band of one spread each way and a line for each row of several points."""
    data = alt.Data(values=_data(points, marks, *_score_range(points)))
    base = alt.Chart(data).encode(alt.X("x:Q"), alt.Description("row:N"))
    colour, detail = alt.Color("colour:N", scale=None), alt.Detail("label:N")
    area = base.mark_area(opacity=0.13).encode(
        alt.Y("low:Q"), alt.Y2("high:Q"), alt.Fill("colour:N", scale=None), detail
    )
    return [area, base.mark_line(strokeWidth=1.75).encode(alt.Y("y:Q"), colour, detail)]


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


def _plot(
    points: Sequence[_Point], axis: _Axis, marks: Marks, size: Size, y_title: str, below: Sequence[alt.Chart]
) -> alt.LayerChart:
    """Points with their names, on top of the layers `below`; bars of spread and interval unless these are bands."""
    low, high = _score_range(points)
    x = alt.X(
        "x:Q",
        scale=alt.Scale(domain=[axis.low, axis.high], nice=False, zero=False),
        axis=alt.Axis(title=axis.title, values=list(axis.ticks), labelExpr=_tick_names(axis), grid=False),
    )
    y = alt.Y(
        "y:Q",
        scale=alt.Scale(domain=[low, high], nice=False, zero=False),
        axis=alt.Axis(title=y_title, tickCount=5),
    )
    base = alt.Chart(alt.Data(values=_data(points, marks, low, high))).encode(x, alt.Description("words:N"))
    colour = alt.Color("colour:N", scale=None)
    bars = []
    if size is SCATTER:
        for ends, width in ((("least", "most"), 1), (("low", "high"), 2.5)):
            rule = base.mark_rule(strokeWidth=width, opacity=0.6)
            bars.append(rule.encode(alt.Y(f"{ends[0]}:Q"), alt.Y2(f"{ends[1]}:Q"), colour))
    shape, fill = alt.Shape("path:N", scale=None), alt.Fill("fill:N", scale=None)
    dots = base.mark_point(size=90, opacity=1).encode(y, colour, fill, shape)
    layers = [*below, *bars, dots, *_names(points, axis, (low, high), size)]
    return alt.layer(*layers).properties(width=size.width, height=size.height)


def _data(points: Sequence[_Point], marks: Marks, bottom: float, top: float) -> list[dict[str, Any]]:
    """A record for each point; intervals end at the frame, which spans from `bottom` to `top`."""
    rows = []
    for index, point in enumerate(points):
        mark, mean, spread = marks[point.label], 100 * (point.cell.mean or 0.0), 100 * (point.cell.spread or 0.0)
        least, most = (min(max(100 * end, bottom), top) for end in point.interval) if point.interval else (mean, mean)
        looks = {"colour": mark.colour, "fill": mark.fill, "path": mark.path, "label": point.label}
        told = {"words": says(index, point.words), "row": says(index, point.title)}
        ends = {"low": mean - spread, "high": mean + spread, "least": least, "most": most}
        rows.append({"x": point.x, "y": mean, **ends, **looks, **told})
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
        text = names.mark_text(align=align, baseline="middle", fontSize=12, limit=220)  # type: ignore[arg-type]
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
