"""Adaptive seeds: what is decided after a look at the table, and which trial comes next.

Whoever looks often enough sees a difference where there is none. Here look j may err with probability
alpha / (j (j + 1)), half of alpha at the first look, a sixth at the second; all looks together, however many there
will be, stay below alpha. And since every look makes the next one dearer, a look waits until some open pair has a fifth
more seeds than at the last one: forty seeds take a dozen looks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.stats.corpus import Array
from harness.stats.estimates import SAME, Estimate, contrast
from harness.stats.pairs import differences, holm, pair_coefficients
from harness.stats.resampling import TaskScores

State = Literal["separated", "equivalent", "open", "abandoned"]
"""abandoned: open, but whoever asks spends nothing more on it."""
ALPHA = 0.05
GROWTH = 1.2
"""Seeds of an open pair over those that it had at the last look, for another one."""
CAP = 100
"""No more further seeds than this are counted out."""


@dataclass(frozen=True)
class Spend:
    """The next trial: a row's seed on a task."""

    row: int
    task: int
    seed: int
    """Place among the seeds of the task; the number of them for one that no row has yet."""


def spent(look: int, alpha: float = ALPHA) -> float:
    """The part of alpha that look 1, 2, ... may spend."""
    return alpha / (look * (look + 1))


def decide(
    difference: Estimate, look: int, margin: float, before: Sequence[State] = (), alpha: float = ALPHA
) -> list[State]:
    """The state of every pair after a look. What an earlier look decided (`before`) stays decided.

    separated: the difference is not zero. equivalent: it is within `margin` either way (two one-sided tests).
    Both are corrected for the number of pairs (Holm) and for the looks.
    """
    level = spent(look, alpha)
    apart, alike = holm(difference.p_value()) <= level, holm(equivalence_p(difference, margin)) <= level
    now = [_state(bool(separated), bool(equal)) for separated, equal in zip(apart, alike, strict=True)]
    return [old if old != "open" else new for old, new in zip(before, now, strict=True)] if before else now


def _state(apart: bool, alike: bool) -> State:
    return "separated" if apart else "equivalent" if alike else "open"


def equivalence_p(difference: Estimate, margin: float) -> Array:
    """p-value of the hypothesis that the difference is `margin` or more, either way; 1 without a margin."""
    if margin <= 0:
        return np.where(np.isnan(difference.seed_variance), np.nan, 1.0)
    return np.maximum(1 - difference.probability_above(-margin), difference.probability_above(margin))


@dataclass(frozen=True)
class Course:
    """Where a table stands after all looks so far."""

    look: int
    """The number of looks."""
    states: tuple[State, ...]
    """Of every pair."""
    difference: Estimate


def follow(
    tasks: Sequence[TaskScores], pairs: Sequence[tuple[int, int]], further: Sequence[Spend], margin: float
) -> Course:
    """All looks: at the table without the `further` trials, then whenever one of them makes the next look due.

    further: trials in `tasks`, in the order in which they came. A seed that one row of a pair has alone says nothing of
    their difference, and counts once the other has it. The same trials in the same order make the same decisions,
    whoever asks.
    """
    hidden = [task.points.copy() for task in tasks]
    for trial in further:
        hidden[trial.task][trial.row, trial.seed] = np.nan
    course, looked_at = _look(tasks, hidden, pairs, margin, None), _common_seeds(hidden, pairs)
    for trial in further:
        hidden[trial.task][trial.row, trial.seed] = tasks[trial.task].points[trial.row, trial.seed]
        seeds = _common_seeds(hidden, pairs)
        if _due(seeds, looked_at, course.states):
            course, looked_at = _look(tasks, hidden, pairs, margin, course), seeds
    return course


def _common_seeds(points: Sequence[Array], pairs: Sequence[tuple[int, int]]) -> Array:
    """Seeds that both rows of each pair have, summed over tasks: [pairs]."""
    first, second = np.array(pairs, dtype=int).reshape(-1, 2).T
    present = [~np.isnan(of_task) for of_task in points]
    return np.asarray(sum((known[first] & known[second]).sum(1) for known in present), dtype=float)


def _due(seeds: Array, looked_at: Array, states: Sequence[State]) -> bool:
    """Whether an open pair has enough more seeds than at the last look: one at least."""
    still = np.array([state == "open" for state in states], dtype=bool)
    return bool((seeds >= np.maximum(np.ceil(GROWTH * looked_at - SAME), looked_at + 1))[still].any())


