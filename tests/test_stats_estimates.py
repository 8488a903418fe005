"""The model of a mean: its quantiles against SciPy, its contrasts against arithmetic, its projections."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from stats_support import of_predictions, scores

from harness.stats.cells import summarise
from harness.stats.draws import draw_means
from harness.stats.estimates import Estimate, average, contrast


def one(value: float, seed_variance: float, freedom: float, example_variance: float) -> Estimate:
    parts = (value, seed_variance, freedom, example_variance, freedom + 1)
    return Estimate(*(np.array([part], float) for part in parts))


@pytest.mark.parametrize("freedom", [1, 2, 4, 7.3, 60])
@pytest.mark.parametrize("value", [0.1, 1.0, 3.0, 20.0])
def test_without_examples_it_is_a_t_test(freedom: float, value: float) -> None:
    estimate = one(value, 1.0, freedom, 0.0)
    assert estimate.p_value()[0] == pytest.approx(2 * stats.t.sf(value, freedom), rel=1e-4)
    assert estimate.half_width(0.9)[0] == pytest.approx(stats.t.ppf(0.95, freedom), rel=1e-4)


def test_without_seed_spread_it_is_a_z_test() -> None:
    estimate = one(1.5, 0.0, 4, 0.25)
    assert estimate.p_value()[0] == pytest.approx(2 * stats.norm.sf(3.0), rel=1e-6)
    assert estimate.probability_above(2.5)[0] == pytest.approx(stats.norm.sf(2.0), rel=1e-6)
    assert estimate.half_width()[0] == pytest.approx(0.5 * stats.norm.ppf(0.975), rel=1e-6)


@pytest.mark.parametrize(("freedom", "example_variance"), [(2, 1.0), (2, 0.05), (4, 3.0)])
def test_with_both_it_is_their_convolution(freedom: float, example_variance: float) -> None:
    estimate = one(2.0, 1.0, freedom, example_variance)
    density = stats.norm(scale=np.sqrt(example_variance)).pdf
    tail = integrate.quad(lambda z: density(z) * stats.t.sf(2.0 - z, freedom), -np.inf, np.inf)[0]
    assert estimate.p_value()[0] == pytest.approx(2 * tail, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 4), st.floats(0, 4), st.floats(1, 50), st.floats(-3, 3))
def test_accepted_values_and_p_value_agree(seed: float, examples: float, freedom: float, value: float) -> None:
    estimate = one(value, seed, freedom, examples)
    low, high = estimate.accepted(0.95)
    assert (estimate.p_value()[0] <= 0.05) == (low[0] > 0 or high[0] < 0) or abs(min(abs(low[0]), abs(high[0]))) < 1e-3
    assert estimate.probability_above()[0] == pytest.approx(
        1 - one(-value, seed, freedom, examples).probability_above()[0]
    )


@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
@pytest.mark.parametrize(("freedom", "examples"), [(1, 0.5), (2, 0.2), (2, 5.0), (4, 1.0), (7.5, 0.01)])
def test_an_interval_of_a_mean_is_the_posterior_of_its_prior(freedom: float, examples: float, level: float) -> None:
    """Integrated over the seeds' variance v: chi^2 likelihood of s^2 / S = 1 times the prior 1/v + e / (4 v^2)."""

    def density(log_variance: float) -> float:
        v = np.exp(log_variance)  # times v, for the logarithm
        return float(v * (1 / v + examples / (4 * v**2)) * v ** (-freedom / 2) * np.exp(-freedom / (2 * v)))

    high = float(one(0.0, 1.0, freedom, examples).interval(level)[1][0])
    grid = np.linspace(-12, 80, 40_001)
    weights = np.array([density(x) for x in grid])
    tail = (weights * stats.norm.sf(high / np.sqrt(np.exp(grid) + examples))).sum() / weights.sum()
    assert tail == pytest.approx((1 - level) / 2, rel=2e-3)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 4), st.floats(0, 4), st.integers(2, 50), st.floats(0.5, 0.999))
def test_an_interval_lies_within_the_accepted_values(seed: float, examples: float, seeds: int, level: float) -> None:
    estimate = one(0.0, seed, seeds - 1, examples)
    assert estimate.interval(level)[1][0] <= estimate.accepted(level)[1][0] * (1 + 1e-6)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.8, 0.95, 1.0])
@pytest.mark.parametrize(("seeds", "least"), [(2, 0.92), (3, 0.94), (5, 0.94), (20, 0.94)])
def test_intervals_of_normal_scores_cover_close_to_95_percent(seeds: int, least: float, share: float) -> None:
    """`share`: how much of the mean's true variance the seeds make."""
    generator, count = np.random.default_rng([seeds, round(100 * share)]), 6_000
    found = share * generator.chisquare(seeds - 1, count) / (seeds - 1)
    whole = np.ones(count)
    mean = generator.standard_normal(count)
    low, high = Estimate(mean, found, (seeds - 1) * whole, (1 - share) * whole, seeds * whole).interval()
    assert least <= ((low <= 0) & (high >= 0)).mean() <= 0.97


def test_two_rows_that_say_the_very_same_tie() -> None:
    estimate = contrast(scores([[0.6, 0.6], [0.6, 0.6]]), np.array([[1.0, -1.0]]))
    assert estimate.p_value()[0] == 1
    assert estimate.half_width()[0] == 0
    assert estimate.interval() == (0, 0)
    assert estimate.probability_above()[0] == 0.5


