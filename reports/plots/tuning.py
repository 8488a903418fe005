"""What a tuning search has shown: score over the number of trials, and over the learning rate."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import altair as alt

from reports import formats
from reports.efficiency import BudgetPanel
from reports.marks import COLOURS, SHAPES
from reports.plots.drawing import Chart, Size, finish, names_axis, says
from reports.rows import Row

PANEL = Size(420, 240)
CELL = Size(64, 28)
DASHES = ([1, 0], [6, 3], [2, 3], [8, 3, 2, 3])
"""Lines of one colour differ in their dashes, neighbours in both."""


@dataclass(frozen=True)
class RateGrid:
    """Mean score on `select` of a search's trials, over seeds and all that is not the rate, on one task."""

    task: str
    rates: tuple[float, ...]
    """Ascending."""
    titles: tuple[str, ...]
    scores: tuple[tuple[float | None, ...], ...]
    """By title, then rate; None where nothing was tried."""


def budget_curves(panel: BudgetPanel) -> Chart:
    """Expected score of the best of k trials, of every row."""
    data = [
        {
            "k": k,
            "score": 100 * value,
            "colour": COLOURS[place % len(COLOURS)],
            "path": SHAPES[place % len(SHAPES)],
            "dash": DASHES[place % len(DASHES)],
            "row": says(place, curve.title),
            "words": says(place, f"{curve.title}: {formats.score(value)} from the best of {k}"),
        }
        for place, curve in enumerate(panel.curves)
        for k, value in enumerate(curve.expected, start=1)
    ]
    base = alt.Chart(alt.Data(values=data)).encode(
        alt.X(
            "k:Q",
            axis=alt.Axis(title="Trials of the search", tickMinStep=1, format="d", grid=False),
            scale=alt.Scale(zero=False, nice=False, padding=12),
        ),
        alt.Y("score:Q", axis=alt.Axis(title="Expected score × 100", tickCount=5), scale=alt.Scale(zero=False)),
        alt.Color("colour:N", scale=None),
    )
    lines = base.mark_line(strokeWidth=1.75).encode(
        alt.StrokeDash("dash:N", scale=None), alt.Detail("row:N"), alt.Description("row:N")
    )
    points = base.mark_point(size=45, opacity=1, filled=True).encode(
        alt.Shape("path:N", scale=None), alt.Description("words:N")
    )
    title = f"{panel.task.title}: expected best score over the tuning budget"
    told = "; ".join(
        f"{curve.title} {formats.score(curve.expected[0])} from one trial, "
        f"{formats.score(curve.expected[-1])} from {len(curve.expected)}"
        for curve in panel.curves
    )
    chart = alt.layer(lines, points).properties(width=PANEL.width, height=PANEL.height)
    return finish(chart, title, told, [curve.title for curve in panel.curves], toggles=True)


def rate_grids(rows: Sequence[Row]) -> tuple[RateGrid, ...]:
    """The learning rates of a search, of rows named LABEL#1, LABEL#2, ...; tasks with two rates or more."""
    found: dict[str, dict[str, dict[float, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        label, sign, _ = row.label.rpartition("#")
        rate = json.loads(row.recipe).get("learning_rate")
        if sign and rate and row.score("selected") is not None and row.select_selected is not None:
            title = row.method_title if label == row.method else label
            found[row.task_title][title][float(rate)].append(row.select_selected)
    grids = []
    for task, by_title in found.items():
        rates = sorted({rate for by_rate in by_title.values() for rate in by_rate})
        if len(rates) > 1:
            scores = tuple(
                tuple(fmean(by_rate[rate]) if rate in by_rate else None for rate in rates)
                for by_rate in by_title.values()
            )
            grids.append(RateGrid(task, tuple(rates), tuple(by_title), scores))
    return tuple(grids)


def rate_heat_map(grid: RateGrid) -> Chart:
    """Methods by learning rates; the darker, the better on `select`; a dot marks the best rate of each method."""
    known = [value for scores in grid.scores for value in scores if value is not None]
    low, width = min(known), (max(known) - min(known)) or 1.0
    rates = [f"{rate:g}" for rate in grid.rates]
    data = [
        {
            "row": place,
            "rate": rates[column],
            "strength": round(0.06 + 0.54 * (value - low) / width, 3),
            "text": formats.score(value) + (" ●" if value == max(v for v in scores if v is not None) else ""),
            "words": says(place, f"{title} at {rates[column]}: {formats.score(value)} on select"),
        }
        for place, (title, scores) in enumerate(zip(grid.titles, grid.scores, strict=True))
        for column, value in enumerate(scores)
        if value is not None
    ]
    base = alt.Chart(alt.Data(values=data)).encode(
        alt.X("rate:N", sort=rates, axis=alt.Axis(title="Learning rate", labelAngle=0, ticks=False, domain=False)),
        alt.Y("row:O", axis=alt.Axis(labelExpr=names_axis(grid.titles), title=None, ticks=False, domain=False)),
        alt.Description("words:N"),
    )
    tiles = base.mark_rect(fill=COLOURS[0], stroke="#80879255", strokeWidth=0.5).encode(
        alt.FillOpacity("strength:Q", scale=None)
    )
    size = {"width": CELL.width * len(rates), "height": CELL.height * len(grid.titles)}
    chart = alt.layer(tiles, base.mark_text(fontSize=11).encode(alt.Text("text:N"))).properties(**size)
    told = "; ".join(
        f"{title}: "
        + ", ".join(f"{formats.score(v)} at {r}" for v, r in zip(scores, rates, strict=True) if v is not None)
        for title, scores in zip(grid.titles, grid.scores, strict=True)
    )
    return finish(chart, f"{grid.task}: score on select over the learning rate", told, grid.titles)
