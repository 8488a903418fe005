"""Score against cost: which rows are on the front, and how surely."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.stats.corpus import Array


def on_front(scores: Array, costs: Array) -> NDArray[np.bool_]:
    """Rows that no other row beats: none is at least as good at no more cost, and better in one of them.

    scores: [..., rows]; costs: [rows]. NaN in either is on no front and beats nobody.
    """
    mine, other = scores[..., :, None], scores[..., None, :]
    cheaper, as_cheap = costs[None, :] < costs[:, None], costs[None, :] <= costs[:, None]
    beaten = (as_cheap & (other > mine)) | (cheaper & (other >= mine))
    return np.asarray(~beaten.any(-1) & ~np.isnan(scores) & ~np.isnan(costs))


def front_probability(draws: Array, costs: Array) -> Array:
    """How sure it is that a row is on the front: [rows], from draws of the true means [draws, rows]; NaN if unknown.

    Costs are taken as they are: parameters and FLOPs are exact, and seconds vary less than scores.
    """
    share = on_front(draws, costs).mean(0)
    return np.where(np.isnan(draws).all(0) | np.isnan(costs), np.nan, share)
