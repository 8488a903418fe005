"""Two rows: their difference, paired by seed and example, and whether a table's pairs can be told apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from harness.stats.corpus import Array
from harness.stats.estimates import Estimate, average, contrast
from harness.stats.resampling import TaskScores

ENUMERATED = 14
"""Up to so many blocks all sign patterns are tried; beyond, a sample of them."""


def all_pairs(rows: int) -> list[tuple[int, int]]:
    """(first, second) of every pair, first < second."""
    return list(itertools.combinations(range(rows), 2))


def pair_coefficients(pairs: Sequence[tuple[int, int]], rows: int) -> Array:
    """Contrasts "first minus second": [pairs, rows]."""
    coefficients = np.zeros((len(pairs), rows))
    for index, (first, second) in enumerate(pairs):
        coefficients[index, first], coefficients[index, second] = 1.0, -1.0
    return coefficients


def differences(tasks: Sequence[TaskScores], pairs: Sequence[tuple[int, int]]) -> Estimate:
    """First minus second of each pair, averaged over tasks: [pairs]."""
    coefficients = pair_coefficients(pairs, len(tasks[0].points))
    return average([contrast(task, coefficients) for task in tasks])


def holm(p_values: Array) -> Array:
    """Holm's adjusted p-values of one family: [hypotheses]. NaN stays NaN and counts as a hypothesis.

    Rejecting what is at most alpha makes any false rejection at most alpha likely, however the tests depend.
    """
    filled = np.where(np.isnan(p_values), 1.0, p_values)
    order = np.argsort(filled, kind="stable")
    stepped = np.maximum.accumulate(filled[order] * np.arange(len(filled), 0, -1))
    adjusted = np.empty_like(filled)
    adjusted[order] = np.minimum(stepped, 1.0)
    return np.where(np.isnan(p_values), np.nan, adjusted)


def permutation_p(
    differences: Array, weights: Array, generator: np.random.Generator, permutations: int = 20_000
) -> float:
    """Two-sided p-value of the weighted sum of differences when whole runs may change sides. Both arrays: [blocks].

    A block is one seed on one task. The null hypothesis is that the two rows are one method under two names: then
    their two runs in a block can be swapped, which turns the sign of the difference. Examples are not swapped one
    by one: that would ask whether two trained models differ, and two runs of one method do. Exact for up to
    ENUMERATED blocks. With N blocks it cannot fall below 2 / 2^N: three seeds on one task prove nothing this way.
    """
    terms = differences * weights
    if len(terms) <= ENUMERATED:
        signs = 1.0 - 2.0 * (np.arange(2 ** len(terms))[:, None] >> np.arange(len(terms)) & 1)
    else:
        signs = generator.choice((1.0, -1.0), (permutations, len(terms)))
    reached = np.abs(signs @ terms) >= abs(terms.sum()) * (1 - 1e-12) - 1e-15
    if len(terms) <= ENUMERATED:
        return float(reached.mean())
    return float((reached.sum() + 1) / (permutations + 1))


def paired_blocks(tasks: Sequence[TaskScores], pair: tuple[int, int]) -> tuple[Array, Array]:
    """Differences of a pair by task and common seed, and weights whose sum of products is the mean over tasks."""
    parts, weights = [], []
    for task in tasks:
        values = task.points[pair[0]] - task.points[pair[1]]
        known = values[~np.isnan(values)]
        parts.append(known)
        weights.append(np.full(len(known), 1 / (max(len(known), 1) * len(tasks))))
    return np.concatenate(parts), np.concatenate(weights)


def probability_of_improvement(tasks: Sequence[TaskScores], pairs: Sequence[tuple[int, int]]) -> Array:
    """How often a run of a pair's first row beats a run of the second, ties half: [pairs]; NaN if one has no runs.

    Mean over tasks. Agarwal et al. 2021, arXiv:2108.13264: runs of all seeds against all seeds (Mann and Whitney).
    """
    first, second = np.array(pairs, int).reshape(-1, 2).T
    shares = []
    for task in tasks:
        above = task.points[first][:, :, None] - task.points[second][:, None, :]
        runs = task.present.sum(1)
        wins = ((above > 0) + 0.5 * (above == 0)).sum((1, 2))
        with np.errstate(invalid="ignore"):
            shares.append(wins / (runs[first] * runs[second]))
    return np.asarray(np.mean(shares, axis=0))
