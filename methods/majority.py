"""Majority: the best constant answer, from the training labels alone.

Formula  the most frequent class, the mean label, or the most frequent answer text; of equals, the smallest.
Cost     no model, no parameters, no training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.api import Baseline, Kind

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Majority(Baseline):
    name: ClassVar[str] = "majority"
    title: ClassVar[str] = "Majority / mean"
    formula: ClassVar[str] = "constant"

    def predict(self, labels: pd.Series, rows: int, kind: Kind) -> list[Any]:
        """`rows` copies of the answer, as a plain int, float or str."""
        answer = float(labels.mean()) if kind == "regression" else labels.mode().tolist()[0]
        return [answer] * rows
