"""What tuning with a budget of trials can be expected to reach (Dodge et al. 2019, arXiv:1909.03004, made unbiased)."""

from __future__ import annotations

import numpy as np
from scipy import special

from harness.stats.corpus import Array


def expected_best(chosen_by: Array, scores: Array) -> Array:
    """Expected score of the trial that is best by `chosen_by` among k of the N trials, for k = 1..N: [N].

    Averaged over all subsets of k trials (without replacement, so without bias); equally good trials are drawn by lot.
    chosen_by: scores on `select`; scores: what is reported, on the test sets. ValueError for NaN or unequal lengths.
    """
    count = len(scores)
    if len(chosen_by) != count or not np.isfinite([chosen_by, scores]).all():
        raise ValueError("expected_best needs a finite selection score and score of every trial")
    best_first = np.argsort(-chosen_by, kind="stable")
    _, group = np.unique(-chosen_by[best_first], return_inverse=True)
    reported = (np.bincount(group, scores[best_first]) / np.bincount(group))[group]
    budget, after = np.arange(1, count + 1)[:, None], count - 1 - np.arange(count)[None, :]
    # The i-th best is chosen if it is drawn, and the k - 1 others are among those after it.
    share = np.exp(_log_choose(after, budget - 1) - _log_choose(np.array(count), budget))
    return np.asarray(share @ reported)


def _log_choose(n: np.ndarray, k: np.ndarray) -> Array:
    possible = n >= k
    n = np.maximum(n, k)
    value = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return np.where(possible, value, -np.inf)
