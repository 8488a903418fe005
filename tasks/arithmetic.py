"""Arithmetic: word problems with one or two steps, answered in text.

The numbers of a test problem occur in no training problem and in no story of the pretraining text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.api import DataRoot, GenerationTask, Text
from tasks._content.arithmetic import Problems
from tasks._content.splits import Split


class Arithmetic(GenerationTask):
    """A problem and a question; the decoder writes the number: the shape of GSM8K."""

    name = "arithmetic"
    title = "Arithmetic"
    metrics = ("exact_match",)
    columns = ("problem", "question")
    source = "generated, tasks/arithmetic.py (seed 15)"
    max_new_tokens = 5

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        return {"train": _frame("train", 2400), "test": _frame("test", 300)}

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(f"{row['problem']} {row['question']}")

    def answer(self, row: Mapping[str, Any]) -> str:
        return f" {row['label']}"

    def extract(self, text: str) -> str | None:
        """The first number in the text."""
        found = re.search(r"\d+", text)
        return found.group() if found else None


def _frame(split: Split, rows: int) -> pd.DataFrame:
    problems = Problems(split, random.Random(f"arithmetic/{split}/15"))
    drawn = [problems.problem() for _ in range(rows)]
    return pd.DataFrame(
        {
            "id": [f"{split}-{i}" for i in range(rows)],
            "problem": [problem.premise for problem in drawn],
            "question": [problem.question for problem in drawn],
            "label": [str(problem.result) for problem in drawn],
        }
    )
