"""Seconds and memory of a table's rows as bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from reports import formats
from reports.labels import text_width
from reports.plots.chart import Chart
from reports.plots.svg import named, shortened, symbol, tag, text
from reports.plots.vega import Marks
from reports.views import Board, BoardRow

NAME = 170.0
"""Pixels of a name at most."""
ROW, BAR = 22.0, 12.0
LENGTH, VALUE = 170.0, 66.0
"""Pixels of the longest bar, and of the number beside it."""
HEAD = 26.0
MOST_ROWS = 40
"""More would not be read as bars; the table has all."""

Quantity = Callable[[BoardRow], float | None]


def cost_bars(board: Board, marks: Marks) -> Chart | None:
    """Training seconds and peak memory of every row that has one of them, in the order of the board; None without."""
    rows = [row for row in board.rows if _seconds(row) is not None or _memory(row) is not None]
    left_out = len(rows) - MOST_ROWS
    rows = rows[:MOST_ROWS]
    if not rows:
        return None
    left = max(text_width(shortened(row.title, NAME)) for row in rows) + 32
    second = left + LENGTH + VALUE + 18
    body = Markup("").join(
        [
            text("Training seconds", left, 9, class_="soft"),
            text("Peak memory", second, 9, class_="soft"),
            *(_name(row, number, marks) for number, row in enumerate(rows)),
            *_bars(rows, _seconds, _told_seconds, left, marks),
            *_bars(rows, _memory, _told_memory, second, marks),
        ]
    )
    told = "; ".join(f"{row.title}: {_told_seconds(_seconds(row))}, {_told_memory(_memory(row))}" for row in rows)
    caption = "Seconds: mean per run; memory: the largest of all runs; on one stack. In the order of the table."
    if left_out > 0:
        caption += f" {left_out} rows further down are left out."
    width, height = second + LENGTH + VALUE, HEAD + ROW * len(rows) + 2
    return Chart("costs", "Time and memory", told, caption, width, height, body)


def _name(row: BoardRow, number: int, marks: Marks) -> Markup:
    y = HEAD + ROW * (number + 0.5)
    return symbol(marks[row.label], 8, y) + named(row.title, 22, y, NAME)


def _bars(
    rows: Sequence[BoardRow], quantity: Quantity, told: Callable[[float | None], str], left: float, marks: Marks
) -> list[Markup]:
    most = max((quantity(row) or 0.0 for row in rows), default=0.0) or 1.0
    bars = []
    for number, row in enumerate(rows):
        value, y = quantity(row), HEAD + ROW * (number + 0.5)
        length = LENGTH * (value or 0.0) / most
        inner = [tag("title", f"{row.title}: {told(value)}")]
        track = {"x": left, "y": y - BAR / 2, "width": LENGTH, "height": BAR, "rx": 2}
        inner.append(tag("rect", **track, class_="track"))
        if value:
            drawn = {**track, "width": max(length, 1.5)}
            inner.append(tag("rect", **drawn, fill=marks[row.label].colour))
        inner.append(text(told(value), left + LENGTH + 8, y, class_="small"))
        bars.append(tag("g", *inner))
    return bars


def _seconds(row: BoardRow) -> float | None:
    return row.costs.train_seconds


def _memory(row: BoardRow) -> float | None:
    value = row.costs.peak_memory_bytes
    return None if value is None else float(value)


def _told_seconds(value: float | None) -> str:
    return formats.DASH if value is None else f"{formats.seconds(value)} s"


def _told_memory(value: float | None) -> str:
    return formats.quantity(value, "B")