def _look(
    tasks: Sequence[TaskScores],
    points: Sequence[Array],
    pairs: Sequence[tuple[int, int]],
    margin: float,
    before: Course | None,
) -> Course:
    shown = [TaskScores(seen, task.covariance) for seen, task in zip(points, tasks, strict=True)]
    difference, look = differences(shown, pairs), before.look + 1 if before else 1
    return Course(look, tuple(decide(difference, look, margin, before.states if before else ())), difference)


def further_seeds(difference: Estimate, level: float, margin: float = 0.0) -> Array:
    """How many more seeds of both rows on every task decide each pair, if values and spreads stay; NaN if over CAP.

    level: what one comparison may err with, corrections included. Seeds do not add examples: a difference that is
    small beside the test set's own error is not separated by any number of them.
    """
    apart = _fewest(difference, lambda estimate: estimate.p_value() <= level)
    if margin <= 0:
        return apart
    return np.fmin(apart, _fewest(difference, lambda estimate: equivalence_p(estimate, margin) <= level))


def next_trial(
    tasks: Sequence[TaskScores],
    pairs: Sequence[tuple[int, int]],
    difference: Estimate,
    states: Sequence[State],
    look: int,
    margin: float = 0.0,
    alpha: float = ALPHA,
) -> Spend | None:
    """The trial that most likely decides a pair soonest; None if all are, or if no seeds would decide any.

    Of the open pairs, that which needs the fewest further seeds at the next look, one without two seeds first; of its
    tasks, that where a seed takes most from the variance, for each trial it costs (one, if the other row has the seed
    already). A pair that no number of seeds would decide as it stands comes last, and counts as if it were one standard
    error further apart.
    """
    still = [index for index, state in enumerate(states) if state == "open"]
    needed = _urgency(difference, spent(look + 1, alpha) / max(len(still), 1), margin)
    candidates = [index for index in still if np.isfinite(needed[index])]
    if not candidates:
        return None
    first, second = pairs[min(candidates, key=lambda index: (needed[index], index))]
    coefficients = pair_coefficients([(first, second)], len(tasks[0].points))
    gains = []
    for task in tasks:
        one = contrast(task, coefficients)
        alone = bool((task.present[first] != task.present[second]).any())
        gains.append(float(one.seed_variance[0] / (one.seeds[0] + 1)) / (1 if alone else 2))
    chosen = int(np.argmax(np.nan_to_num(gains, nan=np.inf)))
    return _missing(tasks[chosen], chosen, (first, second))


def _urgency(difference: Estimate, level: float, margin: float) -> Array:
    """Further seeds of each pair; -1 where there are not two yet, over CAP if only luck would decide, NaN if none."""
    error = np.sqrt(difference.seed_variance + difference.example_variance)
    hopeful = dataclasses.replace(difference, value=np.abs(difference.value) + error)
    needed, at_best = further_seeds(difference, level, margin), further_seeds(hopeful, level, margin)
    known = np.where(np.isnan(needed), CAP + 1 + at_best, needed)
    return np.where(np.isnan(difference.seed_variance), -1.0, known)


def _missing(task: TaskScores, place: int, pair: tuple[int, int]) -> Spend:
    """A seed that one row of the pair has and the other lacks; else the first that neither has, for the first row."""
    first, second = task.present[pair[0]], task.present[pair[1]]
    for seed in range(len(first)):
        if first[seed] != second[seed]:
            return Spend(pair[1] if first[seed] else pair[0], place, seed)
    neither = np.flatnonzero(~first)
    return Spend(pair[0], place, int(neither[0]) if len(neither) else len(first))


def _fewest(difference: Estimate, decided: Callable[[Estimate], NDArray[np.bool_]]) -> Array:
    """The smallest number of further seeds, 0 to CAP, after which a pair is decided, by bisection; NaN if none is."""
    low, high = np.full(difference.value.shape, -1), np.full(difference.value.shape, CAP)
    while (high - low > 1).any():
        middle = (low + high) // 2
        enough = decided(difference.with_more_seeds(np.maximum(middle, 0)))
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    reachable = decided(difference.with_more_seeds(np.full_like(high, CAP)))
    return np.where(reachable, high.astype(float), np.nan)
