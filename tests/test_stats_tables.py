"""Pairs, ranks, Friedman and Nemenyi, profiles: against SciPy, closed testing and printed tables."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from stats_support import scores

from harness.stats.friedman import critical_difference, range_quantile
from harness.stats.pairs import (
    differences,
    holm,
    paired_blocks,
    permutation_p,
    probability_of_improvement,
)
from harness.stats.power import detectable
from harness.stats.profiles import performance_profile
from harness.stats.ranks import RankRange, average_ranks, interquartile_mean, judge_table, rank_ranges

GENERATOR = np.random.default_rng(0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(p_values: list[float]) -> None:
    values = np.array(p_values)
    expected = [
        max(
            min(1.0, len(subset) * min(values[list(subset)]))
            for size in range(1, len(values) + 1)
            for subset in itertools.combinations(range(len(values)), size)
            if index in subset
        )
        for index in range(len(values))
    ]
    np.testing.assert_allclose(holm(values), expected, atol=1e-12)


def test_holm_counts_what_is_unknown_and_keeps_it_unknown() -> None:
    adjusted = holm(np.array([0.01, np.nan, 0.2]))
    np.testing.assert_allclose(adjusted, [0.03, np.nan, 0.4])


def test_swapping_runs_is_scipy_s_permutation_test() -> None:
    first, second = np.array([0.7, 0.8, 0.6, 0.9, 0.75]), np.array([0.65, 0.78, 0.61, 0.8, 0.7])
    oracle = stats.permutation_test(
        (first, second), lambda a, b, axis: (a - b).mean(axis), permutation_type="samples", vectorized=True
    )
    blocks = paired_blocks([scores([first, second])], (0, 1))
    assert permutation_p(*blocks, GENERATOR) == pytest.approx(oracle.pvalue)


def test_many_swaps_are_sampled() -> None:
    values = np.linspace(-0.1, 0.4, 15)
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=15)))
    exact = float((np.abs(signs @ values) >= values.sum() - 1e-12).mean())
    assert permutation_p(values, np.ones(15), np.random.default_rng(1)) == pytest.approx(exact, abs=0.003)


def test_three_seeds_on_one_task_prove_nothing_by_swapping() -> None:
    blocks = paired_blocks([scores([[0.9, 0.9, 0.9], [0.1, 0.1, 0.1]])], (0, 1))
    assert permutation_p(*blocks, GENERATOR) == 2 / 2**3


def test_blocks_weigh_every_task_alike() -> None:
    tasks = [scores([[0.7, 0.9, np.nan], [0.6, 0.6, 0.1]]), scores([[0.4, 0.5, 0.6], [0.4, 0.4, 0.4]])]
    values, weights = paired_blocks(tasks, (0, 1))
    assert len(values) == 5
    assert values @ weights == pytest.approx((0.2 + 0.1) / 2)
    assert values @ weights == pytest.approx(differences(tasks, [(0, 1)]).value[0])


def test_probability_of_improvement_is_mann_and_whitney_s_share() -> None:
    first, second = np.array([0.7, 0.8, 0.6]), np.array([0.65, 0.6, 0.5])
    share = stats.mannwhitneyu(first, second).statistic / 9
    both = probability_of_improvement([scores([first, second])] * 2, [(0, 1), (1, 0)])
    np.testing.assert_allclose(both, [share, 1 - share])
    assert np.isnan(probability_of_improvement([scores([first, [np.nan] * 3])], [(0, 1)])).all()


@pytest.mark.parametrize("seeds", [3, 5, 12])
def test_a_detectable_difference_has_the_power_of_the_t_test(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    task = scores(generator.normal(0.7, 0.1, (2, seeds)))
    difference = differences([task], [(0, 1)])
    error = stats.sem(task.points[0] - task.points[1])
    away = detectable(difference)[0] / error
    power = stats.nct.sf(stats.t.ppf(0.975, seeds - 1), seeds - 1, away)
    assert power == pytest.approx(0.8, abs=0.01)


def test_without_any_variance_every_difference_is_detectable() -> None:
    same = differences([scores([[0.5, 0.5], [0.5, 0.5]])], [(0, 1)])
    assert detectable(same).tolist() == [0]
    assert np.isnan(detectable(differences([scores([[0.5], [0.5]])], [(0, 1)]))[0])


def test_rank_ranges_follow_the_separated_pairs() -> None:
    pairs = [(0, 1), (0, 2), (1, 2)]
    values = np.array([0.1, 0.3, 0.2])
    none = rank_ranges(pairs, values, np.array([False] * 3), 3)
    assert none == [RankRange(1, 3)] * 3
    some = rank_ranges(pairs, values, np.array([False, True, False]), 3)
    assert some == [RankRange(1, 2), RankRange(1, 3), RankRange(2, 3)]
    everything = rank_ranges(pairs, -values, np.array([True] * 3), 3)
    assert everything == [RankRange(3, 3), RankRange(2, 2), RankRange(1, 1)]


def test_a_table_separates_what_is_clear_and_ties_the_rest() -> None:
    steady = np.array([0.0, 0.001, -0.001, 0.002])
    table = judge_table([scores([0.9 + steady, 0.5 + steady, 0.5005 + steady[::-1]], 1e-8, 0.5)] * 2)
    assert table.ranges == (RankRange(1, 1), RankRange(2, 3), RankRange(2, 3))
    assert table.averages.value[0] == pytest.approx(0.9005)


def test_a_row_with_one_seed_has_no_place_and_takes_none() -> None:
    once = [0.99, np.nan, np.nan]
    table = judge_table([scores([[0.9, 0.91, 0.92], once, [0.1, 0.11, 0.1]], 1e-8)])
    assert table.ranges == (RankRange(1, 1), None, RankRange(2, 2))
    assert table.pairs == ((0, 2),)
    alone = judge_table([scores([once, [0.1, 0.2, 0.3]])])
    assert alone.ranges == (None, RankRange(1, 1))
    assert judge_table([scores([once])]).ranges == (None,)


def test_average_ranks_and_interquartile_means_are_scipy_s() -> None:
    values = np.array([[0.9, 0.8], [0.7, 0.8], [0.1, 0.2]])
    assert average_ranks(values).tolist() == [1.25, 1.75, 3.0]
    runs = np.random.default_rng(1).normal(size=(2, 20))
    np.testing.assert_allclose(interquartile_mean(runs), stats.trim_mean(runs, 0.25, axis=1))
    fewer = np.array([[0.5, np.nan, 0.1, 0.9, 0.2, 0.7], [np.nan] * 6])
    found = interquartile_mean(fewer)
    assert found[0] == pytest.approx(stats.trim_mean([0.5, 0.1, 0.9, 0.2, 0.7], 0.25))
    assert np.isnan(found[1])


def test_friedman_is_scipy_s_and_the_critical_difference_is_the_printed_one() -> None:
    values = np.random.default_rng(2).normal(size=(5, 10)) + np.arange(5)[:, None]
    found = critical_difference(values)
    oracle = stats.friedmanchisquare(*values)
    assert (found.statistic, found.p_value) == pytest.approx((oracle.statistic, oracle.pvalue))
    # Demsar 2006, table 5a: q = 2.728 for five rows at 0.05, 2.343 for three.
    assert found.difference == pytest.approx(2.728 * np.sqrt(5 * 6 / 60), rel=1e-3)
    assert critical_difference(values[:3]).difference == pytest.approx(2.343 * np.sqrt(3 * 4 / 60), rel=1e-3)


@pytest.mark.parametrize("count", [3, 5, 12, 40])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_the_range_of_normals_is_scipy_s_studentized_range(count: int, level: float) -> None:
    oracle = stats.studentized_range.ppf(level, count, np.inf)
    assert range_quantile(level, count) == pytest.approx(oracle, rel=1e-6)


def test_friedman_with_ties_and_ranks_are_scipy_s() -> None:
    values = np.random.default_rng(5).integers(0, 4, (5, 9)) / 4
    found, oracle = critical_difference(values), stats.friedmanchisquare(*values)
    assert (found.statistic, found.p_value) == pytest.approx((oracle.statistic, oracle.pvalue))
    np.testing.assert_allclose(found.ranks, stats.rankdata(-values, axis=0).mean(axis=1))


def test_groups_are_the_largest_sets_within_the_critical_difference() -> None:
    order = np.array([[4.0] * 30, [3.0] * 30, [2.0] * 30, [1.0] * 30])
    assert critical_difference(order).groups == ()  # with 30 tasks four clear rows are all apart
    few = critical_difference(order[:, :2])
    assert few.groups == ((0, 1, 2, 3),)
    some = critical_difference(order[:, :9])
    assert some.difference == pytest.approx(1.56, abs=0.01)
    assert some.groups == ((0, 1), (1, 2), (2, 3))


def test_friedman_of_ties_and_of_too_little() -> None:
    tied = critical_difference(np.ones((3, 4)))
    assert (tied.p_value, tied.groups) == (1.0, ((0, 1, 2),))
    with pytest.raises(ValueError, match="three rows"):
        critical_difference(np.ones((2, 4)))


def test_a_profile_is_one_minus_the_distribution_of_the_runs() -> None:
    runs = np.random.default_rng(3).random((2, 1, 50))
    thresholds = np.linspace(0, 1, 11)
    expected = 1 - stats.ecdf(runs[0, 0]).cdf.evaluate(thresholds)
    np.testing.assert_allclose(performance_profile(runs, thresholds)[0], expected)
    partly = np.array([[[0.2, np.nan], [0.8, 0.9]], [[0.1, 0.2], [np.nan, np.nan]]])
    found = performance_profile(partly, np.array([0.5]))
    assert found[0, 0] == 0.5
    assert np.isnan(found[1, 0])
