"""Metrics: equal to scikit-learn and SciPy, defined where those are not, and without traces."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import evaluate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from harness.api import Kind
from harness.errors import UserError
from harness.metric_modules import MODULES
from harness.metrics import METRIC_NAMES, compute, correct

BINARY = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)
CLASSES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)
NUMBER = st.floats(-100, 100, allow_subnormal=False).map(lambda value: round(value, 3))
NUMBERS = st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=60)
Pairs = list[tuple[Any, Any]]


@pytest.mark.parametrize(
    ("name", "predictions", "references", "expected"),
    [
        ("accuracy", [0, 1, 2, 1], [0, 1, 1, 1], 0.75),
        ("f1", [1, 1, 0, 0, 1], [1, 0, 1, 0, 1], 2 / 3),
        ("matthews", [1, 1, 0, 0], [1, 0, 0, 0], 1 / math.sqrt(3)),
        ("matthews", [0, 1, 0, 1], [1, 0, 1, 0], -1.0),
        ("pearson", [1.0, 2.0, 3.0], [1.0, 2.0, 4.0], 9 / math.sqrt(84)),
        ("spearman", [1.0, 2.0, 3.0, 4.0], [1.0, 10.0, 5.0, 100.0], 0.8),
        ("exact_match", ["12", "7", " 7"], ["12", "8", "7"], 1 / 3),
        ("exact_match", ["12", "unparsed: 8", "unparsed: "], ["12", "8", "7"], 1 / 3),
        ("parsed", ["12", "unparsed: 8", "unparsed: "], ["12", "8", "7"], 1 / 3),
    ],
)
def test_values_by_hand(name: str, predictions: list[Any], references: list[Any], expected: float) -> None:
    assert compute(name, predictions, references) == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(CLASSES)
def test_accuracy_and_matthews_equal_scikit_learn(pairs: Pairs) -> None:
    predictions, references = map(list, zip(*pairs, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matthews = sklearn_metrics.matthews_corrcoef(references, predictions)
    assert compute("accuracy", predictions, references) == sklearn_metrics.accuracy_score(references, predictions)
    assert compute("matthews", predictions, references) == pytest.approx(matthews)


@settings(max_examples=25, deadline=None)
@given(BINARY)
def test_f1_equals_its_definition(pairs: Pairs) -> None:
    hits = sum(prediction == label == 1 for prediction, label in pairs)
    claimed, true = (sum(column) for column in zip(*pairs, strict=True))
    expected = 2 * hits / (claimed + true) if hits else 0.0
    assert compute("f1", *map(list, zip(*pairs, strict=True))) == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(NUMBERS)
def test_correlations_equal_scipy_and_are_always_defined(pairs: Pairs) -> None:
    predictions, references = map(list, zip(*pairs, strict=True))
    for name, function in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        value = compute(name, predictions, references)
        assert -1 <= value <= 1
        if len(set(predictions)) > 1 and len(set(references)) > 1:
            assert value == pytest.approx(function(predictions, references).statistic)
        else:
            assert value == 0.0


@settings(max_examples=10, deadline=None)
@given(NUMBERS, st.floats(0.5, 4))
def test_spearman_sees_ranks_only(pairs: Pairs, power: float) -> None:
    predictions, references = map(list, zip(*pairs, strict=True))
    bent = [math.copysign(abs(value) ** power, value) for value in predictions]
    assert compute("spearman", bent, references) == pytest.approx(compute("spearman", predictions, references))


@pytest.mark.parametrize("name", ["f1", "matthews", "pearson", "spearman"])
@pytest.mark.parametrize("rows", [1, 2, 10])
def test_constant_predictions_score_zero_without_warnings(name: str, rows: int) -> None:
    references = [row % 2 for row in range(rows)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compute(name, [0] * rows, references) == 0.0


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_prediction_that_is_no_number_does_not_pass_for_a_score(name: str, bad: float) -> None:
    assert math.isnan(compute(name, [1.0, bad, 3.0], [1.0, 2.0, 3.0]))


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown metric 'mathews': did you mean 'matthews'"):
        compute("mathews", [0], [0])


@pytest.mark.parametrize(("predictions", "references"), [([], []), ([1], [1, 0])])
def test_rows_that_do_not_match_are_refused(predictions: list[int], references: list[int]) -> None:
    with pytest.raises(ValueError, match=f"{len(predictions)} predictions and {len(references)} references"):
        compute("accuracy", predictions, references)


def test_the_metrics_are_modules_of_the_evaluate_library() -> None:
    assert tuple(MODULES) == METRIC_NAMES
    module = MODULES["accuracy"](keep_in_memory=True)
    assert isinstance(module, evaluate.Metric)
    module.add_batch(predictions=[0, 1], references=[0, 0])
    module.add_batch(predictions=[1, 1], references=[1, 1])
    assert module.compute() == {"accuracy": 0.75}
    combined = evaluate.combine([MODULES[name](keep_in_memory=True) for name in ("accuracy", "f1")])
    assert combined.compute(predictions=[1, 0], references=[1, 0]) == {"accuracy": 1.0, "f1": 1.0}


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in METRIC_NAMES:
        same = ["1", "2"] if name in ("exact_match", "parsed") else [0, 1]
        assert compute(name, same, same) == pytest.approx(1.0)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("kind", "prediction", "label", "expected"),
    [
        ("classification", 1, 1, True),
        ("classification", 0, 1, False),
        ("generation", "12", "12", True),
        ("generation", "12.0", "12", False),
        ("generation", "unparsed: 12", "12", False),
        ("regression", 2.0, 2.0, None),
    ],
)
def test_a_single_prediction_is_right_or_wrong(kind: Kind, prediction: Any, label: Any, expected: bool | None) -> None:
    assert correct(kind, prediction, label) is expected


def test_importing_the_names_loads_no_library() -> None:
    code = "import sys, harness.metrics; print({'evaluate', 'sklearn', 'scipy', 'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
