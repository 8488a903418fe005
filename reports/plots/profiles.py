"""Performance profiles: which share of a row's runs scores above which threshold."""

from __future__ import annotations

from markupsafe import Markup

from reports import formats
from reports.labels import HEIGHT, text_width
from reports.overall import Overall, OverallRow
from reports.plots.chart import Chart
from reports.plots.frame import BELOW, DEPTH, TOP, WIDTH, Frame, axes_around
from reports.plots.svg import named, path, shortened, symbol, tag
from reports.plots.vega import Marks

NAME = 150.0
"""Pixels of a name at most."""
MOST_ROWS = 12
"""Rows drawn, those with the best interquartile means: more lines are not told apart."""
MARKED = 12
"""Thresholds from one symbol of a line to its next."""
CAPTION = (
    "Share of a row's runs, over tasks and seeds, that score above each threshold: further right is better, and a "
    "steep line is a row whose runs are alike."
)


def profile_chart(found: Overall, marks: Marks) -> Chart | None:
    """The profiles of the best rows; None if all runs score the same."""
    if len(found.thresholds) < 2:
        return None
    shown = found.rows[:MOST_ROWS]
    xs = [100 * threshold for threshold in found.thresholds]
    frame, axes = axes_around([(xs[0], 0.0), (xs[-1], 100.0)], "Score × 100", "Runs above, %", whole=False)
    parts = [axes, *(_line(frame, xs, item, number, marks) for number, item in enumerate(shown))]
    x = frame.left + WIDTH + 16
    for number, item in enumerate(shown):
        y = TOP + HEIGHT * (number + 0.5)
        parts += [symbol(marks[item.row.label], x, y), named(item.row.title, x + 10, y, NAME)]
    told = "; ".join(
        f"{item.row.title}: middle half of its runs {formats.score(item.interquartile_mean)} on average"
        for item in shown
    )
    caption = CAPTION
    if len(found.rows) > MOST_ROWS:
        caption += f" The {MOST_ROWS} rows with the best interquartile means."
    width = x + 20 + max(text_width(shortened(item.row.title, NAME)) for item in shown)
    height = max(TOP + DEPTH + BELOW, TOP + HEIGHT * len(shown))
    return Chart("profiles", "Performance profiles", told, caption, width, height, Markup("").join(parts))


def _line(frame: Frame, xs: list[float], item: OverallRow, number: int, marks: Marks) -> Markup:
    mark = marks[item.row.label]
    points = [(frame.x(x), frame.y(100 * share)) for x, share in zip(xs, item.profile, strict=True)]
    parts = [tag("path", d=path(points), class_="course", stroke=mark.colour)]
    for index in range((number * 5) % MARKED, len(xs), MARKED):  # not where the line before has its own
        hover = f"{item.row.title}: {100 * item.profile[index]:.0f} % of runs above {xs[index]:.1f}"
        parts.append(symbol(mark, *points[index], hover, radius=3.5))
    return Markup("").join(parts)
