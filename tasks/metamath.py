r"""MetaMathQA: problems rewritten from the training sets of GSM8K and MATH, tested on both test sets.

Paper   Yu et al. 2023, "MetaMath: Bootstrap Your Own Mathematical Questions for Large Language Models",
        arXiv:2309.12284.
Data    Training: `meta-math/MetaMathQA` on the hub, 395,000 rows, or a mirror with the file `metamath/train.parquet` of
        its columns query and response. The revision is the one that PEFT's own method comparison records for its runs
        and many public repositories pin. Tests: the test sets of the tasks gsm8k and math, from the hub or the mirror.
        Training rows without a final answer are left out.
Score   What follows the last "The answer is:", with which training solutions end and references are ended here too, in
        the normal form that MATH is judged by; of numbers, units and thousands separators do not count either.

One training, two test sets, as the papers of LoRA-XS and LoRA-SB have it; the score is the mean of the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from harness.api import DataRoot, GenerationTask, HubSource, Text
from tasks._content import mathematics
from tasks._content.instructions import STOP, instruction_prompt

HUB = HubSource("meta-math/MetaMathQA", "default", "aa4f34d3d2d3231299b5b03d9b3e5a20da45aa18")
MARK = "The answer is:"
"""Stands before the final answer of a solution."""


class MetaMathQA(GenerationTask):
    """A problem; the decoder writes a solution that ends in "The answer is: ..."."""

    name = "metamath"
    title = "MetaMathQA"
    metrics = ("exact_match", "parsed")
    tests = ("gsm8k", "math")
    columns = ("question", "solution")
    source = f"{HUB.repository} ({HUB.configuration}) at revision {HUB.revision}; test sets of GSM8K and MATH"
    mirrored = ("metamath/train", "gsm8k/test", "math/test")
    stop: ClassVar[tuple[str, ...]] = STOP
    max_new_tokens = 1024

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        train = root.frame(HUB, "train", "metamath/train", ("query", "response"))
        train = train.rename(columns={"query": "question", "response": "solution"})
        numbers = mathematics.gsm8k_rows(root, "test")
        problems = mathematics.math_rows(root, "test").rename(columns={"problem": "question"})
        frames = {
            "train": train.assign(id=mathematics.identifiers(train, "train")),
            "gsm8k": _ended(numbers, numbers["solution"].map(mathematics.final_number)),
            "math": _ended(problems, problems["solution"].map(mathematics.boxed)),
        }
        labelled = {split: frame.assign(label=frame["solution"].map(self.extract)) for split, frame in frames.items()}
        return {**labelled, "train": labelled["train"][labelled["train"]["label"].notna()]}

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(instruction_prompt(row["question"]))

    def answer(self, row: Mapping[str, Any]) -> str:
        return str(row["solution"])

    def extract(self, text: str) -> str | None:
        """What follows the last mark, up to a full stop that ends a line, in one spelling; None without a mark."""
        _, mark, after = text.rpartition(MARK)
        answer = after.split(".\n")[0].strip().removesuffix(".").strip()
        if len(answer) > 1 and answer.startswith("$") and answer.endswith("$"):
            answer = answer[1:-1].strip()
        if not mark or not answer:
            return None
        form = mathematics.normal_form(answer)
        number = mathematics.leading_number(answer) or mathematics.leading_number(form)
        return mathematics.normal_form(number) if number else form or None


def _ended(frame: pd.DataFrame, answers: pd.Series[Any]) -> pd.DataFrame:
    """Reference solutions with their final answers where MetaMathQA has them."""
    return frame.assign(solution=frame["solution"] + f"\n{MARK} " + answers)
