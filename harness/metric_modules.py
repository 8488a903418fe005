"""The metrics as modules of the `evaluate` library, computed by scikit-learn and SciPy.

They replace the scripts of the same purpose that `evaluate.load` fetches from a hub: no network, no file left
behind, the same numbers. Import this module through `harness.metrics`: `evaluate` takes seconds to load.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import evaluate
from datasets import Features, Value
from scipy import stats
from sklearn import metrics

from harness.records import UNPARSED


class _Module(evaluate.Metric):
    """What the metrics share: one prediction and one reference of type `value` per row, one number out."""

    key: ClassVar[str]
    value: ClassVar[str] = "int64"
    inputs: ClassVar[str] = "predictions, references: class ids, one per row."

    def _info(self) -> evaluate.MetricInfo:
        features = Features({"predictions": Value(self.value), "references": Value(self.value)})
        return evaluate.MetricInfo(
            description=self.__doc__ or "", citation="", inputs_description=self.inputs, features=features
        )

    def _build_data_dir(self) -> str:
        # The library's own makes a cache folder, which nothing is written to when all stays in memory.
        return ""

    def _compute(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        return {self.key: self.score(predictions, references)}

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        raise NotImplementedError


class Accuracy(_Module):
    """Share of the rows whose predicted class is the reference."""

    key = "accuracy"

    def score(self, predictions: Sequence[int], references: Sequence[int]) -> float:
        return float(metrics.accuracy_score(references, predictions))


class F1(_Module):
    """Harmonic mean of precision and recall of class 1, for tasks of two classes; 0 without true positives."""

    key = "f1"

    def score(self, predictions: Sequence[int], references: Sequence[int]) -> float:
        return float(metrics.f1_score(references, predictions, zero_division=0))


class Matthews(_Module):
    """Matthews correlation of predicted and reference classes; 0 if either has one class only."""

    key = "matthews"

    def score(self, predictions: Sequence[int], references: Sequence[int]) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn remarks on a single class
            return float(metrics.matthews_corrcoef(references, predictions))


class ExactMatch(_Module):
    """Share of the rows whose answer, as text, is the reference."""

    key = "exact_match"
    value = "string"
    inputs = "predictions, references: final answers, one text per row."

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> float:
        return float(metrics.accuracy_score(list(references), list(predictions)))


class Parsed(_Module):
    """Share of the rows in whose output a final answer was found; the others count as wrong."""

    key = "parsed"
    value = "string"
    inputs = "predictions: final answers, or `UNPARSED` and the output; references: final answers."

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> float:
        return sum(not prediction.startswith(UNPARSED) for prediction in predictions) / len(predictions)


class Pearson(_Module):
    """Pearson's linear correlation of predictions and references.

    A correlation with constant values is undefined; it counts as 0, the score of knowing nothing, as in the
    usual GLUE toolkits. NaN or infinity among the values gives NaN.
    """

    key = "pearson"
    value = "float64"
    inputs = "predictions, references: numbers, one per row."

    def score(self, predictions: Sequence[float], references: Sequence[float]) -> float:
        return _correlation(stats.pearsonr, predictions, references)


class Spearman(_Module):
    """Spearman's rank correlation of predictions and references, ties at their mean rank.

    Undefined and not finite values count as for Pearson's.
    """

    key = "spearman"
    value = "float64"
    inputs = "predictions, references: numbers, one per row."

    def score(self, predictions: Sequence[float], references: Sequence[float]) -> float:
        return _correlation(stats.spearmanr, predictions, references)


def _correlation(function: Callable[..., Any], first: Sequence[float], second: Sequence[float]) -> float:
    if not all(math.isfinite(value) for value in (*first, *second)):
        return math.nan
    if len(first) < 2:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy remarks on constant and nearly constant values
        value = float(function(first, second).statistic)
    return 0.0 if math.isnan(value) else value


MODULES: dict[str, type[_Module]] = {
    module.key: module for module in (Accuracy, F1, Matthews, Pearson, Spearman, ExactMatch, Parsed)
}
"""The module classes by the names of `harness.metrics.METRIC_NAMES`."""
