"""Whether seeds decide a claim: t intervals over paired seeds, and how many seeds are missing.

Methods under one seed share rows, order and head, so that their difference under it is one observation. A claim says
that the mean of some observations lies in a range. It is supported if the 95 % t interval of each of its contrasts
lies inside its range, and refuted if one lies wholly outside (with the level divided by the number of contrasts,
since one bad of many is likelier than one bad of one). Anything else is open. So are seeds that all say exactly the
same, be they one or many: without a spread there is no interval (two rows that both stay at the majority tie exactly).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

ERROR = 0.05
"""One minus the level of the intervals."""
CAP = 100
"""No more further seeds than this are counted out."""

State = Literal["reproduced", "contradicted", "inconclusive"]


@dataclass(frozen=True)
class Contrast:
    """One quantity of a claim, in points, and the range where the claim has its mean."""

    about: str
    values: tuple[float, ...]
    """One for each seed."""
    low: float = -math.inf
    high: float = math.inf

    @property
    def margin(self) -> float:
        """From the mean to the nearest end of the range; below 0 outside of it."""
        mean = fmean(self.values)
        return min(mean - self.low, self.high - mean)

    @property
    def has_spread(self) -> bool:
        """Whether the seeds differ at all, beyond the rounding of floats."""
        return max(self.values) - min(self.values) > 1e-9

    def half_width(self, comparisons: int = 1, seeds: int | None = None) -> float:
        """Half of the t interval at the observed deviation, with the seeds that there are or a number of `seeds`."""
        if not self.has_spread:
            return math.inf
        count = len(self.values) if seeds is None else seeds
        return _t(1 - ERROR / comparisons / 2, count - 1) * stdev(self.values) / math.sqrt(count)


@dataclass(frozen=True)
class Judgement:
    """What seeds say of a claim."""

    state: State
    about: Contrast
    """The contrast that decides, or that is furthest from being decided."""
    contrasts: int
    further_seeds: int | None = None
    """If inconclusive: how many more would decide; None if more than CAP, or if there is no spread."""


def judge(contrasts: Sequence[Contrast]) -> Judgement:
    """The verdict on a claim that all contrasts lie in their ranges; each has at least one value."""
    count = len(contrasts)
    worst = min(contrasts, key=lambda contrast: contrast.margin + contrast.half_width(count))
    if worst.margin + worst.half_width(count) < 0:
        return Judgement("contradicted", worst, count)
    tightest = min(contrasts, key=lambda contrast: contrast.margin - contrast.half_width())
    if tightest.margin - tightest.half_width() >= 0:
        return Judgement("reproduced", tightest, count)
    further = further_seeds(contrasts)
    # Show the one that speaks most against the claim; or, if that keeps it open, one without a spread.
    shown = min(contrasts, key=lambda contrast: (further is None and contrast.has_spread, contrast.margin))
    return Judgement("inconclusive", shown, count, further)


def further_seeds(contrasts: Sequence[Contrast]) -> int | None:
    """The smallest number of further seeds that decides an open claim, at the observed means and deviations.

    With a mean outside its range, the claim falls as soon as that contrast is clear; else all must become clear.
    None if that takes more than CAP, or if a contrast shows no deviation.
    """
    outside = [_needed(contrast, len(contrasts)) for contrast in contrasts if contrast.margin < 0]
    inside = [_needed(contrast, 1) for contrast in contrasts if contrast.margin >= 0]
    if outside:
        return min((needed for needed in outside if needed is not None), default=None)
    known = [needed for needed in inside if needed is not None]
    return max(known) if len(known) == len(inside) else None


def _needed(contrast: Contrast, comparisons: int) -> int | None:
    """Further seeds until the half-width is below the margin's size; 0 if it is already."""
    return next(
        (more for more, half_width in _half_widths(contrast, comparisons) if half_width < abs(contrast.margin)), None
    )


def _half_widths(contrast: Contrast, comparisons: int) -> Iterator[tuple[int, float]]:
    seeds = len(contrast.values)
    for more in range(CAP + 1):
        yield more, contrast.half_width(comparisons, seeds + more)


def _t(quantile: float, freedom: int) -> float:
    from scipy.special import stdtrit  # what scipy.stats.t.ppf calls, a hundred times faster

    return float(stdtrit(freedom, quantile))