def test_a_single_seed_has_no_interval() -> None:
    estimate = contrast(scores([[0.6, np.nan], [0.5, 0.7]], 0.01), np.eye(2))
    assert estimate.value.tolist() == [0.6, pytest.approx(0.6)]
    assert np.isnan(estimate.half_width()).tolist() == [True, False]
    assert np.isnan(estimate.interval()[0]).tolist() == [True, False]
    assert np.isnan(estimate.p_value()).tolist() == [True, False]
    assert estimate.seeds.tolist() == [1, 2]


def test_a_difference_is_paired_by_seed() -> None:
    first, second = [0.70, 0.80, 0.60], [0.69, 0.78, 0.59]
    estimate = contrast(scores([first, second]), np.array([[1.0, -1.0]]))
    oracle = stats.ttest_rel(first, second)
    assert estimate.p_value()[0] == pytest.approx(oracle.pvalue, rel=1e-4)
    low, high = oracle.confidence_interval(0.95)
    assert estimate.interval()[0][0] == pytest.approx(low, rel=1e-3)
    assert estimate.interval()[1][0] == pytest.approx(high, rel=1e-3)


def test_a_seed_that_one_row_lacks_is_left_out_of_the_difference() -> None:
    estimate = contrast(scores([[0.7, 0.8, 0.1], [0.6, 0.5, np.nan]]), np.array([[1.0, -1.0]]))
    assert estimate.seeds.tolist() == [2]
    assert estimate.value[0] == pytest.approx(0.2)


def test_a_difference_is_paired_by_example() -> None:
    """Rows whose errors are the same examples: their difference has no example error, each alone has."""
    task = scores([[0.7, 0.8, 0.6], [0.6, 0.7, 0.5]], example_variance=0.01, shared=1.0)
    assert contrast(task, np.array([[1.0, -1.0]])).example_variance[0] == pytest.approx(0, abs=1e-12)
    assert contrast(task, np.eye(2)).example_variance.tolist() == pytest.approx([0.01, 0.01])


def test_the_example_part_is_what_seeds_share() -> None:
    """Independent errors of the seeds are in their spread already, and are not counted twice."""
    task = scores([[0.7, 0.8, 0.6]], example_variance=0.01, shared=0.25)
    assert contrast(task, np.eye(1)).example_variance[0] == pytest.approx(0.0025)
    by_chance_equal = contrast(scores([[0.7, 0.7, 0.7]], example_variance=0.01, shared=0.25), np.eye(1))
    assert by_chance_equal.seed_variance[0] == pytest.approx(0.0075 / 3)


def test_an_average_over_one_task_is_that_task_and_welch_adds_two() -> None:
    task = contrast(scores([[0.7, 0.8, 0.6], [0.5, 0.6, 0.6]], 0.001), np.eye(2))
    same = average([task])
    np.testing.assert_allclose(same.p_value(0.5), task.p_value(0.5))
    first, second = [0.7, 0.8, 0.6], [0.4, 0.5, 0.5, 0.55]
    parts = [contrast(scores([first]), np.eye(1)), contrast(scores([[-x for x in second]]), np.eye(1))]
    oracle = stats.ttest_ind(first, second, equal_var=False)
    assert average(parts).p_value()[0] == pytest.approx(oracle.pvalue, rel=1e-3)
    assert average(parts).freedom[0] == pytest.approx(oracle.df)


def test_a_cell_says_what_its_seeds_say() -> None:
    values = np.array([0.7, np.nan, 0.8, 0.9])
    cell = summarise(values, (0.6, 1.0))
    assert (cell.seeds, cell.mean, cell.median, cell.low, cell.high) == (3, pytest.approx(0.8), 0.8, 0.7, 0.9)
    assert cell.spread == pytest.approx(0.1)
    assert cell.interval == (0.6, 1.0)
    lone = summarise(np.array([0.7, np.nan]), None)
    assert (lone.seeds, lone.mean, lone.spread, lone.interval) == (1, 0.7, None, None)
    nothing = summarise(np.array([np.nan]), None)
    assert (nothing.seeds, nothing.mean, nothing.median, nothing.low) == (0, None, None, None)


def test_more_seeds_narrow_the_seed_part_only() -> None:
    estimate = one(0.5, 1.0, 4, 0.3).with_more_seeds(15)
    assert (estimate.seed_variance[0], estimate.freedom[0], estimate.example_variance[0]) == (0.25, 19, 0.3)


def test_draws_have_the_moments_and_quantiles_of_the_model() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 200)
    right = generator.random((2, 4, 200)) < np.array([0.8, 0.7])[:, None, None]
    task = of_predictions("accuracy", labels, np.where(right, labels, 1 - labels), generator)
    draws = draw_means([task, task], 20_000, generator)
    known = average([contrast(task, np.eye(2))] * 2)
    low, high = known.accepted(0.8)
    np.testing.assert_allclose(np.quantile(draws, [0.1, 0.9], axis=0), [low, high], atol=2e-3)
    apart = average([contrast(task, np.array([[1.0, -1.0]]))] * 2)
    share = float((draws[:, 0] > draws[:, 1]).mean())
    assert share == pytest.approx(apart.probability_above()[0], abs=0.02)
