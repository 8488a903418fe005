"""Adaptive seeds: what each look may spend, what it decides, and where the next trial goes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats
from stats_support import scores

from harness.stats.estimates import Estimate
from harness.stats.pairs import differences
from harness.stats.sequential import Spend, State, decide, equivalence_p, follow, further_seeds, next_trial, spent

PAIRS = [(0, 1)]


def paired(gap: float, spread: float, seeds: int, example_variance: float = 0.0) -> Estimate:
    """A difference over seeds with exactly this mean and sample deviation."""
    noise = np.linspace(-1, 1, seeds)
    values = gap + spread * noise / (noise.std(ddof=1) if seeds > 1 else 1)
    estimate = differences([scores([values, np.zeros(seeds)])], PAIRS)
    return Estimate(
        estimate.value, estimate.seed_variance, estimate.freedom, np.array([example_variance]), estimate.seeds
    )


def test_all_looks_together_spend_no_more_than_alpha() -> None:
    parts = [spent(look) for look in range(1, 10_000)]
    assert parts[:3] == pytest.approx([0.025, 0.05 / 6, 0.05 / 12])
    assert sum(parts) == pytest.approx(0.05, rel=1e-3)
    assert sum(parts) < 0.05


def test_a_pair_is_separated_equivalent_or_open() -> None:
    assert decide(paired(0.2, 0.01, 5), 1, 0.02) == ["separated"]
    assert decide(paired(0.0, 0.001, 5), 1, 0.02) == ["equivalent"]
    assert decide(paired(0.0, 0.001, 5), 1, 0.0) == ["open"]
    assert decide(paired(0.05, 0.1, 5), 1, 0.02) == ["open"]
    assert decide(paired(0.05, 0.1, 1), 1, 0.02) == ["open"]


def test_what_was_decided_stays_decided() -> None:
    assert decide(paired(0.0, 0.1, 5), 4, 0.0, before=["separated"]) == ["separated"]


def test_a_later_look_needs_more() -> None:
    difference = paired(0.1, 0.06, 5)
    assert difference.p_value()[0] == pytest.approx(0.0203, abs=1e-3)
    assert decide(difference, 1, 0.0) == ["separated"]
    assert decide(difference, 2, 0.0) == ["open"]


def test_equivalence_is_two_one_sided_t_tests() -> None:
    values = np.array([0.01, -0.02, 0.005, 0.0, 0.01])
    difference = differences([scores([values, np.zeros(5)])], PAIRS)
    above = stats.ttest_1samp(values, -0.03, alternative="greater").pvalue
    below = stats.ttest_1samp(values, 0.03, alternative="less").pvalue
    assert equivalence_p(difference, 0.03)[0] == pytest.approx(max(above, below), rel=1e-3)


def test_the_number_of_further_seeds_is_the_first_that_decides() -> None:
    for gap in (0.03, 0.05, 0.08):
        found = further_seeds(paired(gap, 0.06, 4), 0.05)[0]
        sizes = range(4, 105)
        p_values = [2 * stats.t.sf(gap / (0.06 / np.sqrt(n)), n - 1) for n in sizes]
        assert found == next(n for n, p in zip(sizes, p_values, strict=True) if p <= 0.05) - 4


def test_no_number_of_seeds_helps_against_a_small_test_set_or_no_difference() -> None:
    assert np.isnan(further_seeds(paired(0.01, 0.02, 5, example_variance=0.01**2), 0.05)[0])
    assert np.isnan(further_seeds(paired(0.0, 0.02, 5), 0.05)[0])
    assert further_seeds(paired(0.0, 0.02, 5), 0.05, margin=0.015)[0] == 2  # the tie can be shown to be one
    assert further_seeds(paired(0.5, 0.02, 5), 0.05)[0] == 0


def test_the_next_trial_goes_where_it_splits_a_tie_soonest() -> None:
    quiet, loud = np.array([0.0, 0.002, -0.002]), np.array([0.0, 0.09, -0.09])
    tasks = [scores([0.60 + quiet, 0.55 + quiet[::-1], 0.3 + quiet]), scores([0.60 + loud, 0.55 - loud, 0.3 + quiet])]
    pairs = [(0, 1), (0, 2), (1, 2)]
    difference = differences(tasks, pairs)
    states: list[State] = ["open", "separated", "separated"]
    assert next_trial(tasks, pairs, difference, states, 1) == Spend(row=0, task=1, seed=3)
    assert next_trial(tasks, pairs, difference, ["separated"] * 3, 1) is None


def test_a_started_pair_is_completed_first() -> None:
    """A seed that one row has alone says nothing of the difference until the other has it too."""
    points = [[0.60, 0.70, 0.50, 0.66], [0.52, 0.60, 0.45, np.nan]]
    tasks = [scores(points)]
    difference = differences(tasks, PAIRS)
    assert next_trial(tasks, PAIRS, difference, ["open"], 1) == Spend(row=1, task=0, seed=3)


def test_a_tie_that_is_likely_to_split_comes_before_one_that_may() -> None:
    """As it stands the first pair is a dead heat, which a standard error more would split; the second leads."""
    noise = np.array([0.01, -0.01, 0.0, 0.003])
    tasks = [scores([0.6 + noise, 0.6 - noise, 0.61 + 0 * noise])]
    difference = differences(tasks, [(0, 1), (0, 2)])
    assert np.isnan(further_seeds(difference, 0.001)).tolist() == [True, False]
    assert next_trial(tasks, [(0, 1), (0, 2)], difference, ["open", "open"], 1) == Spend(0, 0, 4)
    assert next_trial(tasks, [(1, 0), (0, 2)], difference, ["open", "separated"], 1) == Spend(1, 0, 4)


def test_two_seeds_come_first() -> None:
    tasks = [scores([[0.6, 0.5, 0.7], [0.2, 0.3, 0.1], [0.6, np.nan, np.nan]])]
    pairs = [(0, 1), (0, 2), (1, 2)]
    difference = differences(tasks, pairs)
    assert next_trial(tasks, pairs, difference, ["open"] * 3, 1) == Spend(row=2, task=0, seed=1)


def test_the_course_looks_once_for_each_seed_that_an_open_pair_completes() -> None:
    points = np.array([[0.60, 0.70, 0.50, 0.66], [0.62, 0.60, 0.45, 0.69], [0.1, 0.2, 0.0, np.nan]])
    tasks, pairs = [scores(points)], [(0, 1), (0, 2), (1, 2)]
    first = follow(tasks, pairs, [Spend(0, 0, 3), Spend(1, 0, 3)], 0.0)
    planned = differences([scores(points[:, :3])], pairs)
    assert first.states == tuple(decide(differences(tasks, pairs), 2, 0.0, decide(planned, 1, 0.0)))
    assert first.look == 2
    assert first.states[0] == "open"
    np.testing.assert_allclose(first.difference.value, differences(tasks, pairs).value)
    assert follow(tasks, pairs, [Spend(1, 0, 3)], 0.0).look == 2  # the other row's was planned
    assert follow(tasks, pairs, [], 0.0).look == 1


def test_a_look_waits_for_a_fifth_more_seeds() -> None:
    whole = scores(0.6 + 0.01 * np.random.default_rng(3).standard_normal((2, 40)))
    looks = []
    for last in range(3, 40):
        seen = [dataclasses.replace(whole, points=np.where(np.arange(40) <= last, whole.points, np.nan))]
        course = follow(seen, PAIRS, [Spend(row, 0, seed) for seed in range(3, last + 1) for row in (0, 1)], 0.0)
        looks.append((last + 1, course.look))
    grown = [seeds for (seeds, look), (_, before) in zip(looks[1:], looks, strict=False) if look > before]
    assert grown == [5, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40]
    assert looks[0] == (4, 2)


def test_what_a_look_has_decided_later_trials_do_not_undo() -> None:
    points = [[0.600, 0.601, 0.599, 0.1, 0.1], [0.5, 0.5, 0.5, 0.5, 0.5]]
    further = [Spend(row, 0, seed) for seed in (3, 4) for row in (0, 1)]
    tasks = [scores(points)]
    assert follow(tasks, PAIRS, further, 0.0).states == ("separated",)
    assert decide(differences(tasks, PAIRS), 1, 0.0) == ["open"]
    assert follow(tasks, PAIRS, further, 0.0).look == 1  # there was nothing left to look for


def test_equal_rows_looked_at_up_to_thirty_times_are_separated_in_at_most_five_of_a_hundred_cases() -> None:
    generator, wrong = np.random.default_rng(6), 0
    further = [Spend(row, 0, seed) for seed in range(3, 33) for row in (0, 1)]
    for _ in range(100):
        tasks = [scores(0.7 + 0.02 * generator.standard_normal((2, 33)))]
        wrong += follow(tasks, PAIRS, further, 0.0).states == ("separated",)
    assert wrong <= 5


def test_a_hopeless_tie_gets_no_trial() -> None:
    """Where the test set's own error is all there is, seeds are wasted."""
    noise = np.array([1e-3, -1e-3, 0.0])
    tasks = [scores([0.6 + noise, 0.6 - noise], example_variance=0.01, shared=0.0)]
    apart = dataclasses.replace(differences(tasks, PAIRS), example_variance=np.array([0.01]))
    assert next_trial(tasks, PAIRS, apart, ["open"], 1) is None
