"""The pairwise win matrix: how often a run of one row beats a run of another, and which pairs are separated."""

from __future__ import annotations

from typing import Any

import altair as alt

from reports import formats
from reports.comparisons import Comparison, Pair
from reports.plots.drawing import Chart, finish, names_axis, says

CELL = 46
BETTER, WORSE = "#2f7ebc", "#cf5f0f"
LEVEL = 0.05


def win_matrix(comparison: Comparison) -> Chart | None:
    """Rows against columns, in the order of the table; None if no pair has a probability of improvement."""
    known = [pair for pair in comparison.pairs if pair.average.improvement is not None]
    if not known:
        return None
    rows = {row.label: row.title for pair in comparison.pairs for row in (pair.first, pair.second)}
    titles = list(rows.values())
    cells = [cell for pair in known for cell in _cells(pair, list(rows))]
    told = "How often a run of the first beats a run of the second: " + "; ".join(
        f"{pair.first.title} over {pair.second.title} {formats.share(pair.average.improvement)}"
        + (" (separated)" if _separated(pair) else "")
        for pair in known
    )
    base = alt.Chart(alt.Data(values=cells)).encode(
        alt.X(
            "column:O",
            axis=alt.Axis(
                labelExpr=names_axis(titles), orient="top", title=None, labelAngle=-40, ticks=False, domain=False
            ),
        ),
        alt.Y("row:O", axis=alt.Axis(labelExpr=names_axis(titles), title=None, ticks=False, domain=False)),
        alt.Description("words:N"),
    )
    tiles = base.mark_rect(stroke="#80879255", strokeWidth=0.5).encode(
        alt.Fill("colour:N", scale=None), alt.FillOpacity("strength:Q", scale=None)
    )
    side = CELL * len(titles)
    chart = alt.layer(tiles, base.mark_text(fontSize=11).encode(alt.Text("text:N"))).properties(width=side, height=side)
    return finish(chart, "Probability of improvement", told, titles)


def _cells(pair: Pair, labels: list[str]) -> list[dict[str, Any]]:
    """The two cells of a pair, on both sides of the diagonal."""
    found = []
    share = pair.average.improvement or 0.0
    for row, column, value in ((pair.first, pair.second, share), (pair.second, pair.first, 1 - share)):
        text = formats.share(value).removesuffix(" %")
        state = "separated" if _separated(pair) else "not separated"
        words = f"a run of {row.title} beats one of {column.title} in {formats.share(value)}; {state}"
        found.append(
            {
                "row": labels.index(row.label),
                "column": labels.index(column.label),
                "colour": BETTER if value >= 0.5 else WORSE,
                "strength": round(abs(value - 0.5) * 0.9, 3),
                "text": f"{text} ●" if _separated(pair) else text,
                "words": says(labels.index(row.label), words),
            }
        )
    return found


def _separated(pair: Pair) -> bool:
    return pair.average.p is not None and pair.average.p <= LEVEL
