"""Small line drawings of one run's course, made without a chart library: there is one for every run.

The scale is told in words beside the drawing; the numbers stand in a table or in the description.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH = 320
HEIGHT = 120
MARGIN = 6
MOST = 120
"""Points drawn of one line; longer ones are thinned."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One line: its name, and its points in pixels as SVG writes them."""

    name: str
    points: str


@dataclass(frozen=True)
class Sketch:
    """Lines on one scale, with the ends of both axes."""

    lines: tuple[Line, ...]
    first: float
    last: float
    low: float
    high: float


def sketch(lines: Mapping[str, Points]) -> Sketch | None:
    """The drawing of some lines (x, y); points that are not finite are left out. None without two points of a line."""
    known = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)] for name, points in lines.items()
    }
    known = {name: _thinned(points) for name, points in known.items() if len(points) > 1}
    if not known:
        return None
    xs = [x for points in known.values() for x, _ in points]
    ys = [y for points in known.values() for _, y in points]
    first, last, low, high = min(xs), max(xs), min(ys), max(ys)
    across, up = (last - first) or 1.0, (high - low) or 1.0

    def pixels(points: Points) -> str:
        return " ".join(
            f"{MARGIN + (x - first) / across * (WIDTH - 2 * MARGIN):.1f},"
            f"{HEIGHT - MARGIN - (y - low) / up * (HEIGHT - 2 * MARGIN):.1f}"
            for x, y in points
        )

    return Sketch(tuple(Line(name, pixels(points)) for name, points in known.items()), first, last, low, high)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(points) <= MOST:
        return points
    step = (len(points) - 1) / (MOST - 1)
    return [points[round(index * step)] for index in range(MOST)]
