"""GSM8K: grade school mathematics in two to eight steps, answered in text.

Paper   Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems", arXiv:2110.14168.
Data    `openai/gsm8k` on the hub at a pinned revision, or a mirror with the files `gsm8k/<split>.parquet` of the same
        columns. The notes for a calculator inside the solutions (`<<48/2=24>>`) are left out: there is none here.
Score   The last number of an output, or the first one after "####", equals the reference's. Thousands separators,
        currency signs and zeros after the decimal point do not count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import pandas as pd

from harness.api import DataRoot, GenerationTask, HubSource, Text
from tasks._content.instructions import STOP, instruction_prompt

HUB = HubSource("openai/gsm8k", "main", "740312add88f781978c0658806c59bc2815b9866")
MARK = "####"
"""Stands before the final answer of a solution."""
_CALCULATOR = re.compile(r"<<[^<>]*>>")
# A minus sign after a number or a bracket is an operation, elsewhere the sign of what follows.
_SIGN = r"((?<![\w.)])-)?"
_NUMBER = re.compile(rf"{_SIGN}[$€£]?{_SIGN}(\d[\d,]*(?:\.\d+)?|\.\d+)")


class GSM8K(GenerationTask):
    """A word problem; the decoder writes the steps and, after "####", the number."""

    name = "gsm8k"
    title = "GSM8K"
    metrics = ("exact_match", "parsed")
    columns = ("question", "solution")
    source = f"{HUB.repository} ({HUB.configuration}) at revision {HUB.revision}"
    mirrored = ("gsm8k/train", "gsm8k/test")
    stop: ClassVar[tuple[str, ...]] = STOP
    max_new_tokens = 512

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        return {split: self._rows(root, split) for split in ("train", "test")}

    def _rows(self, root: DataRoot, split: str) -> pd.DataFrame:
        frame = root.frame(HUB, split, f"gsm8k/{split}", ("question", "answer")).rename(columns={"answer": "solution"})
        frame["solution"] = frame["solution"].str.replace(_CALCULATOR, "", regex=True)
        identifiers = [f"{split}-{number}" for number in range(len(frame))]
        return frame.assign(id=identifiers, label=frame["solution"].map(self.extract))

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(instruction_prompt(row["question"]))

    def answer(self, row: Mapping[str, Any]) -> str:
        return str(row["solution"])

    def extract(self, text: str) -> str | None:
        """The first number after the last "####", or else the last number of the text, in plain decimal spelling."""
        _, mark, after = text.rpartition(MARK)
        marked = _NUMBER.search(after) if mark else None
        numbers = [marked] if marked else list(_NUMBER.finditer(text))
        return _plain(numbers[-1]) if numbers else None


def _plain(number: re.Match[str]) -> str:
    """One spelling for equal numbers: "-$1,250.50" and "-1250.5" are the same, and so are "3" and "3.00"."""
    sign = "-" if number[1] or number[2] else ""
    value = Decimal(sign + number[3].replace(",", ""))
    return format((value + 0).normalize(), "f")  # + 0 takes the sign from a zero
