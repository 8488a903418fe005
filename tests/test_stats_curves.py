"""Fronts, crossings and tuning budgets: against enumeration and against worlds whose answer is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stats_support import scores

from harness.stats.budgets import expected_best
from harness.stats.curves import Crossover, crossover
from harness.stats.draws import draw_means
from harness.stats.efficiency import front_probability, on_front

SIZES = np.array([100.0, 400.0, 1600.0, 6400.0])
POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=7)


@given(POINTS)
def test_the_front_is_what_no_other_row_beats(rows: list[tuple[int, int]]) -> None:
    values, costs = (np.array(column, float) for column in zip(*rows, strict=True))
    expected = [not any(c <= cost and s >= score and (c < cost or s > score) for s, c in rows) for score, cost in rows]
    assert on_front(values, costs).tolist() == expected


def test_unknown_scores_and_costs_are_on_no_front_and_beat_nobody() -> None:
    values, costs = np.array([0.5, np.nan, 0.9]), np.array([1.0, 0.5, np.nan])
    assert on_front(values, costs).tolist() == [True, False, False]


def test_the_front_s_probability_is_one_half_for_a_dearer_twin() -> None:
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.02, (4, 6))
    noise -= noise.mean(1, keepdims=True)  # the rows' means are exactly these
    task = scores(np.array([0.5, 0.5, 0.9, 0.2])[:, None] + noise)
    draws = draw_means([task], 4000, generator)
    shares = front_probability(draws, np.array([1.0, 2.0, 3.0, 4.0]))
    assert shares[0] == 1  # the cheapest
    assert shares[1] == pytest.approx(0.5, abs=0.03)
    assert shares[2] == pytest.approx(1, abs=0.001)
    assert shares[3] == pytest.approx(0, abs=0.001)
    assert np.isnan(front_probability(np.where([True, False, True, True], draws, np.nan), np.arange(4.0))[1])


def curves(gap: np.ndarray, seed_sd: float, seed: int = 0, draws: int = 4000) -> Crossover:
    """Two rows at SIZES; the first is ahead by `gap`."""
    generator = np.random.default_rng(seed)
    base = 0.4 + 0.05 * np.log(SIZES)
    points = np.concatenate([base + gap, base])[:, None] + generator.normal(0, seed_sd, (8, 5))
    return crossover(scores(points), SIZES, [0, 1, 2, 3], [4, 5, 6, 7], generator, draws)


def test_a_crossing_on_the_fitted_line_is_found() -> None:
    gap = 0.1 * (math.log(800) - np.log(SIZES))
    exact = curves(gap, 0.0)
    assert exact.size == pytest.approx(800)
    assert exact.interval == pytest.approx((800, 800))
    assert (exact.first_leads_below, exact.leads_below, exact.leads_above, exact.crosses) == (True, 1, 1, 1)
    noisy = curves(-gap, 0.02)
    assert not noisy.first_leads_below
    assert noisy.size is not None
    assert noisy.interval[0] < noisy.size < noisy.interval[1]
    assert noisy.size == pytest.approx(800, rel=0.3)
    assert noisy.crosses > 0.99


def test_curves_that_do_not_cross_say_so() -> None:
    apart = curves(np.full(4, 0.2), 0.01)
    assert (apart.size, apart.leads_below, apart.crosses) == (None, 1, 0)
    assert apart.interval == (math.inf, math.inf)
    alike = curves(np.zeros(4), 0.05, seed=3)
    assert alike.interval[1] == math.inf
    assert alike.crosses < 0.9


def test_a_crossing_s_interval_covers() -> None:
    gap = 0.03 * (math.log(800) - np.log(SIZES))
    found = [curves(gap, 0.02, seed, draws=500) for seed in range(100)]
    assert sum(one.interval[0] <= 800 <= one.interval[1] for one in found) >= 90


def test_one_seed_has_no_crossing() -> None:
    with pytest.raises(ValueError, match="two seeds"):
        crossover(scores(np.ones((4, 1))), SIZES[:2], [0, 1], [2, 3], np.random.default_rng(0))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1)), min_size=1, max_size=6))
def test_the_expected_best_is_the_mean_over_all_subsets(trials: list[tuple[int, float]]) -> None:
    chosen_by, reported = (np.array(column, float) for column in zip(*trials, strict=True))
    for budget, expected in enumerate(expected_best(chosen_by, reported), start=1):
        subsets = [list(subset) for subset in itertools.combinations(range(len(trials)), budget)]
        bests = [reported[subset][chosen_by[subset] == chosen_by[subset].max()].mean() for subset in subsets]
        assert expected == pytest.approx(np.mean(bests), abs=1e-9)


def test_a_selection_score_that_misleads_makes_more_trials_worse() -> None:
    falling = expected_best(np.array([1.0, 2.0, 3.0]), np.array([0.9, 0.8, 0.7]))
    np.testing.assert_allclose(falling, [0.8, (0.8 + 0.7 + 0.7) / 3, 0.7])
    with pytest.raises(ValueError, match="finite"):
        expected_best(np.array([1.0, np.nan]), np.array([0.5, 0.5]))
