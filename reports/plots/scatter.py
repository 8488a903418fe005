"""Average score over adapter parameters, with the Pareto front."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.stats.efficiency import on_front
from reports import formats
from reports.labels import Anchor, Box, around, place, text_width
from reports.plots.chart import Chart
from reports.plots.svg import shortened
from reports.plots.vega import Axis, Ends, Marks, Name, Plane, Point, Size, draw, score_axis
from reports.views import Board, BoardRow

if TYPE_CHECKING:
    from harness.standings import Standing

SIZE = Size(660, 380)
NAME = 150.0
"""Pixels of a name at most."""
NAMES = 1500.0
"""Pixels of all names; rows beyond, those neither on the front nor among the best, are named on hover only."""
CAPTION = (
    "Thick bars: ± 1 standard deviation over seeds; thin bars: 95 % interval, as far as it fits. Dashed line: the "
    "Pareto front of the averages, the rows that no other row beats with as few parameters."
)


Scatter = tuple[Chart, list[BoardRow]]
"""The plot, and the rows that lie too far below it."""


def score_over_parameters(board: Board, marks: Marks, standings: Mapping[str, Standing]) -> Scatter | None:
    """Average score over adapter parameters (log scale; zero has a tick of its own at the left).

    A control far below the rest would squeeze them all: it is left out and returned beside the chart, to be
    named under it. None if no row has an average. standings: intervals by row label, those that are known.
    """
    rows = [row for row in board.rows if row.average.mean is not None and row.costs.adapter_params is not None]
    if not rows:
        return None
    drawn, low_controls = _without_low_controls(rows)
    axis, at = _parameter_axis(drawn)
    front = _front_rows(drawn)
    points = [_point(row, at[row.label], standings.get(row.label), row in front) for row in drawn]
    scores = score_axis("Average score × 100", points)
    corners = [(at[row.label], _times_100(row.average.mean)) for row in front]
    corners += [(axis.high, corners[-1][1])] if corners else []
    names = _names(_to_name(drawn, front), points, corners, axis, scores)
    plane = Plane(points, names, axis, scores, front=corners)
    found = draw(plane, marks, SIZE)
    told = "; ".join(point.hover for point in points)
    title = "Average score over adapter parameters"
    return Chart("score-over-parameters", title, told, CAPTION, found.width, found.height, found.body), low_controls


def _without_low_controls(rows: Sequence[BoardRow]) -> tuple[list[BoardRow], list[BoardRow]]:
    """Rows to draw, and controls that lie more than one range of the contenders below the lowest of them."""
    means = [row.average.mean or 0.0 for row in rows if not row.control]
    if not means:
        return list(rows), []
    floor = min(means) - max(max(means) - min(means), 0.02)
    low = [row for row in rows if row.control and (row.average.mean or 0.0) < floor]
    return [row for row in rows if row not in low], low


def _parameter_axis(rows: Sequence[BoardRow]) -> tuple[Axis, dict[str, float]]:
    """The axis, and where each row is on it."""
    logs = {row.label: _log_parameters(row) for row in rows}
    known = [value for value in logs.values() if value is not None] or [3.0]
    first, last = math.floor(min(known)), max(math.ceil(max(known)), math.floor(min(known)) + 1)
    zero = None if None not in logs.values() else first - 0.6
    ticks = {float(power): formats.short(10**power) for power in range(first, last + 1)}
    if zero is not None:
        ticks = {zero: "0", **ticks}
    low = first if zero is None else zero
    axis = Axis("Adapter parameters (log scale)", low - 0.3, last + 0.1, ticks)
    return axis, {label: low if value is None else value for label, value in logs.items()}


def _log_parameters(row: BoardRow) -> float | None:
    """log10 of the (geometric middle of the) adapter parameters; None for zero."""
    span = row.costs.adapter_params
    if span is None or span.low <= 0:
        return None
    return (math.log10(span.low) + math.log10(span.high)) / 2


def _front_rows(rows: Sequence[BoardRow]) -> list[BoardRow]:
    """Contenders on the front of average score against parameters, fewest parameters first."""
    members = [row for row in rows if not row.control]
    costs = [float(row.costs.adapter_params.high) if row.costs.adapter_params else math.nan for row in members]
    known = on_front(np.array([row.average.mean or 0.0 for row in members]), np.array(costs))
    found = [(cost, index) for index, cost in enumerate(costs) if known[index]]
    return [members[index] for _, index in sorted(found)]


def _point(row: BoardRow, x: float, standing: Standing | None, on_the_front: bool) -> Point:
    mean, spread = _times_100(row.average.mean), row.average.spread
    interval = standing.interval if standing else None
    parts = [f"{row.title}: {formats.score(row.average.mean)}"]
    if spread is not None:
        parts.append(f"± {100 * spread:.1f}")
    if interval is not None:
        parts.append(f"(95 %: {formats.score(interval[0])} to {formats.score(interval[1])})")
    hover = " ".join(parts) + f", {formats.span(row.costs.adapter_params)} adapter parameters"
    return Point(
        row.label,
        x,
        mean,
        hover + (", on the front" if on_the_front else ""),
        None if spread is None else (mean - 100 * spread, mean + 100 * spread),
        None if interval is None else _hundredfold(interval),
    )


def _to_name(rows: Sequence[BoardRow], front: Sequence[BoardRow]) -> list[BoardRow]:
    best = sorted(rows, key=lambda row: (row not in front, -(row.average.mean or 0.0)))
    widths = itertools.accumulate(text_width(shortened(row.title, NAME)) for row in best)
    return [row for row, width in zip(best, widths, strict=True) if width <= NAMES]


def _names(
    rows: Sequence[BoardRow], points: Sequence[Point], corners: Sequence[tuple[float, float]], x: Axis, y: Axis
) -> list[Name]:
    """Each name beside its point, off the other points and the front, with a hair line where it had to move away."""
    pixels = {p.label: (x.pixel(p.x, SIZE.width), SIZE.height - y.pixel(p.y, SIZE.height)) for p in points}
    anchors = [Anchor(shortened(row.title, NAME), *pixels[row.label]) for row in rows]
    steps = [(x.pixel(one, SIZE.width), SIZE.height - y.pixel(two, SIZE.height)) for one, two in corners]
    obstacles = [around(*pixel) for pixel in pixels.values()]
    for (left, level), (right, above) in itertools.pairwise(steps):
        obstacles += [Box(left, level - 1, right, level + 1), Box(right - 1, min(above, level), right + 1, level)]
    across, up = (x.high - x.low) / SIZE.width, (y.high - y.low) / SIZE.height
    found = []
    for placed in place(anchors, SIZE.width, SIZE.height, obstacles):
        height = y.high - placed.y * up
        near = x.low + (placed.x + (3 if placed.leftward else -3)) * across
        target = (x.low + placed.anchor.x * across, y.high - placed.anchor.y * up)
        moved = abs(placed.y - placed.anchor.y) > 7
        line = (near, height, *target) if moved else None
        found.append(Name(placed.anchor.text, x.low + placed.x * across, height, placed.leftward, line))
    return found


def _times_100(value: float | None) -> float:
    return 100 * (value or 0.0)


def _hundredfold(ends: Ends) -> Ends:
    return 100 * ends[0], 100 * ends[1]
