"""What a design can find: the smallest difference that its seeds and examples tell from none."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import special

from harness.stats.corpus import Array
from harness.stats.estimates import LEVEL, Estimate

POWER = 0.8
NODES = 16
"""Variances that a repetition may find, at the quantiles of Gauss and Legendre: within 0.2 % of the integral."""


def detectable(design: Estimate, level: float | Array = LEVEL, power: float = POWER) -> Array:
    """The smallest true difference from zero that a repetition of the design finds at `level` with this power.

    As if the variances were known to be those of the design. The seeds of each repetition give another variance, and
    with it another half-width, which its difference has to exceed. NaN without two seeds.
    """
    places, weights = np.polynomial.legendre.leggauss(NODES)
    freedom = np.clip(np.nan_to_num(design.freedom, nan=1.0), 1e-3, 1e6)[..., None]
    ratio = 2 * special.gammaincinv(freedom / 2, (places + 1) / 2) / freedom
    parts = {field.name: getattr(design, field.name)[..., None] + 0 * ratio for field in dataclasses.fields(design)}
    widths = Estimate(**{**parts, "seed_variance": parts["seed_variance"] * ratio}).half_width(level)
    scale = np.sqrt(design.seed_variance + design.example_variance)
    low, high = np.zeros_like(scale), np.nan_to_num(widths.max(-1) + scale * special.ndtri(power))
    for _ in range(40):
        middle = (low + high) / 2
        found = special.ndtr((middle[..., None] - widths) / np.where(scale > 0, scale, 1.0)[..., None]) @ (weights / 2)
        low, high = np.where(found >= power, low, middle), np.where(found >= power, middle, high)
    return np.where(np.isnan(scale), np.nan, high)
