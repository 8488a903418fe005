"""One cell of a table: what the seeds of a row say on a task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.stats.corpus import Array


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
    """95 %, for the mean over seeds and test rows like these; None where it is not known."""


def summarise(scores: Array, interval: tuple[float, float] | None) -> CellSummary:
    """The summary of one cell. scores: [seeds], NaN where there is none; interval: of its mean, if that is known."""
    known = scores[~np.isnan(scores)]
    if not len(known):
        return CellSummary(0, None, None, None, None, None, None)
    return CellSummary(
        seeds=len(known),
        mean=float(known.mean()),
        median=float(np.median(known)),
        spread=float(known.std(ddof=1)) if len(known) > 1 else None,
        low=float(known.min()),
        high=float(known.max()),
        interval=interval,
    )
