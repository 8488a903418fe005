"""Curves of a task's rows: score over training size, and over the budget of a tuning search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from reports import formats
from reports.bands import MOST_CURVES
from reports.cells import Cell
from reports.efficiency import BudgetPanel
from reports.labels import GAP, HEIGHT, stacked, text_width
from reports.plots.chart import Chart
from reports.plots.svg import shortened, ticks
from reports.plots.vega import Axis, Marks, Name, Plane, Point, Size, draw, score_axis
from reports.views import CurvePanel

SIZE = Size(280, 220)
NAME = 108.0
"""Pixels of a name at most."""
KEY = 20.0
"""Pixels from the plot to the symbol beside a name."""
MOST_NAMED = 10
"""Curves in colour with their names, those that end highest; the others lie behind them in grey."""
Bands = Mapping[tuple[str, int], tuple[float, float]]
"""95 % interval of a score by row label and training size."""


def size_curves(panel: CurvePanel, marks: Marks, bands: Bands) -> Chart:
    """Score over training size on one task: every row's mean over seeds, with bands; "all" stands last."""
    at, names = _sizes(panel.sizes)
    points = []
    for curve in panel.curves:
        for found in curve.points:
            hover = f"{curve.title}, {names[found.size]} rows: {_told(found.cell)}"
            ends = bands.get((curve.label, found.size))
            if ends is not None:
                hover += f" (95 %: {formats.score(ends[0])} to {formats.score(ends[1])})"
            y = 100 * (found.cell.mean or 0.0)
            band = None if ends is None else (100 * ends[0], 100 * ends[1])
            points.append(Point(curve.label, at[found.size], y, hover, interval=band))
    width = (max(at.values()) - min(at.values())) or 1.0
    ends_at = (min(at.values()) - 0.04 * width, max(at.values()) + 0.02 * width)
    axis = Axis("Training rows (log scale)", *ends_at, _thinned({at[size]: names[size] for size in panel.sizes}))
    told = "; ".join(
        f"{curve.title}: " + ", ".join(f"{formats.score(p.cell.mean)} at {names[p.size]}" for p in curve.points)
        for curve in panel.curves
    )
    title = f"{panel.task.title} over training size"
    caption = "Mean over seeds." + (
        f" Bands: 95 % intervals{' of the best' if len(panel.curves) > MOST_CURVES else ''}." if bands else ""
    )
    name = f"size {panel.grid} {panel.task.name}"
    titles = {curve.label: curve.title for curve in panel.curves}
    return _chart(points, axis, titles, marks, (name, title, told, caption))


def budget_curves(panel: BudgetPanel, marks: Marks) -> Chart:
    """Expected best score over the number of tuning trials on one task."""
    most = len(panel.budgets)
    marked = {1, *range(0, most + 1, max(1, most // 8))}
    points = [
        Point(
            curve.label,
            float(k),
            100 * value,
            f"{curve.title}, best of {k}: {formats.score(value)}",
            shown=k in marked or k == len(curve.expected),
        )
        for curve in panel.curves
        for k, value in enumerate(curve.expected, start=1)
    ]
    steps = [tick for tick in ticks(0, max(most, 2), 6) if tick == int(tick) and 1 <= tick <= most]
    names = {float(tick): f"{tick:.0f}" for tick in ([1.0, *steps] if 1.0 not in steps else steps)}
    axis = Axis("Tuning trials", 0.96 - 0.03 * most, most + 0.02 * most + 0.02, names)
    told = "; ".join(
        f"{curve.title}: " + ", ".join(f"{formats.score(value)} of {k}" for k, value in enumerate(curve.expected, 1))
        for curve in panel.curves
    )
    title = f"{panel.task.title} over tuning trials"
    caption = "Expected test score of the trial that is best on select among as many."
    titles = {curve.label: curve.title for curve in panel.curves}
    return _chart(points, axis, titles, marks, (f"budget {panel.task.name}", title, told, caption))


def _chart(
    points: Sequence[Point],
    axis: Axis,
    titles: Mapping[str, str],
    marks: Marks,
    words: tuple[str, str, str, str],
) -> Chart:
    """Curves with their names at the right. words: name, title, description, caption."""
    last = {point.label: point for point in points}
    best = sorted(last, key=lambda label: -last[label].y)
    scores = score_axis("Score × 100", points)
    names, keys = _legend([last[label] for label in best[:MOST_NAMED]], titles, axis, scores)
    faint = frozenset(best[MOST_NAMED:])
    plane = Plane(points, names, axis, scores, joined=True, faint=faint, keys=keys)
    found = draw(plane, marks, SIZE)
    name, title, told, caption = words
    if len(best) > MOST_NAMED:
        caption += f" In colour: the {MOST_NAMED} rows that end highest."
    # The engine measures text in a narrower font than some readers have.
    width = found.left + SIZE.width + KEY + GAP + 2 + max(text_width(end.text) for end in names)
    return Chart(name, title, told, caption, max(found.width, width), found.height, found.body)


def _legend(ends: Sequence[Point], titles: Mapping[str, str], x: Axis, y: Axis) -> tuple[list[Name], list[Point]]:
    """Names in a column at the right, each as near to the end of its curve as can be, and a symbol beside each."""
    across, up = (x.high - x.low) / SIZE.width, (y.high - y.low) / SIZE.height
    middles = [SIZE.height - y.pixel(point.y, SIZE.height) for point in ends]
    names, keys = [], []
    for point, height in zip(ends, stacked(middles, HEIGHT, SIZE.height), strict=True):
        left, level = x.high + KEY * across, y.high - height * up
        keys.append(Point(point.label, left, level, titles[point.label]))
        names.append(Name(shortened(titles[point.label], NAME), left + GAP * across, level))
    return names, keys


def _sizes(sizes: Sequence[int]) -> tuple[dict[int, float], dict[int, str]]:
    """Where each training size is on a log scale, "all" (0) one doubling after the last, and its name."""
    known = [math.log2(size) for size in sizes if size]
    after = (max(known) + 1.0) if known else 0.0
    return (
        {size: math.log2(size) if size else after for size in sizes},
        {size: formats.train_size(size) for size in sizes},
    )


def _thinned(names: Mapping[float, str]) -> dict[float, str]:
    """Without the ticks whose names would touch; the last stays."""
    width = (max(names) - min(names)) or 1.0
    kept: dict[float, str] = {}
    before = math.inf
    for value, name in reversed(list(names.items())):
        room = 7.0 * len(name) / SIZE.width * width
        if before - value >= room:
            kept[value] = name
            before = value
    return dict(reversed(kept.items()))


def _told(cell: Cell) -> str:
    spread = "" if cell.spread is None else f" ± {100 * cell.spread:.1f}"
    return f"{formats.score(cell.mean)}{spread}"
