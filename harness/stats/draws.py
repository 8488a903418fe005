"""Joint draws of what all rows' true means may be, for what is no single mean: fronts, crossings, ranks of curves.

The model is that of `estimates`, drawn instead of integrated: under one seed and one example the rows move together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from harness.stats.corpus import Array
from harness.stats.estimates import average, contrast
from harness.stats.resampling import TaskScores


def draw_means(tasks: Sequence[TaskScores], draws: int, generator: np.random.Generator) -> Array:
    """Draws of every row's mean over the tasks: [draws, R]; NaN for a row without two seeds on every task."""
    rows = len(tasks[0].points)
    known = average([contrast(task, np.eye(rows)) for task in tasks])
    seed_part = sum(_seed_part(task, draws, generator) for task in tasks) / len(tasks)
    example_part = sum(_example_part(task, draws, generator) for task in tasks) / len(tasks)
    # One quantile of chi^2 for all rows of a draw, each with its own degrees of freedom: normal becomes t.
    freedom = np.clip(np.nan_to_num(known.freedom, nan=1.0), 1e-3, 1e6)
    chi = 2 * special.gammaincinv(freedom / 2, generator.uniform(1e-12, 1, (draws, 1)))
    seed_part = seed_part * np.sqrt(freedom / np.maximum(chi, 1e-300))
    return np.where(known.seeds >= 2, known.value + seed_part + example_part, np.nan)


def _seed_part(task: TaskScores, draws: int, generator: np.random.Generator) -> Array:
    """Normal, with the covariance of the rows' means over seeds: sums of the observed deviations, randomly weighted."""
    seeds = task.present.sum(1)
    centred = np.where(task.present, task.points - _mean(task)[:, None], 0.0)
    scaled = centred / np.sqrt(np.maximum(seeds * (seeds - 1), 1))[:, None]
    return np.asarray(generator.standard_normal((draws, task.points.shape[1])) @ scaled.T)


def _example_part(task: TaskScores, draws: int, generator: np.random.Generator) -> Array:
    """Normal, with the covariance that rows share under different seeds."""
    rows, seeds = task.points.shape
    other = np.where(np.eye(seeds, dtype=bool)[None, :, None, :], 0.0, np.nan_to_num(task.covariance))
    present = task.present.astype(float)
    counted = np.einsum("is,jt->ij", present, present) - present @ present.T
    shared = other.sum((1, 3)) / np.maximum(counted, 1)
    values, vectors = np.linalg.eigh((shared + shared.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))  # rounding and few resamples leave small negative ones
    return np.asarray(generator.standard_normal((draws, rows)) @ root.T)


def _mean(task: TaskScores) -> Array:
    seeds = task.present.sum(1)
    return np.asarray(np.nansum(task.points, axis=1) / np.maximum(seeds, 1))
