"""The course of one run: scores after each epoch, training loss after each step. There are two for every run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from reports.labels import HEIGHT, stacked, text_width
from reports.marks import COLOURS, SHAPES, Mark
from reports.plots.chart import Chart
from reports.plots.frame import BELOW, DEPTH, TOP, WIDTH, Frame, axes_around
from reports.plots.svg import path, shortened, symbol, tag, text

NAME = 130.0
"""Pixels of a line's name at most."""
BINS = 150
"""A longer loss curve is drawn as the mean of so many stretches, with a band from the least to the largest loss."""
LOG = 50.0
"""Losses whose ends are further apart than this factor are drawn on a logarithmic scale."""
MOST_LINES = 8

Points = Sequence[tuple[float, float]]


def score_course(lines: Mapping[str, Points]) -> Chart | None:
    """Scores over epochs, a line for each split; None without two points of one. A split named "select ..." chooses."""
    known = {name: _finite(points) for name, points in lines.items()}
    known = {name: points for name, points in known.items() if len(points) > 1}
    if not known:
        return None
    shown = {name: [(x, 100 * y) for x, y in known[name]] for name in list(known)[:MOST_LINES]}
    points = [point for line in shown.values() for point in line]
    frame, axes = axes_around(points, "Epoch", "Score × 100")
    marks = {name: Mark(COLOURS[i], SHAPES[i]) for i, name in enumerate(shown)}
    parts = [axes]
    chosen = next((best for name in known if name.split()[0] == "select" and (best := _best(known[name]))), None)
    if chosen is not None:
        x = frame.x(chosen)
        parts.append(tag("path", d=path([(x, TOP), (x, TOP + DEPTH)]), class_="chosen"))
    for name, line in shown.items():
        drawn = path((frame.x(x), frame.y(y)) for x, y in line)
        parts.append(tag("path", d=drawn, class_="course", stroke=marks[name].colour))
        parts += [
            symbol(marks[name], frame.x(x), frame.y(y), f"{name}, epoch {x:g}: {y:.1f}", radius=3.5) for x, y in line
        ]
    parts.append(_names(frame, {name: line[-1][1] for name, line in shown.items()}, marks))
    told = "; ".join(f"{name}: " + ", ".join(f"{y:.1f} after {x:g}" for x, y in line) for name, line in shown.items())
    caption = "" if chosen is None else f"Dotted: epoch {chosen:g}, which select chooses."
    width = frame.left + WIDTH + 12 + max(text_width(shortened(name, NAME)) for name in shown)
    return Chart("scores", "Scores over epochs", told, caption, width, TOP + DEPTH + BELOW, Markup("".join(parts)))


def loss_course(losses: Points) -> Chart | None:
    """Training loss over steps; None without two that are finite."""
    known = _finite(losses)
    if len(known) < 2:
        return None
    binned = len(known) > BINS
    line, low, high = _bins(known)
    values = [y for _, y in known]
    frame, axes = axes_around(known, "Step", "Training loss", log=min(values) > 0 and max(values) > LOG * min(values))
    parts = [axes]
    if binned:
        around = [(frame.x(x), frame.y(y)) for x, y in [*high, *reversed(low)]]
        parts.append(tag("path", d=path(around) + "Z", class_="band", fill=COLOURS[0]))
    drawn = path((frame.x(x), frame.y(y)) for x, y in line)
    parts.append(tag("path", d=drawn, class_="course", stroke=COLOURS[0]))
    mark = Mark(COLOURS[0], SHAPES[0])
    least = min(known, key=lambda point: (point[1], point[0]))
    for words, (x, y) in (("first", known[0]), ("lowest", least), ("last", known[-1])):
        parts.append(symbol(mark, frame.x(x), frame.y(y), f"{words}: {y:.4g} at step {x:g}", radius=3))
    parts.append(text(f"{known[-1][1]:.3g}", frame.left + WIDTH + 10, frame.y(known[-1][1])))
    told = (
        f"{known[0][1]:.4g} at step {known[0][0]:g}; lowest {least[1]:.4g} at step {least[0]:g}; "
        f"{known[-1][1]:.4g} at step {known[-1][0]:g}, the last of {len(known)} losses"
    )
    caption = (
        f"Line: means of {len(line)} stretches; band: from the least to the largest loss in each." if binned else ""
    )
    size = (frame.left + WIDTH + 60, TOP + DEPTH + BELOW)
    return Chart("losses", "Training loss over steps", told, caption, *size, Markup("".join(parts)))


def _finite(points: Points) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _best(points: Points) -> float | None:
    """The epoch with the best score, the earliest of equals; epoch 0 is no choice."""
    trained = [(-y, x) for x, y in points if x > 0]
    return min(trained)[1] if trained else None


def _names(frame: Frame, ends: Mapping[str, float], marks: Mapping[str, Mark]) -> Markup:
    """Names at the right of the lines' ends, as near as they can be without touching."""
    middles = [frame.y(value) for value in ends.values()]
    x = frame.left + WIDTH
    parts = []
    for name, middle, y in zip(ends, middles, stacked(middles, HEIGHT, TOP + DEPTH), strict=True):
        if abs(y - middle) > 3:
            parts.append(tag("path", d=path([(x + 5, middle), (x + 10, y)]), class_="lead"))
        parts.append(text(shortened(name, NAME), x + 12, y))
    return Markup("".join(parts))


def _bins(points: list[tuple[float, float]]) -> tuple[Points, Points, Points]:
    """Mean, least and largest y of each stretch of points; the points themselves if they are few."""
    if len(points) <= BINS:
        return points, points, points
    line, low, high = [], [], []
    for index in range(BINS):
        part = points[index * len(points) // BINS : (index + 1) * len(points) // BINS]
        x = sum(x for x, _ in part) / len(part)
        ys = [y for _, y in part]
        line.append((x, sum(ys) / len(ys)))
        low.append((x, min(ys)))
        high.append((x, max(ys)))
    return line, low, high
