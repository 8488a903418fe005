"""Scores of rows under seeds, made without predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.stats.resampling import Split, TaskScores, task_scores


def scores(points: object, example_variance: float = 0.0, shared: float = 1.0) -> TaskScores:
    """A task with these points [rows, seeds]; runs covary over examples by `shared` of their variance."""
    values = np.array(points, float)
    size = values.size
    covariance = example_variance * (shared * np.ones((size, size)) + (1 - shared) * np.eye(size))
    return TaskScores(values, covariance.reshape(*values.shape, *values.shape))


def of_predictions(
    metric: str,
    labels: NDArray[Any],
    predictions: NDArray[Any],
    generator: np.random.Generator,
    resamples: int = 400,
) -> TaskScores:
    """A task of one split whose runs are all there. predictions: [rows, seeds, examples]."""
    rows, seeds, examples = predictions.shape
    places = [(row, seed) for row in range(rows) for seed in range(seeds)]
    split = Split(metric, labels, list(predictions.reshape(-1, examples)))
    return task_scores([split], places, (rows, seeds), generator, resamples)
