"""Two tables drawn as tinted cells: who beats whom, and which learning rate suits which method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reports import formats
from reports.comparisons import Comparison, Difference
from reports.labels import text_width
from reports.plots.chart import Chart
from reports.plots.svg import named, shortened, symbol, tag, text
from reports.plots.vega import Marks
from reports.rates import RateMap, RateRow
from reports.views import BoardRow

NAME = 170.0
"""Pixels of a name at most."""
CELL = 38.0
ROW = 26.0
HEAD = 34.0
DARKEST = 0.72
"""Opacity of the strongest tint: text on it stays readable, light or dark."""
SEPARATED = 0.05
"""Largest p-value after Holm's correction of a pair that counts as separated."""
WINS_CAPTION = (
    "How often, in %, a run of the row beats a run of the column, over all seeds, mean over tasks; ties count half. "
    "Blue above 50, orange below. A corner and bold: the two are separated (difference of averages, p at most 0.05 "
    "after Holm)."
)


@dataclass(frozen=True)
class Tint:
    """One cell: its text, its colour class with opacity, what it says on hover, and whether it stands out."""

    words: str
    class_: str
    opacity: float
    hover: str
    strong: bool = False
    corner: bool = False


def win_matrix(comparison: Comparison, marks: Marks) -> Chart:
    """Probability of improvement of every compared row over every other."""
    rows = _members(comparison)
    known = {(pair.first.label, pair.second.label): pair.average for pair in comparison.pairs}
    left = _room(row.title for row in rows) + 44
    parts = []
    for number, row in enumerate(rows):
        x, y = left + CELL * (number + 0.5), HEAD + ROW * (number + 0.5)
        label = str(number + 1)
        above = [tag("title", row.title), symbol(marks[row.label], x, 9, radius=4)]
        parts.append(tag("g", *above, text(label, x, 24, anchor="middle", class_="soft small")))
        parts += [text(label, 16, y, anchor="end", class_="soft small"), symbol(marks[row.label], 28, y)]
        parts.append(named(row.title, 40, y, NAME))
        for column, other in enumerate(rows):
            if row is not other:
                parts.append(_cell(left + CELL * column, HEAD + ROW * number, CELL, _win(row, other, known)))
    title = "Who beats whom"
    told = "; ".join(_win(one, two, known).hover for i, one in enumerate(rows) for two in rows[i + 1 :])
    caption = WINS_CAPTION
    if comparison.left_out:
        caption += f" The best {len(rows)} rows by their average."
    width, height = left + CELL * len(rows) + 2, HEAD + ROW * len(rows) + 2
    return Chart("wins", title, told, caption, width, height, Markup("").join(parts))


def rate_map_chart(rates: RateMap, marks: Marks) -> Chart:
    """Score on `select` over learning rate and row, from a tuning search."""
    values = [cell.score for row in rates.rows for cell in row.cells if cell is not None]
    low, high = min(values), max(values)
    left = _room(row.title for row in rates.rows) + 30
    wide = max(46.0, max(text_width(name) for name in rates.columns) + 8)
    top = 20.0
    parts = [
        text(name, left + wide * (column + 0.5), 8, anchor="middle", class_="soft small")
        for column, name in enumerate(rates.columns)
    ]
    for number, row in enumerate(rates.rows):
        y = top + ROW * number
        parts += [symbol(marks[row.label], 8, y + ROW / 2), named(row.title, 20, y + ROW / 2, NAME)]
        best = max(cell.score for cell in row.cells if cell is not None)
        for column, cell in enumerate(row.cells):
            where = f"{row.title} at {rates.columns[column]}"
            if cell is None:
                tint = Tint("", "empty", 1.0, f"{where}: not tried")
            else:
                share = (cell.score - low) / (high - low) if high > low else 1.0
                hover = f"{where}: {formats.score(cell.score)} on select, {formats.plural(cell.trials, 'trial')}"
                tint = Tint(
                    formats.score(cell.score), "more", DARKEST * (0.08 + 0.92 * share), hover, cell.score == best
                )
            parts.append(_cell(left + wide * column, y, wide, tint))
    told = "; ".join(
        f"{row.title}: "
        + ", ".join(
            f"{formats.score(c.score)} at {name}" for name, c in zip(rates.columns, row.cells, strict=True) if c
        )
        for row in rates.rows
    )
    width, height = left + wide * len(rates.columns) + 2, top + ROW * len(rates.rows) + 2
    caption = f"Best score on select × 100, {_over(rates)}; a row's best in a frame. No test score is looked at."
    return Chart("rates", "Learning rate and row", told, caption, width, height, Markup("").join(parts))


def _told(row: RateRow, columns: Sequence[str]) -> str:
    cells = zip(columns, row.cells, strict=True)
    return ", ".join(f"{formats.score(cell.score)} at {name}" for name, cell in cells if cell)


def _over(rates: RateMap) -> str:
    tasks = "mean over tasks" if rates.tasks > 1 else "one task"
    return f"{tasks}, of the trials with a learning rate {'within' if rates.binned else 'at'} each column"


def _members(comparison: Comparison) -> list[BoardRow]:
    rows: dict[str, BoardRow] = {}
    for pair in comparison.pairs:
        rows.setdefault(pair.first.label, pair.first)
        rows.setdefault(pair.second.label, pair.second)
    return list(rows.values())


def _win(row: BoardRow, other: BoardRow, known: Mapping[tuple[str, str], Difference]) -> Tint:
    found = known.get((row.label, other.label))
    turned = found is None
    found = known[other.label, row.label] if found is None else found
    if found.improvement is None:
        return Tint("–", "empty", 1.0, f"{row.title} against {other.title}: not known")
    share = 1 - found.improvement if turned else found.improvement
    apart = found.p is not None and found.p <= SEPARATED
    hover = f"{row.title} beats {other.title} in {100 * share:.0f} % of pairs of runs"
    if found.p is not None:
        p = formats.p_value(found.p)
        hover += f", {'separated' if apart else 'not separated'} (p {p if p.startswith('<') else '= ' + p})"
    return Tint(
        f"{100 * share:.0f}", "more" if share >= 0.5 else "less", DARKEST * abs(2 * share - 1), hover, apart, apart
    )


def _cell(x: float, y: float, width: float, tint: Tint) -> Markup:
    """A cell with a hair of the page around it."""
    inner = [tag("title", tint.hover)]
    size = {"x": x + 1, "y": y + 1, "width": width - 2, "height": ROW - 2}
    opacity = None if tint.opacity == 1.0 else tint.opacity
    inner.append(tag("rect", **size, rx=2, class_=tint.class_, fill_opacity=opacity))
    if tint.corner:
        right = x + width - 1
        inner.append(tag("path", d=f"M{right - 7:.2f},{y + 1:.2f}h7v7Z", class_="corner"))
    elif tint.strong:
        inner.append(tag("rect", **size, rx=2, class_="frame"))
    if tint.words:
        look = "strong small" if tint.strong else "small"
        inner.append(text(tint.words, x + width / 2, y + ROW / 2, anchor="middle", class_=look))
    return tag("g", *inner)


def _room(titles: Iterable[str]) -> float:
    """Pixels of the longest name."""
    return max(text_width(shortened(title, NAME)) for title in titles)
