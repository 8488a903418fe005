"""One cell of a table: what the seeds of a row say on a task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.stats.corpus import Array
from harness.stats.estimates import LEVEL, Estimate


@dataclass(frozen=True)
class CellSummary:
    """Scores of one row on one task over seeds; what does not exist is None."""

    seeds: int
    mean: float | None
    median: float | None
    spread: float | None
    """Sample standard deviation over seeds; None for fewer than two."""
    low: float | None
    """The smallest score."""
    high: float | None
    interval: tuple[float, float] | None
    """For the mean over seeds and examples like these, within [-1, 1]; None for fewer than two seeds."""


def summarise(scores: Array, estimate: Estimate, level: float = LEVEL) -> CellSummary:
    """The summary of one cell. scores: [seeds], NaN where there is none; estimate: its contrast, of shape () or [1]."""
    known = scores[~np.isnan(scores)]
    if not len(known):
        return CellSummary(0, None, None, None, None, None, None)
    low, high = (float(np.clip(end, -1.0, 1.0).item()) for end in estimate.interval(level))
    return CellSummary(
        seeds=len(known),
        mean=float(known.mean()),
        median=float(np.median(known)),
        spread=float(known.std(ddof=1)) if len(known) > 1 else None,
        low=float(known.min()),
        high=float(known.max()),
        interval=None if np.isnan(low) else (low, high),
    )
