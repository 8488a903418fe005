r"""Word problems in numbers and competition problems in LaTeX: their rows, and their answers in one spelling.

Data    `openai/gsm8k` and `DigitalLearningGmbH/MATH-lighteval` on the hub at pinned revisions (the latter holds the
        original 7,500 and 5,000 problems in one table), or a mirror with the files `gsm8k/<split>.parquet` (question,
        answer) and `math/<split>.parquet` (problem, solution).
"""

from __future__ import annotations

import re
import warnings
from decimal import Decimal
from functools import cache
from types import ModuleType

import pandas as pd

from harness.api import DataRoot, HubSource

GSM8K = HubSource("openai/gsm8k", "main", "740312add88f781978c0658806c59bc2815b9866")
MATH = HubSource("DigitalLearningGmbH/MATH-lighteval", "default", "0530c78699ea5e8eb5530600900e1f328b48acad")
MARK = "####"
"""Stands before the final answer of a solution of GSM8K."""
_CALCULATOR = re.compile(r"<<[^<>]*>>")
# A minus sign after a number or a bracket is an operation, elsewhere the sign of what follows.
_SIGN = r"((?<![\w.)])-)?"
_NUMBER = re.compile(rf"{_SIGN}[$€£]?{_SIGN}(\d[\d,]*(?:\.\d+)?|\.\d+)")
_WHOLE = re.compile(r"(-)?[$€£]?(-)?((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?: ?%|(?: [A-Za-z]{2,})+)?")


def gsm8k_rows(root: DataRoot, split: str) -> pd.DataFrame:
    """id, question, solution. The notes for a calculator (`<<48/2=24>>`) are left out: there is none here."""
    frame = root.frame(GSM8K, split, f"gsm8k/{split}", ("question", "answer")).rename(columns={"answer": "solution"})
    frame["solution"] = frame["solution"].str.replace(_CALCULATOR, "", regex=True)
    return frame.assign(id=identifiers(frame, split))


def math_rows(root: DataRoot, split: str) -> pd.DataFrame:
    """id, problem, solution."""
    frame = root.frame(MATH, split, f"math/{split}", ("problem", "solution"))
    return frame.assign(id=identifiers(frame, split))


def identifiers(frame: pd.DataFrame, split: str) -> list[str]:
    """A name for each row of a published split: its place."""
    return [f"{split}-{number}" for number in range(len(frame))]


def final_number(text: str) -> str | None:
    """The first number after the last "####", or else the last number of the text, in plain decimal spelling."""
    _, mark, after = text.rpartition(MARK)
    marked = _NUMBER.search(after) if mark else None
    numbers = [marked] if marked else list(_NUMBER.finditer(text))
    return _plain(numbers[-1]) if numbers else None


def leading_number(text: str) -> str | None:
    """The number that `text` consists of, words of a unit behind it allowed; None for others, as "1,2"."""
    found = _WHOLE.fullmatch(text)
    return _plain(found) if found else None


def _plain(number: re.Match[str]) -> str:
    """One spelling for equal numbers: "-$1,250.50" and "-1250.5" are the same, and so are "3" and "3.00"."""
    sign = "-" if number[1] or number[2] else ""
    value = Decimal(sign + number[3].replace(",", ""))
    return format((value + 0).normalize(), "f")  # + 0 takes the sign from a zero


def boxed(text: str) -> str | None:
    r"""The content of the last \boxed{...}; None without a box, or with one that is never closed."""
    rules = _rules()
    found = rules.last_boxed_only_string(text)
    # The rules take "\\boxed 5$" for a box, and leave anything else that is not in braces to fail.
    if found is None or not found.startswith(("\\boxed{", "\\boxed ")):
        return None
    return str(rules.remove_boxed(found))


def normal_form(answer: str) -> str:
    r"""What `is_equiv` of the paper of MATH compares of an answer, or the answer itself where its rules fail.

    The normalisation is the paper's own code, which lm-eval ships: "\frac12" and "\dfrac{1}{2}" are the same.
    """
    try:
        return str(_rules().strip_string(answer))
    except (AssertionError, IndexError, ValueError):
        return answer


@cache
def _rules() -> ModuleType:
    """lm-eval's copy of the paper's code; its import takes seconds, so it waits until an answer is read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # one of its string literals
        from lm_eval.tasks.hendrycks_math import utils
    rules: ModuleType = utils
    return rules
