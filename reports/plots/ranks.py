"""The critical-difference diagram: average ranks over tasks, with a bar over rows that are not told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reports import formats
from reports.labels import text_width
from reports.plots.chart import Chart
from reports.plots.svg import SIZE as TEXT
from reports.plots.svg import path, shortened, symbol, tag, text
from reports.plots.vega import Marks
from reports.task_ranks import TaskRanks

NAME = 170.0
"""Pixels of a name at most."""
AXIS = 420.0
ROW, LANE = 20.0, 10.0
"""Pixels from one name to the next, and from one bar to the next."""
TOP = 58.0
"""Height of the axis, below the ruler of the critical difference."""
CAPTION = (
    "Average rank over tasks, the best at the left. A bar joins rows whose ranks differ by less than the critical "
    "difference (Nemenyi, 95 %): they are not told apart. Tasks are the sample here; a table's ranks take them as "
    "given."
)


@dataclass(frozen=True)
class Column:
    """Where a column of names begins: the end of its leaders, and its top."""

    x: float
    top: float
    leftward: bool


def critical_difference_diagram(ranks: TaskRanks, marks: Marks) -> Chart:
    """Every row's average rank, and the groups that are not told apart."""
    order = sorted(range(len(ranks.rows)), key=lambda index: (ranks.found.ranks[index], index))
    first, last = 1.0, float(max(len(order), 2))
    side = max(text_width(shortened(row.title, NAME)) for row in ranks.rows) + 4 + 18 + text_width(" 00.00")
    at = {index: side + (ranks.found.ranks[index] - first) / (last - first) * AXIS for index in order}
    lanes = _lanes(ranks, order)
    below = TOP + 16 + LANE * (max(lanes, default=-1) + 1)
    half = math.ceil(len(order) / 2)
    width, height = 2 * side + AXIS, below + ROW * half + 6
    unit = AXIS / (last - first)
    body = Markup("").join(
        [
            _axis(side, int(last)),
            _ruler(side, ranks.found.difference, unit),
            *_leaders(ranks, order[:half], Column(side - 4, below, leftward=True), at, marks),
            *_leaders(ranks, order[half:][::-1], Column(side + AXIS + 4, below, leftward=False), at, marks),
            *_bars(ranks, at, lanes),
            *(symbol(marks[ranks.rows[i].label], at[i], TOP, _hover(ranks, i)) for i in order),
        ]
    )
    p = formats.p_value(ranks.found.p_value)
    tested = f"Friedman's test that all rows are alike: p {p if p.startswith('<') else '= ' + p}"
    told = f"{tested}; critical difference {ranks.found.difference:.2f}; " + "; ".join(_hover(ranks, i) for i in order)
    caption = f"{CAPTION} {tested}, {ranks.tasks} tasks."
    if ranks.left_out:
        caption += f" The best {len(order)} rows by their average; {ranks.left_out} more are not ranked here."
    return Chart("critical-difference", "Average ranks over tasks", told, caption, width, height, body)


def _hover(ranks: TaskRanks, index: int) -> str:
    return f"{ranks.rows[index].title}: average rank {ranks.found.ranks[index]:.2f}"


def _axis(left: float, last: int) -> Markup:
    step = max(1, math.ceil((last - 1) / 12))
    shown = list(range(1, last + 1, step))
    unit = AXIS / (last - 1)
    parts = [tag("path", d=path([(left, TOP), (left + AXIS, TOP)]), class_="axis")]
    for rank in shown:
        x = left + (rank - 1) * unit
        parts.append(tag("path", d=path([(x, TOP - 6), (x, TOP)]), class_="axis"))
        parts.append(text(str(rank), x, TOP - 14, anchor="middle", class_="soft small"))
    return Markup("").join(parts)


def _ruler(left: float, difference: float, unit: float) -> Markup:
    """The critical difference as a length above the axis; as long as the axis where it is longer."""
    length = min(difference * unit, AXIS)
    line = path([(left, 14), (left, 22), (left, 18), (left + length, 18), (left + length, 14), (left + length, 22)])
    note = f"critical difference {difference:.2f}" + (" (longer than the axis)" if difference * unit > AXIS else "")
    words = text(note, left + length / 2, 7, anchor="middle", class_="soft small")
    if length < text_width(note):
        words = text(note, left + length + 8, 18, class_="soft small")
    return tag("path", d=line, class_="axis") + words


def _lanes(ranks: TaskRanks, order: Sequence[int]) -> list[int]:
    """The lane of each group's bar: the first in which it touches no other."""
    place = {index: number for number, index in enumerate(order)}
    ends: list[int] = []
    lanes = []
    for group in ranks.found.groups:
        first, last = place[group[0]], place[group[-1]]
        lane = next((lane for lane, end in enumerate(ends) if end < first), len(ends))
        ends[lane : lane + 1] = [last]
        lanes.append(lane)
    return lanes


def _bars(ranks: TaskRanks, at: dict[int, float], lanes: Sequence[int]) -> list[Markup]:
    bars = []
    for group, lane in zip(ranks.found.groups, lanes, strict=True):
        y = TOP + 14 + LANE * lane
        told = "Not told apart: " + ", ".join(ranks.rows[index].title for index in group)
        line = path([(at[group[0]] - 3, y), (at[group[-1]] + 3, y)])
        bars.append(tag("path", tag("title", told), d=line, class_="group"))
    return bars


def _leaders(
    ranks: TaskRanks, members: Sequence[int], place: Column, at: dict[int, float], marks: Marks
) -> list[Markup]:
    """Names in a column beside the axis, the outermost rank highest, so that no two leaders cross."""
    parts = []
    outward = -1 if place.leftward else 1
    for number, index in enumerate(members):
        y = place.top + ROW * (number + 0.5)
        row = ranks.rows[index]
        line = path([(at[index], TOP), (at[index], y), (place.x, y)])
        parts.append(tag("path", d=line, class_="lead"))
        parts.append(symbol(marks[row.label], place.x + 8 * outward, y, radius=4))
        short = shortened(row.title, NAME)
        whole = [tag("title", row.title)] if short != row.title else []
        rank = tag("tspan", f" {ranks.found.ranks[index]:.2f}", class_="soft")
        anchor = "end" if place.leftward else None
        shown = {"x": place.x + 18 * outward, "y": y + 0.34 * TEXT}
        parts.append(tag("text", *whole, short, rank, **shown, text_anchor=anchor))
    return parts
