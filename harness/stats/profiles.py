"""Performance profiles: how much of a row's runs reach which score (Agarwal et al. 2021, arXiv:2108.13264)."""

from __future__ import annotations

import numpy as np

from harness.stats.corpus import Array


def performance_profile(scores: Array, thresholds: Array) -> Array:
    """Share of a row's runs that score above a threshold, mean over tasks, for every threshold.

    A row whose line lies above another's everywhere is better however much of its runs one asks to be good (Agarwal et
    al. 2021, arXiv:2108.13264).

    scores: [rows, tasks, seeds], NaN where there is no run. Returns [rows, thresholds], NaN for a row without a run on
    some task.
    """
    above = scores[..., None] > thresholds
    runs = (~np.isnan(scores)).sum(2)[..., None]
    with np.errstate(invalid="ignore"):
        return np.asarray((above.sum(2) / runs).mean(1))
