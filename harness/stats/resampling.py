"""From the predictions of all runs on one task to their scores, and how these covary over resampled examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.stats.corpus import HITS, Array, Values, hits, weighted_scores

RESAMPLES = 1000
"""A standard deviation estimated from so many is within 2.2 % of its limit (one standard error)."""
BLOCK = 2_000_000
"""Counts held in memory at once."""


@dataclass(frozen=True)
class Split:
    """One test set of a task: what every run predicted on it."""

    metric: str
    labels: Values
    predictions: Sequence[Values]
    """[runs][examples]."""


@dataclass(frozen=True)
class TaskScores:
    """Scores of R rows under S seeds on one task, NaN where there is no run."""

    points: Array
    """[R, S]: the score on the test sets as they are."""
    covariance: Array
    """[R, S, R, S]: over resampled examples, the same resample for all runs. NaN where there is no run."""

    def __post_init__(self) -> None:
        rows, seeds = self.points.shape
        if self.covariance.shape != (rows, seeds, rows, seeds):
            raise ValueError(f"points {self.points.shape} with a covariance {self.covariance.shape}")

    @property
    def present(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """[R, S]: where there is a score."""
        return ~np.isnan(self.points)


def example_counts(examples: int, resamples: int, generator: np.random.Generator) -> Iterator[Array]:
    """How often each example is drawn in each resample of as many, with replacement: blocks [some, examples]."""
    size = max(1, BLOCK // examples)
    for first in range(0, resamples, size):
        some = min(size, resamples - first)
        drawn = generator.integers(0, examples, (some, examples))
        drawn += examples * np.arange(some)[:, None]
        yield np.bincount(drawn.ravel(), minlength=some * examples).reshape(some, examples).astype(float)


def bootstrap(split: Split, generator: np.random.Generator, resamples: int = RESAMPLES) -> tuple[Array, Array]:
    """Scores of all runs on the test set [runs], and on each resample of its examples [resamples, runs]."""
    examples = len(split.labels)
    blocks = [np.ones((1, examples)), *example_counts(examples, resamples, generator)]
    scores = [weighted_scores(split.metric, split.predictions, split.labels, block) for block in blocks]
    return scores[0][0], np.concatenate(scores[1:])


def moments(split: Split, generator: np.random.Generator, resamples: int = RESAMPLES) -> tuple[Array, Array]:
    """Scores of all runs on the test set [runs], and how these covary over resamples of its examples [runs, runs].

    Of a share of the examples the covariance over all resamples that there are is that of two examples' hits over their
    number: none needs to be drawn.
    """
    if split.metric not in HITS:
        scores, draws = bootstrap(split, generator, resamples)
        return scores, np.atleast_2d(np.cov(draws, rowvar=False))
    had = hits(split.metric, split.predictions, split.labels).astype(float)
    scores = had.mean(1)
    centred = had - scores[:, None]
    return scores, centred @ centred.T / len(split.labels) ** 2


def task_scores(
    splits: Sequence[Split],
    places: Sequence[tuple[int, int]],
    shape: tuple[int, int],
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> TaskScores:
    """Scores of a task whose runs stand at `places` (row, seed) in a table of `shape` [R, S].

    A task's score is the mean over its splits, whose examples are resampled each for itself.
    """
    rows, seeds = shape
    parts = [moments(split, generator, resamples) for split in splits]
    where = np.array([row * seeds + seed for row, seed in places], dtype=int)
    points, covariance = np.full(rows * seeds, np.nan), np.full((rows * seeds, rows * seeds), np.nan)
    points[where] = np.mean([scores for scores, _ in parts], axis=0)
    covariance[np.ix_(where, where)] = sum(shared for _, shared in parts) / len(parts) ** 2
    return TaskScores(points.reshape(shape), covariance.reshape(rows, seeds, rows, seeds))
