"""Two axes around some points, for drawings written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from markupsafe import Markup

from reports.labels import text_width
from reports.plots.svg import path, tag, text, tick_text, ticks

WIDTH, DEPTH = 300.0, 170.0
"""Of the plot without axes, in pixels."""
TOP, BELOW = 8.0, 40.0

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Frame:
    """A plot's axes: ends in data units, and the left edge in pixels. y is stretched by `scale` first."""

    first: float
    last: float
    low: float
    high: float
    left: float
    scale: Callable[[float], float]

    def x(self, value: float) -> float:
        return self.left + (value - self.first) / (self.last - self.first) * WIDTH

    def y(self, value: float) -> float:
        return TOP + DEPTH * (1 - (self.scale(value) - self.low) / (self.high - self.low))


def axes_around(
    points: Points, x_title: str, y_title: str, log: bool = False, whole: bool = True
) -> tuple[Frame, Markup]:
    """The frame around some points, and its axes drawn. log: y by its logarithm; whole: x has whole numbers only."""
    xs, scale = [x for x, _ in points], math.log10 if log else float
    ys = [scale(y) for _, y in points]
    first, last = min(xs), max(max(xs), min(xs) + 1e-9)
    air = 0.05 * (max(ys) - min(ys)) or 0.5 * abs(max(ys)) or 0.5
    low, high = min(ys) - air, max(ys) + air
    marked = _log_ticks(low, high) if log else {tick: tick_text(tick) for tick in ticks(low, high)}
    left = 26 + max((text_width(name) for name in marked.values()), default=0.0)
    frame = Frame(first, last, low, high, left, scale)
    heights = {TOP + DEPTH * (1 - (value - low) / (high - low)): name for value, name in marked.items()}
    lines = "".join(path([(left, y), (left + WIDTH, y)]) for y in heights)
    parts = [tag("path", d=lines, class_="grid")] if lines else []
    parts += [text(name, left - 6, y, anchor="end", class_="soft small") for y, name in heights.items()]
    parts += [_across(first, last, left, x_title, whole), _title(y_title)]
    return frame, Markup("".join(parts))


@lru_cache
def _across(first: float, last: float, left: float, title: str, whole: bool) -> Markup:
    """The x axis, which many runs of a suite have in common."""
    bottom, frame = TOP + DEPTH, Frame(first, last, 0.0, 1.0, left, float)
    shown = [tick for tick in ticks(first, last, 6) if not whole or tick == round(tick)]
    marked = {frame.x(tick): tick_text(tick) for tick in shown}
    marks = "".join(path([(x, bottom), (x, bottom + 4)]) for x in marked)
    parts = [text(name, x, bottom + 12, anchor="middle", class_="soft small") for x, name in marked.items()]
    parts.append(tag("path", d=marks + path([(left, bottom), (left + WIDTH, bottom)]), class_="axis"))
    parts.append(text(title, left + WIDTH / 2, bottom + 30, anchor="middle", class_="soft"))
    return Markup("".join(parts))


@lru_cache
def _title(words: str) -> Markup:
    """What stands along the y axis."""
    turned = f"translate(9,{TOP + DEPTH / 2:.0f}) rotate(-90)"
    return tag("g", text(words, 0, 0, anchor="middle", class_="soft"), transform=turned)


def _log_ticks(low: float, high: float) -> dict[float, str]:
    """Powers of ten between two logarithms."""
    return {float(power): f"{10.0**power:g}" for power in range(math.ceil(low), math.floor(high) + 1)}
