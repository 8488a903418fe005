"""Bands around the curves of a panel: the 95 % interval of every score, over seeds and test rows."""

from __future__ import annotations

import numpy as np

from harness.predictions import StoredPredictions
from harness.standings import Place, table_scores
from harness.stats.estimates import contrast
from reports.views import CurvePanel, SuiteView

MOST_CURVES = 4
"""Curves with a band, those that end highest: more would cover each other."""


def curve_bands(
    stored: StoredPredictions, view: SuiteView, panel: CurvePanel
) -> dict[tuple[str, int], tuple[float, float]]:
    """Intervals within [-1, 1] by row label and training size, of scores with two seeds or more."""
    best = sorted(panel.curves, key=lambda curve: -(curve.points[-1].cell.mean or 0.0))[:MOST_CURVES]
    names = {
        (curve.label, point.size): f"{index} {point.size}"
        for index, curve in enumerate(best)
        for point in curve.points
        if point.cell.n > 1
    }
    places = tuple(
        Place(names[row.label, row.train_size], row.task, row.seed, row.metric, row.run_id, epoch)
        for row in view.rows
        if row.grid == panel.grid and row.task == panel.task.name and (row.label, row.train_size) in names
        if row.run_id is not None and (epoch := row.epoch(view.rank_by)) is not None
    )
    if not places:
        return {}
    (scores,) = table_scores(stored, places, list(names.values()), [panel.task.name])
    low, high = contrast(scores, np.eye(len(names))).interval()
    return {
        key: (max(float(low[index]), -1.0), min(float(high[index]), 1.0))
        for index, key in enumerate(names)
        if np.isfinite(low[index])
    }
