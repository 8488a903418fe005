"""Corpus metrics under many weightings of the examples at once.

A resample of n examples is a row of counts that sum to n. Every metric of `harness.metrics` is a function of weighted
sums (or weighted ranks), so that all resamples take a matrix product instead of a loop. The values are those of
`harness.metrics.compute` on the materialised resample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import unknown
from harness.records import UNPARSED

Array = NDArray[np.float64]
Hits = NDArray[np.bool_]
Values = Sequence[Any] | NDArray[Any]
"""A label or a prediction for each example."""

NEGLIGIBLE = 1e-12
"""A weighted variance below this share of the unweighted one is zero: what remains is rounding."""


def weighted_scores(metric: str, runs: Sequence[Values], labels: Values, counts: Array) -> Array:
    """The metric of each run's predictions on every resample: [resamples, runs]. counts: [resamples, examples].

    Undefined values follow `harness.metric_modules`: correlations with a constant are 0, not finite values give NaN.
    UserError for an unknown metric; ValueError for unequal lengths.
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    if len(labels) != counts.shape[1]:
        raise ValueError(f"{len(labels)} labels, {counts.shape[1]} counts")
    if metric in HITS:  # one matrix product for all
        return np.asarray(counts @ hits(metric, runs, labels).T.astype(float) / counts.sum(1, keepdims=True))
    _check_lengths(runs, labels)
    return np.stack([SUMS[metric](predictions, labels, counts) for predictions in runs], axis=1)


def hits(metric: str, runs: Sequence[Values], labels: Values) -> Hits:
    """Which examples each run has, of a metric in `HITS`: [runs, examples]. ValueError for unequal lengths."""
    _check_lengths(runs, labels)
    return HITS[metric](runs, labels)


def _check_lengths(runs: Sequence[Values], labels: Values) -> None:
    for predictions in runs:
        if not len(predictions) == len(labels) > 0:
            raise ValueError(f"{len(predictions)} predictions, {len(labels)} labels")


def _equal(runs: Sequence[Values], labels: Values) -> Hits:
    return np.asarray(np.array([*runs], object) == np.asarray(labels, object))


def _parsed(runs: Sequence[Values], labels: Values) -> Hits:
    return np.array([[not str(p).startswith(UNPARSED) for p in predictions] for predictions in runs])


def _f1(predictions: Values, labels: Values, counts: Array) -> Array:
    """F1 of class 1; 0 without true positives."""
    positive, true = np.asarray(predictions) == 1, np.asarray(labels) == 1
    hits, said, are = (counts @ part.astype(float) for part in (positive & true, positive, true))
    return _ratio(2 * hits, said + are)


def _matthews(predictions: Values, labels: Values, counts: Array) -> Array:
    """Gorodkin's correlation of K classes, as in scikit-learn; 0 if either side has one class only."""
    classes, codes = np.unique(np.concatenate([labels, predictions]), return_inverse=True)
    one_hot = np.eye(len(classes))[codes.reshape(2, -1)]
    true, said = counts @ one_hot[0], counts @ one_hot[1]
    correct, total = counts @ (one_hot[0] * one_hot[1]).sum(1), counts.sum(1)
    covariance = correct * total - (true * said).sum(1)
    variances = (total**2 - (true**2).sum(1)) * (total**2 - (said**2).sum(1))
    return _ratio(covariance, np.sqrt(variances))


def _pearson(predictions: Values, labels: Values, counts: Array) -> Array:
    x, y = np.asarray(predictions, float), np.asarray(labels, float)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return np.full(len(counts), np.nan)
    # Centred and scaled first: differences of large sums would lose the digits of nearly constant values.
    x, y = _standardised(x), _standardised(y)
    moments = counts @ np.stack([x, y, x * x, y * y, x * y], axis=1) / counts.sum(1, keepdims=True)
    return _correlation(*moments.T)


def _spearman(predictions: Values, labels: Values, counts: Array) -> Array:
    x, y = np.asarray(predictions, float), np.asarray(labels, float)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return np.full(len(counts), np.nan)
    total = counts.sum(1, keepdims=True)
    weights = counts / total
    first, second = (_ranks(values, counts) / total - 0.5 - 0.5 / total for values in (x, y))
    products = (first, second, first * first, second * second, first * second)
    return _correlation(*((weights * part).sum(1) for part in products))


def _ranks(values: Array, counts: Array) -> Array:
    """Rank of every example in every resample, ties at their mean rank: [resamples, examples]."""
    distinct, group = np.unique(values, return_inverse=True)
    sizes = np.zeros((len(counts), len(distinct)))
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(distinct)))
    sizes[:] = np.add.reduceat(counts[:, order], starts, axis=1)
    middle = np.cumsum(sizes, axis=1) - sizes / 2 + 0.5
    return np.asarray(middle[:, group])


def _standardised(values: Array) -> Array:
    centred = values - values.mean()
    scale = np.abs(centred).max()
    return np.asarray(centred / scale if scale > 0 else centred)


def _correlation(x: Array, y: Array, xx: Array, yy: Array, xy: Array) -> Array:
    """From weighted means of x, y and their products."""
    x_variance, y_variance = xx - x * x, yy - y * y
    known = (x_variance > NEGLIGIBLE * xx) & (y_variance > NEGLIGIBLE * yy)
    value = _ratio(np.where(known, xy - x * y, 0.0), np.sqrt(np.where(known, x_variance * y_variance, 1.0)))
    return np.asarray(np.clip(value, -1.0, 1.0))


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.asarray(np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0))


HITS: dict[str, Callable[[Sequence[Values], Values], Hits]] = {
    "accuracy": _equal,
    "exact_match": _equal,
    "parsed": _parsed,
}
"""Metrics that are the share of examples with something: which have it, [runs, examples]."""
SUMS: dict[str, Callable[[Values, Values, Array], Array]] = {
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}
METRICS = (*HITS, *SUMS)
"""The names of `harness.metrics.METRIC_NAMES`."""
