"""Judging claims: each kind against an independent computation, and what seeds can and cannot decide."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.claims.comparisons import AtLeast, BestOf, Between, Crossover, Needs, Spread, Value
from harness.claims.confusion import F1Feasible, Grid, f1_by_errors
from harness.claims.counting import Count
from harness.claims.evaluation import compare
from harness.claims.evidence import COLUMNS
from harness.claims.findings import Finding
from harness.claims.intervals import CAP, Contrast, further_seeds, judge
from harness.claims.sums import Difference, Equal, MaximumOf, MeanOf, Ratio, Wins
from harness.errors import UserError
from harness.printed import PrintedNumber


def printed(*texts: str) -> tuple[PrintedNumber, ...]:
    return tuple(PrintedNumber(text) for text in texts)


def one(text: str) -> PrintedNumber:
    return PrintedNumber(text)


# --------------------------------------------------------------------------------------- printed numbers


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("88.97", 88.965, 88.975),
        ("88.0", 87.95, 88.05),
        ("92,160", 92_155, 92_165),
        ("601", 600.5, 601.5),
        ("24.6K", 24_550, 24_650),
        ("0.80M", 795_000, 805_000),
        ("800K", 750_000, 850_000),
        ("-1.5", -1.55, -1.45),
        ("0", -0.5, 0.5),
    ],
)
def test_a_printed_number_stands_for_all_that_round_to_it(text: str, low: float, high: float) -> None:
    number = one(text)
    assert (float(number.low), float(number.high)) == pytest.approx((low, high))


@pytest.mark.parametrize("text", ["", "1,23", "12,34.5", "1e3", "about 5", "5 %"])
def test_what_no_paper_prints_is_no_number(text: str) -> None:
    with pytest.raises(UserError, match="is no printed number"):
        one(text)


@given(st.integers(-10_000, 10_000), st.integers(0, 3))
def test_rounding_stays_inside_the_interval(thousandths: int, digits: int) -> None:
    exact = thousandths / 1000
    text = f"{exact:.{digits}f}"
    assert float(one(text).low) - 1e-12 <= exact <= float(one(text).high) + 1e-12


# --------------------------------------------------------------------------------------- accuracy and F1


def every_confusion_matrix(positives: int, total: int) -> Iterable[tuple[float, float]]:
    """Accuracy and F1, times 100, of every way to be right and wrong."""
    for found, alarms in itertools.product(range(positives + 1), range(total - positives + 1)):
        missed = positives - found
        right = found + total - positives - alarms
        denominator = 2 * found + alarms + missed
        yield 100 * right / total, 100 * 2 * found / denominator if denominator else 0.0


@pytest.mark.parametrize(("positives", "total"), [(279, 408), (7, 20), (13, 14)])
@pytest.mark.parametrize("accuracy", ["88.97", "50.00", "35.00"])
def test_feasible_f1_are_those_of_all_confusion_matrices(accuracy: str, positives: int, total: int) -> None:
    wanted = [f1 for exact, f1 in every_confusion_matrix(positives, total) if abs(exact - float(accuracy)) <= 0.005]
    found = [float(f1) for _, _, f1 in f1_by_errors(one(accuracy), positives, total)]
    assert sorted(found) == pytest.approx(sorted(wanted))


def test_the_f1_that_qr_lora_prints_for_lora_is_impossible() -> None:
    finding = F1Feasible(one("88.97"), one("87.00"), 279, 408).finding()
    assert finding.verdict == "refuted"
    assert "45 errors" in finding.why
    assert "[91.23, 92.54]" in finding.why
    assert F1Feasible(one("88.97"), one("92.15"), 279, 408).finding().verdict == "holds"


def test_an_accuracy_off_the_grid_has_no_f1_at_all() -> None:
    assert "no number of right answers" in F1Feasible(one("88.90"), one("92.00"), 279, 408).finding().why


@pytest.mark.parametrize(("text", "total", "verdict"), [("87.73", 5463, "refuted"), ("87.74", 5463, "holds")])
def test_a_share_lies_on_the_grid_or_not(text: str, total: int, verdict: str) -> None:
    on_grid = any(f"{100 * right / total:.2f}" == text for right in range(total + 1))
    assert Grid(one(text), total).finding().verdict == verdict == ("holds" if on_grid else "refuted")


# --------------------------------------------------------------------------------------- sums


@pytest.mark.parametrize(
    ("test", "verdict", "why"),
    [
        (MeanOf(one("2.0"), printed("1.0", "3.1")), "holds", "2.05"),
        (MeanOf(one("2.2"), printed("1.0", "3.1")), "refuted", "2.05"),
        (MaximumOf(one("3.1"), printed("1.0", "3.1")), "holds", "largest of the 2"),
        (MaximumOf(one("1.0"), printed("1.0", "3.1")), "refuted", "3.1"),
        (Ratio(one("46,080"), one("601"), one("77")), "holds", "76.67"),
        (Ratio(one("92,160"), one("601"), one("77")), "refuted", "153.34"),
        (Ratio(one("121"), one("11,037"), one("1.10"), scale=100), "holds", "1.10"),
        (Ratio(one("168M"), one("0.92M"), one("100"), at_least=True), "holds", "182.61"),
        (Ratio(one("89"), one("1.0"), one("100"), at_least=True), "refuted", "at least 100"),
        (Difference(one("88.73"), one("87.99"), one("1.72")), "refuted", "0.74"),
        (Difference(one("88.73"), one("87.99"), one("0.74")), "holds", "0.74"),
        (Difference(one("73.29"), one("72.56"), one("0.7"), at_most=True), "refuted", "0.73"),
        (Difference(one("73.3"), one("72.5"), one("0.7"), at_most=True), "holds", "0.80"),
        (Wins(printed("2", "3", "4"), printed("1", "3", "5"), one("1")), "holds", "wins 1, ties 1, loses 1"),
        (Wins(printed("2", "3", "4"), printed("1", "3", "5"), one("2")), "holds", "ties 1"),
        (Wins(printed("2", "3", "4"), printed("1", "3", "5"), one("3")), "refuted", "wins 1"),
        # 827 of 872 is the only share that prints as 94.84: on SST-2 a tie is one
        (Wins(printed("94.84", "2"), printed("94.84", "1"), one("2"), (872, 0)), "refuted", "wins 1, ties 1"),
        (Wins(printed("94.8", "2"), printed("94.8", "1"), one("2"), (5463, 0)), "holds", "wins 1, ties 1"),
        (Equal(printed("82.22", "82.23")), "refuted", "differ"),
        (Equal(printed("90.2", "90.20")), "holds", "agree"),
    ],
)
def test_arithmetic_holds_or_refutes(test: Any, verdict: str, why: str) -> None:
    finding = test.finding()
    assert finding.verdict == verdict
    assert why in finding.why


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=8))
def test_a_mean_of_rounded_numbers_is_never_refuted_by_the_rounding(thousandths: list[int]) -> None:
    mean = sum(thousandths) / len(thousandths) / 1000
    parts = printed(*(f"{number / 1000:.1f}" for number in thousandths))
    assert MeanOf(one(f"{mean:.2f}"), parts).finding().verdict == "holds"


@pytest.mark.parametrize(("text", "verdict"), [("92,160", "refuted"), ("73,728", "holds"), ("74K", "holds")])
def test_a_count_is_the_formulas_on_the_shipped_dimensions(text: str, verdict: str) -> None:
    finding = Count(one(text), "roberta-base", "lora", {"r": 2, "targets": "q,v"}).finding()
    assert finding.verdict == verdict
    assert f"{12 * 2 * 2 * (768 + 768):,}" in finding.why


def test_a_count_that_depends_on_the_weights_is_refused() -> None:
    with pytest.raises(UserError, match="depends on the weights' values"):
        Count(one("601"), "roberta-base", "qr_lora").finding()


# --------------------------------------------------------------------------------------- seeds

DIFFERENCES = st.lists(st.floats(-5, 5).map(lambda number: round(number, 3)), min_size=2, max_size=8, unique=True)


@given(DIFFERENCES)
def test_a_claim_of_at_least_is_two_sided_and_paired(differences: list[float]) -> None:
    base = np.linspace(60, 70, len(differences))
    state = judge([Contrast("a - b", tuple(differences), low=0.0)]).state
    test = stats.ttest_rel(base + differences, base)
    if test.pvalue > 0.05 + 1e-6:
        assert state == "inconclusive"
    elif test.pvalue < 0.05 - 1e-6:
        assert state == ("reproduced" if test.statistic > 0 else "contradicted")


def test_one_seed_decides_nothing() -> None:
    judgement = judge([Contrast("a - b", (12.0,), low=0.0)])
    assert (judgement.state, judgement.further_seeds) == ("inconclusive", None)


@pytest.mark.parametrize("difference", [-0.5, 0.0, 0.5])
def test_seeds_without_any_spread_decide_nothing(difference: float) -> None:
    judgement = judge([Contrast("a - b", (difference,) * 3, low=0.0)])
    assert (judgement.state, judgement.further_seeds) == ("inconclusive", None)


def test_one_contrast_without_spread_keeps_the_whole_claim_open() -> None:
    clear, flat = Contrast("a - b", (5.0, 5.1), low=0.0), Contrast("a - c", (9.0, 9.0), low=0.0)
    judgement = judge([clear, flat])
    assert (judgement.state, judgement.about, judgement.further_seeds) == ("inconclusive", flat, None)
    assert judge([flat, Contrast("a - d", (-5.0, -5.1, -5.05), low=0.0)]).state == "contradicted"


def repeated(mean: float, deviation: float, seeds: int) -> np.ndarray:
    """So many numbers with exactly this mean and this sample deviation."""
    pattern = np.array([1.0 if seed % 2 else -1.0 for seed in range(seeds)])
    pattern -= pattern.mean()
    return mean + deviation * pattern / pattern.std(ddof=1)


@pytest.mark.parametrize(("mean", "deviation"), [(0.4, 1.0), (-0.9, 1.3), (0.2, 0.5), (1.5, 2.0)])
def test_further_seeds_are_the_fewest_that_make_the_same_spread_significant(mean: float, deviation: float) -> None:
    contrast = Contrast("a - b", tuple(repeated(mean, deviation, 3)), low=0.0)
    assert judge([contrast]).state == "inconclusive"
    more = judge([contrast]).further_seeds
    assert more is not None
    p = [stats.ttest_1samp(repeated(mean, deviation, 3 + extra), 0).pvalue for extra in (more - 1, more)]
    assert p[0] > 0.05 > p[1]


def test_with_that_many_seeds_most_simulated_studies_decide() -> None:
    generator = np.random.default_rng(0)
    contrast = Contrast("a - b", tuple(repeated(1.0, 1.5, 3)), low=0.0)
    more = further_seeds([contrast])
    assert more is not None
    few, enough = (
        np.mean([judge([Contrast("", tuple(generator.normal(1.0, 1.5, n)), low=0.0)]).state == "reproduced"
                 for _ in range(300)])
        for n in (3, 3 + more)
    )  # fmt: skip
    assert few < 0.25
    assert enough > 0.45  # the observed effect is at the edge of the interval, so about half


def test_a_difference_that_would_take_too_many_seeds_is_said_to() -> None:
    assert further_seeds([Contrast("a - b", (-5.0, 5.01, 0.0), low=0.0)]) is None


def test_one_bad_comparison_of_many_is_held_to_a_stricter_level() -> None:
    falling = Contrast("a - b", (-0.9, -1.0, -1.75), low=0.0)
    assert stats.ttest_1samp(falling.values, 0).pvalue < 0.05
    assert judge([falling]).state == "contradicted"
    assert judge([falling, *[Contrast("a - c", (5.0, 5.1, 5.2), low=0.0)] * 4]).state == "inconclusive"


def test_a_range_is_supported_only_if_the_interval_is_inside() -> None:
    values = (0.1, 0.2, 0.3)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert judge([Contrast("", values, low - 0.01, high + 0.01)]).state == "reproduced"
    assert judge([Contrast("", values, low + 0.01, high + 0.01)]).state == "inconclusive"
    assert judge([Contrast("", values, high + 0.01, high + 1)]).state == "contradicted"


# --------------------------------------------------------------------------------------- comparisons

SUITE = "table"
NEEDS = Needs(SUITE, "last", tasks=("rte", "mrpc"))


def evidence(scores: Mapping[str, Sequence[float]], **changes: Any) -> pd.DataFrame:
    """Rows by label with a score for each seed, the same on both tasks but for a shift."""
    common = {"suite": SUITE, "grid": "main", "train_size": 0, "split": "", "protocol": "last"}
    common |= {"metric": "accuracy", "first": True}
    rows = [
        {**common, "label": label, "task": task, "seed": seed, "value": value + shift, **changes}
        for label, values in scores.items()
        for seed, value in enumerate(values)
        for task, shift in (("rte", -3.0), ("mrpc", 3.0))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


ONES = {"a": [71.0, 72.1, 73.0], "b": [70.0, 71.0, 72.0], "c": [60.0, 61.0, 65.0]}


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        (AtLeast(NEEDS, "a", "b"), "reproduced"),
        (AtLeast(NEEDS, "b", "a"), "contradicted"),
        (AtLeast(NEEDS, "b", "a", tolerance=1.5), "reproduced"),
        (BestOf(NEEDS, "a", ("b", "c")), "reproduced"),
        (BestOf(NEEDS, "b", ("a", "c")), "contradicted"),
        (Spread(NEEDS, ("a", "b"), within=1.5), "reproduced"),
        (Spread(NEEDS, ("a", "b", "c"), within=1.5), "contradicted"),
        (Value(NEEDS, "a", one("72.0"), tolerance=3.0), "reproduced"),
        (Value(NEEDS, "a", one("80.0"), tolerance=3.0), "contradicted"),
        (Value(NEEDS, "a", one("73.0"), tolerance=1.5), "inconclusive"),
        (Between(NEEDS, "c", high=90.0), "reproduced"),
        (Between(NEEDS, "c", low=90.0), "contradicted"),
    ],
)
def test_planted_scores_get_the_verdict_that_was_planted(test: Any, verdict: str) -> None:
    assert compare(test, evidence(ONES)).verdict == verdict


def test_a_crossover_needs_both_ends() -> None:
    few = evidence({"a": [60.0, 61.0], "b": [70.0, 71.1]}, train_size=2000)
    many = evidence({"a": [80.0, 81.0], "b": [79.0, 79.9]}, train_size=50_000)
    both = pd.concat([few, many])
    assert compare(Crossover(NEEDS, "b", "a", 2000, 50_000), both).verdict == "reproduced"
    assert compare(Crossover(NEEDS, "a", "b", 2000, 50_000), both).verdict == "contradicted"
    assert compare(Crossover(NEEDS, "b", "a", 2000, 50_000), few).verdict == "not run"


def test_pairs_are_by_seed_and_a_seed_that_one_row_lacks_does_not_count() -> None:
    rows = evidence({"a": [71.0, 82.0, 93.0], "b": [70.0, 81.1, 92.0, 10.0]})
    finding = compare(AtLeast(NEEDS, "a", "b"), rows)
    assert finding.verdict == "reproduced"
    assert "over 3 seeds" in finding.why


def test_an_open_claim_says_how_many_seeds_it_lacks() -> None:
    finding = compare(AtLeast(NEEDS, "a", "b"), evidence({"a": [71.0, 71.0, 72.0], "b": [70.0, 71.5, 71.0]}))
    assert finding.verdict == "inconclusive"
    assert f"about {finding.further_seeds} further seeds would decide it" in finding.why
    lone = compare(AtLeast(NEEDS, "a", "b"), evidence({"a": [71.0], "b": [70.0]}))
    assert lone == Finding("inconclusive", lone.why)
    assert "without a spread over seeds nothing is decided" in lone.why
    far = compare(AtLeast(NEEDS, "a", "b"), evidence({"a": [65.0, 75.01], "b": [70.0, 70.0]}))
    assert f"more than {CAP} further seeds" in far.why


def test_another_backbone_makes_it_partly_and_the_suite_itself_goes_first() -> None:
    variant = evidence(ONES, suite=f"{SUITE}[backbone=starter-encoder]")
    test = AtLeast(NEEDS, "a", "b")
    finding = compare(test, variant)
    assert finding.verdict == "partly"
    assert finding.why.startswith("reproduced with backbone=starter-encoder: a - b = +1.03")
    assert compare(test, pd.concat([variant, evidence({"a": [1.0, 2.1], "b": [9.0, 9.0]})])).verdict == "contradicted"
    assert compare(test, evidence(ONES, suite="tables")).verdict == "not run"


def test_some_of_the_tasks_make_it_partly() -> None:
    rows = evidence(ONES)
    finding = compare(AtLeast(NEEDS, "a", "b"), rows[rows["task"] == "rte"])
    assert finding.verdict == "partly"
    assert "reproduced on rte (1 of 2 tasks)" in finding.why


def test_a_variant_of_another_size_stands_for_the_size_that_is_claimed() -> None:
    variant = evidence(ONES, suite=f"{SUITE}[train_size=64]", train_size=64)
    sized = Needs(SUITE, "last", tasks=NEEDS.tasks, train_size=10_000)
    assert compare(AtLeast(sized, "a", "b"), variant).verdict == "partly"
    assert compare(Crossover(NEEDS, "b", "a", 2000, 50_000), variant).verdict == "not run"


@pytest.mark.parametrize("change", [{"protocol": "selected"}, {"grid": "other"}, {"first": False}])
def test_only_the_claimed_protocol_grid_and_metric_count(change: dict[str, Any]) -> None:
    finding = compare(AtLeast(NEEDS, "a", "b"), evidence(ONES, **change))
    assert finding.verdict == "not run"
    assert "python -m harness run --suite table --method a --method b" in finding.why


def test_a_named_metric_is_used_instead_of_the_first() -> None:
    rows = pd.concat([evidence(ONES, metric="f1", first=False), evidence({"a": [1.0], "b": [2.0]})])
    f1 = Needs(SUITE, "last", tasks=NEEDS.tasks, metric="f1")
    assert compare(AtLeast(f1, "a", "b"), rows).verdict == "reproduced"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: F1Feasible(one("1"), one("1"), 5, 5), "positives = 5 must be above 0 and below total = 5"),
        (lambda: Grid(one("1"), 0), "total = 0 must be at least 1"),
        (lambda: Ratio(one("1"), one("0"), one("1")), "denominator above 0"),
        (lambda: Wins(printed("1"), printed("1", "2"), one("1")), "first has 1 scores and second 2"),
        (lambda: Equal(printed("1")), "at least two"),
        (lambda: Spread(NEEDS, ("a",), 1.0), "at least two rows"),
        (lambda: Spread(NEEDS, ("a", "b"), 0.0), "within = 0 must be above 0"),
        (lambda: Crossover(NEEDS, "a", "b", 5, 5), "small = 5 must be above 0 and below large = 5"),
        (lambda: Value(NEEDS, "a", one("1"), 0.0), "tolerance = 0 must be above 0"),
        (lambda: Between(NEEDS, "a", 2.0, 1.0), "low = 2 must be below high = 1"),
        (lambda: Between(NEEDS, "a"), "a range needs low, high or both"),
        (lambda: Wins(printed("1"), printed("2"), one("1"), (5, 6)), "totals has 2 numbers for 1 scores"),
        (lambda: Count(one("1"), "roberta-bas", "lora"), "did you mean 'roberta-base'"),
        (lambda: Count(one("1"), "roberta-base", "lor"), "did you mean 'lora'"),
        (lambda: Count(one("1"), "roberta-base", "lora", {"rank": 2}), "no parameter 'rank'"),
    ],
)
def test_a_claim_that_makes_no_sense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_the_half_width_is_scipys() -> None:
    values = (1.0, 2.5, 2.0, 4.0)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert Contrast("", values).half_width() == pytest.approx((high - low) / 2)
    assert math.isinf(Contrast("", (1.0,)).half_width())
