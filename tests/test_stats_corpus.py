"""Corpus metrics on weighted examples, against scikit-learn and SciPy on the examples themselves."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics
from stats_support import of_predictions

from harness.errors import UserError
from harness.metric_modules import MODULES
from harness.metrics import METRIC_NAMES
from harness.records import UNPARSED
from harness.stats.corpus import METRICS, Array, Values, weighted_scores
from harness.stats.resampling import Split, bootstrap, example_counts, moments

ORACLES = {
    "accuracy": lambda y, p: metrics.accuracy_score(y, p),
    "f1": lambda y, p: metrics.f1_score(y, p, zero_division=0),
    "matthews": lambda y, p: metrics.matthews_corrcoef(y, p),
    "pearson": lambda y, p: stats.pearsonr(y, p).statistic,
    "spearman": lambda y, p: stats.spearmanr(y, p).statistic,
}
OWN = {name: module(keep_in_memory=True) for name, module in MODULES.items()}


def of_one(metric: str, predictions: Values, labels: Values, counts: Array) -> Array:
    """The metric of one run on every resample."""
    return weighted_scores(metric, [predictions], labels, counts)[:, 0]


def materialised(values: Any, counts: Any) -> Any:
    return np.repeat(values, counts.astype(int))


@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews"])
@pytest.mark.parametrize("classes", [2, 4])
def test_metrics_of_classes_are_those_of_the_resample(name: str, classes: int) -> None:
    if name == "f1" and classes > 2:
        return
    generator = np.random.default_rng(3)
    labels = generator.integers(0, classes, 40)
    predictions = np.where(generator.random(40) < 0.6, labels, generator.integers(0, classes, 40))
    counts = next(example_counts(40, 25, generator))
    expected = [ORACLES[name](materialised(labels, c), materialised(predictions, c)) for c in counts]
    np.testing.assert_allclose(of_one(name, predictions, labels, counts), expected, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_several_runs_are_scored_as_each_alone(name: str) -> None:
    generator = np.random.default_rng(5)
    labels, runs = generator.integers(0, 2, 30), generator.integers(0, 2, (4, 30))
    counts = next(example_counts(30, 25, generator))
    alone = [of_one(name, run, labels, counts) for run in runs]
    np.testing.assert_array_equal(weighted_scores(name, list(runs), labels, counts), np.stack(alone, axis=1))
    with pytest.raises(ValueError, match="29 predictions, 30 labels"):
        weighted_scores(name, [runs[0], runs[1][1:]], labels, counts)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize("digits", [0, 6])
def test_correlations_are_those_of_the_resample_with_and_without_ties(name: str, digits: int) -> None:
    generator = np.random.default_rng(4)
    labels = generator.normal(0, 2, 40).round(digits)
    predictions = (labels + generator.normal(0, 2, 40)).round(digits)
    counts = next(example_counts(40, 25, generator))
    expected = [ORACLES[name](materialised(labels, c), materialised(predictions, c)) for c in counts]
    np.testing.assert_allclose(of_one(name, predictions, labels, counts), expected, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=12))
def test_unweighted_metrics_are_the_harness_s_own(pairs: list[tuple[int, int]]) -> None:
    predictions, labels = [list(side) for side in zip(*pairs, strict=True)]
    for name in ("accuracy", "f1", "matthews", "pearson", "spearman"):
        ours = of_one(name, predictions, labels, np.ones((1, len(pairs))))[0]
        assert ours == pytest.approx(OWN[name].score(predictions, labels), abs=1e-9), name


def test_answers_in_text_are_right_or_wrong_and_parsed_or_not() -> None:
    predictions, labels = ["4", f"{UNPARSED}well", "5"], ["4", "7", "6"]
    counts = np.array([[1.0, 1.0, 1.0], [3.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
    np.testing.assert_allclose(of_one("exact_match", predictions, labels, counts), [1 / 3, 1, 0])
    np.testing.assert_allclose(of_one("parsed", predictions, labels, counts), [2 / 3, 1, 2 / 3])


def test_a_constant_offset_does_not_drown_nearly_constant_predictions() -> None:
    generator = np.random.default_rng(5)
    labels = generator.normal(size=50)
    predictions = 1e4 + 1e-4 * (labels + generator.normal(size=50))
    ours = of_one("pearson", predictions, labels, np.ones((1, 50)))[0]
    assert ours == pytest.approx(stats.pearsonr(predictions, labels).statistic, abs=1e-6)
    assert of_one("pearson", np.full(50, 3.3), labels, np.ones((2, 50))).tolist() == [0, 0]
    constant = np.zeros((1, 50))
    constant[0, 7] = 50  # one example drawn every time
    assert of_one("spearman", predictions, labels, constant).tolist() == [0]
    assert math.isnan(of_one("pearson", [*labels[:-1], math.inf], labels, np.ones((1, 50)))[0])


def test_every_metric_of_the_harness_can_be_resampled_and_no_other() -> None:
    assert set(METRICS) == set(METRIC_NAMES)
    with pytest.raises(UserError, match="matthews"):
        of_one("mathews", [1], [1], np.ones((1, 1)))
    with pytest.raises(ValueError, match="2 predictions"):
        of_one("accuracy", [1, 0], [1], np.ones((1, 1)))


def test_counts_are_a_bootstrap_of_the_examples() -> None:
    blocks = list(example_counts(700_000, 5, np.random.default_rng(0)))
    assert [len(block) for block in blocks] == [2, 2, 1]  # memory is bounded
    assert all((block.sum(1) == 700_000).all() for block in blocks)
    counts = next(example_counts(50, 4000, np.random.default_rng(1)))
    assert counts.mean() == 1
    assert counts.var() == pytest.approx(1 - 1 / 50, rel=0.02)  # multinomial


def test_the_deviation_of_an_accuracy_is_the_binomial_one() -> None:
    hits = np.random.default_rng(2).random(500) < 0.8
    point, draws = bootstrap(Split("accuracy", np.ones(500), [hits.astype(int)]), np.random.default_rng(3), 4000)
    assert point[0] == hits.mean()
    assert draws.std() == pytest.approx(math.sqrt(point[0] * (1 - point[0]) / 500), rel=0.05)


@pytest.mark.parametrize("metric", ["accuracy", "exact_match", "parsed"])
def test_shares_covary_as_over_all_resamples_that_there_are(metric: str) -> None:
    labels = ["4", "7", "7", "2"]
    runs = [["4", "7", "1", f"{UNPARSED}no"], ["4", "1", "7", "2"], [f"{UNPARSED}a", f"{UNPARSED}b", "7", "2"]]
    every = np.array([np.bincount(drawn, minlength=4) for drawn in itertools.product(range(4), repeat=4)], float)
    expected = np.cov(weighted_scores(metric, runs, labels, every), rowvar=False, ddof=0)
    scores, covariance = moments(Split(metric, labels, runs), np.random.default_rng(0))
    np.testing.assert_allclose(covariance, expected, atol=1e-15)
    np.testing.assert_allclose(scores, weighted_scores(metric, runs, labels, np.ones((1, 4)))[0])
    with pytest.raises(ValueError, match="3 predictions, 4 labels"):
        moments(Split(metric, labels, [runs[0][1:]]), np.random.default_rng(0))


def test_runs_share_the_resamples_of_their_task() -> None:
    generator = np.random.default_rng(6)
    labels = generator.integers(0, 2, 300)
    run = np.where(generator.random(300) < 0.7, labels, 1 - labels)
    task = of_predictions("matthews", labels, np.stack([run, run, 1 - run])[:, None], generator)
    covariance = task.covariance[:, 0, :, 0]
    np.testing.assert_allclose(covariance, covariance[0, 0] * np.array([[1, 1, -1], [1, 1, -1], [-1, -1, 1]]))
