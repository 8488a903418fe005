"""The model behind every interval: a mean over seeds (a t distribution) and over examples (a bootstrapped normal one).

    mean = truth + seed part + example part

The seed part has the variance s^2 / S of S seeds, known with S - 1 degrees of freedom. It contains what a seed's own
errors on the examples add. The example part is what all seeds share: the mean covariance of two different seeds' scores
over resampled examples. The error is the sum of both. With one of them alone an interval is the usual t interval, or
the usual interval of a test set.

With both, no rule is exact. A test takes the sum of a t and a normal (Behrens and Fisher: the prior 1/v for the seeds'
variance v), which rejects what is true at most as often as it says, at every level; so a table of many pairs stays
safe. That is wide where the examples' part is large: the interval of a mean takes the prior 1/v + e / (4 v^2), e the
example variance, which expects smaller v and covers close to 95 % (docs/decisions/0005-statistics.md).

All fields are arrays of one shape, so that a whole table is one estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from harness.stats.corpus import Array
from harness.stats.resampling import TaskScores

LEVEL = 0.95
_LOGITS = np.linspace(-40.0, 20.0, 181)
_QUANTILES = special.expit(_LOGITS)
_WEIGHTS = _QUANTILES * (1 - _QUANTILES) / np.sum(_QUANTILES * (1 - _QUANTILES))
"""Nodes for a mean over [0, 1]: even in logits, since the tails of a t come from the smallest quantiles."""
NEWTON_STEPS = 12
SETTLED = 1e-12
"""Relative change of a half width at which it is found."""
SMALLER = 0.25
"""Weight of the prior's term for small seed variances. 1 would cover 90 % with two seeds, 0 98.9 %; this 93-96.6 %."""
SAME = 1e-12
"""Scores that differ by less are the same, but for rounding."""


@dataclass(frozen=True)
class Estimate:
    """Means with what is known of their errors. With fewer than two seeds the variance is NaN: nothing is known."""

    value: Array
    seed_variance: Array
    freedom: Array
    """Degrees of freedom of `seed_variance`."""
    example_variance: Array
    seeds: Array
    """Number of seeds behind each value; of an average, the smallest of its tasks."""

    def p_value(self, null: float | Array = 0.0) -> Array:
        """Two-sided, for the hypothesis that the truth is `null`; NaN without two seeds."""
        return np.minimum(2 * self._errors().beyond(np.abs(self.value - null)), 1.0)

    def probability_above(self, threshold: float | Array = 0.0) -> Array:
        """One minus the one-sided p-value: how sure it is that the truth is above the threshold."""
        distance = self.value - threshold
        tail = self._errors().beyond(np.abs(distance))
        return np.where(distance > 0, 1 - tail, np.where(distance < 0, tail, 0.5 + 0 * tail))

    def interval(self, level: float = LEVEL) -> tuple[Array, Array]:
        """Ends of the central interval of a mean, which covers it close to `level`; NaN without two seeds."""
        half = self._half_width(level, matched=True)
        return self.value - half, self.value + half

    def accepted(self, level: float = LEVEL) -> tuple[Array, Array]:
        """Ends of the values whose `p_value` is above 1 - level: a little wider. For differences; NaN as above."""
        half = self.half_width(level)
        return self.value - half, self.value + half

    def half_width(self, level: float | Array = LEVEL) -> Array:
        """How far a null must be from the value to be rejected at `level`. 0 without any variance."""
        return self._half_width(level, matched=False)

    def with_more_seeds(self, further: int | NDArray[np.int_]) -> Estimate:
        """The same values and spreads with more seeds behind each: what to expect of them. Examples stay as many."""
        grown = self.seeds + further
        freedom = self.freedom * (grown - 1) / np.maximum(self.seeds - 1, 1)
        return Estimate(self.value, self.seed_variance * self.seeds / grown, freedom, self.example_variance, grown)

    def _half_width(self, level: float | Array, matched: bool) -> Array:
        """The distance beyond which (1 - level) / 2 lies on each side."""
        tail, errors = (1 - np.asarray(level)) / 2, self._errors(matched)
        freedom = np.clip(self.freedom, 1e-3, 1e6)
        further = freedom + 2 * matched
        # The sum spreads further than either part alone, and the tail is convex: Newton's steps from there stay below.
        seed = np.sqrt(self.seed_variance * freedom / further) * -special.stdtrit(further, tail)
        distance = np.fmax(seed, -np.sqrt(self.example_variance) * special.ndtri(tail))
        for _ in range(NEWTON_STEPS):
            step = (errors.beyond(distance) - tail) / errors.density(distance)
            distance = distance + step
            if not np.any(np.abs(step) > SETTLED * distance):
                break
        return np.where(np.isnan(self.seed_variance), np.nan, distance)

    def _errors(self, matched: bool = False) -> _Mixture:
        """The posterior of the error. Of the prior with two terms it mixes that of either, as s^2 / S to e / 4; the
        second term adds two degrees of freedom."""
        first = self._scales()
        if not matched:
            return _Mixture(first, _WEIGHTS)
        both = self.seed_variance + SMALLER * self.example_variance
        share = np.divide(self.seed_variance, both, out=np.ones_like(both), where=both > 0)[..., None]
        scales = np.concatenate([first, self._scales(2)], -1)
        return _Mixture(scales, np.concatenate([share * _WEIGHTS, (1 - share) * _WEIGHTS], -1))

    def _scales(self, further: int = 0) -> Array:
        """Standard deviations of the normals whose equal mixture is the error: [..., nodes].

        A t is a normal whose variance is divided by chi^2 / df; here chi^2 has `further` degrees of freedom more.
        """
        freedom, which = np.unique(np.clip(np.nan_to_num(self.freedom, nan=1.0), 1e-3, 1e6), return_inverse=True)
        ratios = np.array([_ratios(float(df), further) for df in freedom]).reshape(len(freedom), _QUANTILES.size)
        ratio = ratios[which.reshape(np.shape(self.freedom))]
        with np.errstate(all="ignore"):
            seed = np.where(self.seed_variance[..., None] == 0, 0.0, self.seed_variance[..., None] * ratio)
        return np.sqrt(seed + self.example_variance[..., None])


