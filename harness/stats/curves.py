"""Score over training rows: where two rows' curves cross.

A row at a size is one row of a `TaskScores` here, so that sizes under one seed (nested rows) and on one example move
together. Bands around a curve are the intervals of its cells: `estimates.contrast` of the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.stats.corpus import Array
from harness.stats.draws import draw_means
from harness.stats.estimates import LEVEL
from harness.stats.resampling import TaskScores


@dataclass(frozen=True)
class Crossover:
    """What a line fitted to the difference over the logarithm of the size says; sizes are training rows."""

    first_leads_below: bool
    """Whether the first row is the one that is ahead at the smallest size."""
    size: float | None
    """Where the fitted difference is zero; None if that is outside of the sizes measured."""
    interval: tuple[float, float]
    """Of that size; 0 or infinity at an end where the lead may never change."""
    leads_below: float
    """How sure it is that the row that is ahead at the smallest size is so."""
    leads_above: float
    """How sure it is that the other row is ahead at the largest size."""
    crosses: float
    """How sure it is that both are true."""


def crossover(
    task: TaskScores,
    sizes: Array,
    first: list[int],
    second: list[int],
    generator: np.random.Generator,
    draws: int = 4000,
    level: float = LEVEL,
) -> Crossover:
    """The crossing of two curves. sizes: [K], ascending, two or more; first, second: their K rows in `task`.

    ValueError if a point of either curve has fewer than two seeds.
    """
    logs = np.log(sizes)
    fit = np.linalg.pinv(np.stack([np.ones_like(logs), logs], axis=1))
    means = np.nanmean(task.points, axis=1)
    point = fit @ (means[first] - means[second])
    drawn = draw_means([task], draws, generator)
    lines = (drawn[:, first] - drawn[:, second]) @ fit.T
    if np.isnan(lines).any():
        raise ValueError("a crossover needs two seeds at every size")
    sign = 1.0 if point @ [1.0, logs[0]] >= 0 else -1.0
    at_smallest, at_largest = (sign * (lines @ [1.0, log]) for log in (logs[0], logs[-1]))
    below, above = at_smallest > 0, at_largest < 0
    low, high = np.quantile(_roots(sign * lines, logs), [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    inside = sign * (point @ [1.0, logs[-1]]) < 0
    return Crossover(
        first_leads_below=sign > 0,
        size=float(np.exp(-point[0] / point[1])) if inside else None,
        interval=(float(np.exp(low)), float(np.exp(high))),
        leads_below=float(below.mean()),
        leads_above=float(above.mean()),
        crosses=float((below & above).mean()),
    )


def _roots(lines: Array, logs: Array) -> Array:
    """Logarithm of the size up to which the line is above zero: -inf if nowhere measured, inf if everywhere."""
    left, right = lines @ [1.0, logs[0]], lines @ [1.0, logs[-1]]
    share = np.divide(left, left - right, out=np.zeros_like(left), where=left != right)
    crossing = logs[0] + share * (logs[-1] - logs[0])
    return np.where(left <= 0, -np.inf, np.where(right > 0, np.inf, crossing))
