r"""MATH: competition mathematics in seven subjects, answered in text.

Paper   Hendrycks et al. 2021, "Measuring Mathematical Problem Solving With the MATH Dataset", arXiv:2103.03874.
Data    `DigitalLearningGmbH/MATH-lighteval` on the hub at a pinned revision (the original 7,500 and 5,000 problems in
        one table), or a mirror with the files `math/<split>.parquet` of the columns problem and solution. Two training
        solutions have an empty box in the original; these two rows are dropped.
Score   The content of the last \boxed{...} of an output equals the reference's after the normalisation of the paper's
        own code (`is_equiv`), which lm-eval ships and which is called here. "\frac12" and "\dfrac{1}{2}" are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from harness.api import DataRoot, GenerationTask, Text
from tasks._content import mathematics
from tasks._content.instructions import STOP, instruction_prompt

HUB = mathematics.MATH


class MathProblems(GenerationTask):
    r"""A problem in LaTeX; the decoder writes a solution with its answer in \boxed{...}."""

    name = "math"
    title = "MATH"
    metrics = ("exact_match", "parsed")
    columns = ("problem", "solution")
    source = f"{HUB.repository} ({HUB.configuration}) at revision {HUB.revision}"
    mirrored = ("math/train", "math/test")
    stop: ClassVar[tuple[str, ...]] = STOP
    max_new_tokens = 1024

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        train = self._rows(root, "train")
        return {"train": train[train["label"].notna()], "test": self._rows(root, "test")}

    def _rows(self, root: DataRoot, split: str) -> pd.DataFrame:
        frame = mathematics.math_rows(root, split)
        return frame.assign(label=frame["solution"].map(self.extract))

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(instruction_prompt(row["problem"]))

    def answer(self, row: Mapping[str, Any]) -> str:
        return str(row["solution"])

    def extract(self, text: str) -> str | None:
        """The last boxed answer in its normal form; None without a box, or with one that is empty or never closed."""
        found = mathematics.boxed(text)
        return None if found is None else mathematics.normal_form(found) or None
