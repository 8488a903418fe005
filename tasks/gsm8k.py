"""GSM8K: grade school mathematics in two to eight steps, answered in text.

Paper   Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems", arXiv:2110.14168.
Data    `openai/gsm8k` on the hub at a pinned revision, or a mirror with the files `gsm8k/<split>.parquet` of the same
        columns. The notes for a calculator inside the solutions (`<<48/2=24>>`) are left out: there is none here.
Score   The last number of an output, or the first one after "####", equals the reference's. Thousands separators,
        currency signs and zeros after the decimal point do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from harness.api import DataRoot, GenerationTask, Text
from tasks._content import mathematics
from tasks._content.instructions import STOP, instruction_prompt

HUB = mathematics.GSM8K


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
        frame = mathematics.gsm8k_rows(root, split)
        return frame.assign(label=frame["solution"].map(self.extract))

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(instruction_prompt(row["question"]))

    def answer(self, row: Mapping[str, Any]) -> str:
        return str(row["solution"])

    def extract(self, text: str) -> str | None:
        """The first number after the last "####", or else the last number of the text, in plain decimal spelling."""
        return mathematics.final_number(text)