@lru_cache(maxsize=1024)
def _ratios(freedom: float, further: int) -> Array:
    """df / chi^2 at the nodes: [nodes]. Kept, since these quantiles are what takes the time and designs share them."""
    with np.errstate(all="ignore"):  # of half a degree of freedom the smallest quantile may be 0
        return np.asarray(freedom / (2 * special.gammaincinv((freedom + further) / 2, _QUANTILES)))


@dataclass(frozen=True)
class _Mixture:
    """Of normals around zero: [..., nodes]."""

    scales: Array
    weights: Array

    def beyond(self, distance: Array) -> Array:
        """P(error > distance), for distances of at least 0.

        Without any variance the value is the truth: nothing lies beyond a distance, half beyond none.
        """
        distance, scales = np.asarray(distance)[..., None], self.scales
        standard = np.divide(distance, scales, out=np.where(distance > 0, np.inf, 0.0) + 0 * scales, where=scales != 0)
        return np.asarray((special.ndtr(-standard) * self.weights).sum(-1))

    def density(self, distance: Array) -> Array:
        """Of the error at a distance; infinite without any variance."""
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = self.weights * np.exp(-((distance[..., None] / self.scales) ** 2) / 2) / self.scales
        return np.asarray(np.where(self.scales == 0, np.inf, parts).sum(-1) / np.sqrt(2 * np.pi))


def contrast(task: TaskScores, coefficients: Array) -> Estimate:
    """Weighted sums of rows on one task, paired by seed and by example. coefficients: [K, R]; the estimate: [K].

    A seed counts for a contrast if all rows with a coefficient have it. If all seeds of a contrast say the same
    (of few examples two seeds may well hit the same count), the seed part takes the variance that their different
    errors on the examples alone would make.
    """
    involved = coefficients != 0
    common = ~(involved.astype(float) @ (~task.present).astype(float) > 0)
    values = np.where(common, coefficients @ np.nan_to_num(task.points), 0.0)
    seeds = common.sum(1).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(seeds > 0, values.sum(1) / seeds, np.nan)
        deviations = np.where(common, values - mean[:, None], 0.0)
        variance = np.where(seeds > 1, (deviations**2).sum(1) / (seeds - 1), np.nan)
        shared, own = _example_variances(task, coefficients, common, seeds)
    variance = np.where(variance < SAME**2, own, variance)
    return Estimate(mean, variance / seeds, seeds - 1, shared, seeds)


def _example_variances(task: TaskScores, coefficients: Array, common: Array, seeds: Array) -> tuple[Array, Array]:
    """The part of the example variance that a contrast's seeds share, and the part that each has for itself."""
    rows, columns = task.points.shape
    half = coefficients @ np.nan_to_num(task.covariance).reshape(rows, -1)
    between = np.einsum("ksjt,kj->kst", half.reshape(-1, columns, rows, columns), coefficients)
    between = between * common[:, :, None] * common[:, None, :]
    own = np.trace(between, axis1=1, axis2=2)
    shared = (between.sum((1, 2)) - own) / (seeds * (seeds - 1))
    return np.maximum(shared, 0.0), np.maximum(own / seeds - shared, 0.0)


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over tasks, whose seeds and examples are independent; degrees of freedom by Welch and Satterthwaite."""
    count = len(estimates)
    seed = sum(e.seed_variance for e in estimates) / count**2
    squares = sum(
        np.divide(e.seed_variance**2, e.freedom, out=np.zeros_like(e.value), where=e.freedom > 0) for e in estimates
    )
    squares = np.asarray(squares) / count**4
    freedom = np.divide(np.asarray(seed) ** 2, squares, out=np.full_like(squares, np.inf), where=squares > 0)
    return Estimate(
        value=np.asarray(sum(e.value for e in estimates)) / count,
        seed_variance=np.asarray(seed),
        freedom=freedom,
        example_variance=np.asarray(sum(e.example_variance for e in estimates)) / count**2,
        seeds=np.min([e.seeds for e in estimates], axis=0),
    )
