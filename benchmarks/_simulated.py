"""Runs whose truth is known.

A run answers example i rightly with probability Phi(mean + seed + own seed + difficulty of i + taste for i): the seed's
part is shared by rows (pairing) or a row's own, difficulty by all rows, taste by all seeds of one row. For correlations
a seed has a correlation of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from harness.stats.resampling import Split, TaskScores, task_scores

DIFFICULTY, POSITIVE, CORRELATION = 1.0, 0.7, 0.9
"""Deviation of the examples' difficulty; share of class 1; atanh of the mean correlation at mean 0."""


@dataclass(frozen=True)
class World:
    """What is simulated; deviations are on the probit scale (0.1 is about 2.5 points of accuracy at 75 %)."""

    seeds: int
    seed_sd: float
    examples: int = 200
    tasks: int = 1
    metric: str = "accuracy"
    means: tuple[float, ...] = (0.8,)
    """Of each row."""
    taste: float = 0.3
    paired: float = 0.5
    """Share of the seeds' variance that rows have in common."""
    lucky: float = 0.0
    """Share that a row's seed has on every task alike, which the model takes to be none."""
    resamples: int = 400

    def truth(self) -> np.ndarray[Any, Any]:
        """The mean of the metric over all seeds and examples, for each row."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(61)
        seeds = np.array(self.means)[:, None] + self.seed_sd * nodes
        if self.metric in ("pearson", "spearman"):
            return np.asarray(np.tanh(CORRELATION + seeds) @ weights / weights.sum())
        rate = special.ndtr(seeds / np.sqrt(1 + DIFFICULTY**2 + self.taste**2))
        return np.asarray(_of_rate(self.metric, rate) @ weights / weights.sum())


def _of_rate(metric: str, rate: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The metric of a classifier that is right with this rate in both classes."""
    hit, miss, false, true = POSITIVE * rate, POSITIVE * (1 - rate), (1 - POSITIVE) * (1 - rate), (1 - POSITIVE) * rate
    if metric == "accuracy":
        return rate
    if metric == "f1":
        return 2 * hit / (2 * hit + miss + false)
    return (hit * true - false * miss) / np.sqrt((hit + false) * (hit + miss) * (true + false) * (true + miss))


def simulate(world: World, generator: np.random.Generator, alike: bool = False) -> list[TaskScores]:
    """The runs of every task. alike: all rows have one taste, as one method under several names."""
    luck = generator.standard_normal((len(world.means), world.seeds, 1))
    places = [(row, seed) for row in range(len(world.means)) for seed in range(world.seeds)]
    shape = (len(world.means), world.seeds)
    return [
        task_scores([simulate_split(world, luck, generator, alike)], places, shape, generator, world.resamples)
        for _ in range(world.tasks)
    ]


def simulate_split(
    world: World, luck: np.ndarray[Any, Any], generator: np.random.Generator, alike: bool = False
) -> Split:
    """The runs of one task. luck: [rows, seeds, 1], standard normal, the same on every task."""
    rows, seeds, examples = len(world.means), world.seeds, world.examples
    common, own = generator.standard_normal((1, seeds, 1)), generator.standard_normal((rows, seeds, 1))
    here = np.sqrt(world.paired) * common + np.sqrt(1 - world.paired) * own
    seed = world.seed_sd * (np.sqrt(1 - world.lucky) * here + np.sqrt(world.lucky) * luck)
    level = np.array(world.means)[:, None, None] + seed
    if world.metric in ("pearson", "spearman"):
        return _numbers(world, level, generator)
    taste = world.taste * generator.standard_normal((1 if alike else rows, 1, examples))
    difficulty = DIFFICULTY * generator.standard_normal((1, 1, examples))
    right = generator.random((rows, seeds, examples)) < special.ndtr(level + taste + difficulty)
    labels = (generator.random(examples) < POSITIVE).astype(int)
    return Split(world.metric, labels.tolist(), list(np.where(right, labels, 1 - labels).reshape(-1, examples)))


def _numbers(world: World, level: np.ndarray[Any, Any], generator: np.random.Generator) -> Split:
    """Predictions of numbers, half of whose error is shared by all seeds."""
    correlation = np.tanh(CORRELATION + level)
    labels = generator.standard_normal(world.examples)
    shared = generator.standard_normal((1, 1, world.examples))
    error = np.sqrt(0.5) * (shared + generator.standard_normal((*level.shape[:2], world.examples)))
    predictions = correlation * labels + np.sqrt(1 - correlation**2) * error
    return Split(world.metric, labels.tolist(), list(predictions.reshape(-1, world.examples)))
