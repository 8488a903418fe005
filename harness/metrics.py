"""Scores by name. The metrics themselves are modules of the `evaluate` library; see `harness.metric_modules`.

Importing this module loads none of the libraries behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.api import Kind
from harness.errors import UserError, unknown

KINDS: Mapping[str, Kind] = {
    "accuracy": "classification",
    "f1": "classification",
    "matthews": "classification",
    "pearson": "regression",
    "spearman": "regression",
    "exact_match": "generation",
    "parsed": "generation",
}
"""The tasks that a metric is for."""
METRIC_NAMES = tuple(KINDS)
"""What `Task.metrics` may name. All lie in [-1, 1], and more is better."""


def check_metrics(names: Sequence[str], kind: Kind, where: str) -> None:
    """UserError, which begins with `where`, unless these are metrics for tasks of this kind."""
    for name in names:
        if name not in KINDS:
            raise unknown("metric", name, METRIC_NAMES, where)
        if KINDS[name] != kind:
            fitting = ", ".join(other for other in KINDS if KINDS[other] == kind)
            raise UserError(f"{where}: the metric {name} is for {KINDS[name]}; for {kind} there are {fitting}.")


def compute(name: str, predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """One corpus metric over all rows. Raises UserError for an unknown name, ValueError for no or unequal rows."""
    if name not in METRIC_NAMES:
        raise unknown("metric", name, METRIC_NAMES)
    if len(predictions) != len(references) or len(references) == 0:
        raise ValueError(f"{name} of {len(predictions)} predictions and {len(references)} references")
    from harness.metric_modules import MODULES

    result: dict[str, float] = MODULES[name](keep_in_memory=True).compute(
        predictions=list(predictions), references=list(references)
    )
    return float(result[name])


def correct(kind: Kind, prediction: Any, label: Any) -> bool | None:
    """Whether one prediction is right; None for regression, where a number is more or less near, not right or wrong.

    For generation both are final answers, as `GenerationTask.extract` gives them; an unparsed output equals none.
    """
    return None if kind == "regression" else bool(prediction == label)
