"""Commonsense: eight benchmarks of multiple choice, answered in text, trained on the mix of all eight.

Paper   Hu et al. 2023, "LLM-Adapters", arXiv:2304.01933, which rendered them as instructions. BoolQ arXiv:1905.10044,
        PIQA 1911.11641, Social IQa 1904.09728, HellaSwag 1905.07830, WinoGrande 1907.10641, ARC 1803.05457,
        OpenBookQA 1809.02789.
Data    A mirror with the files `commonsense/train.parquet` and `commonsense/<benchmark>/test.parquet` of the columns
        instruction, input, output and answer, as the `dataset` folder of the paper's code has them. No data set on the
        hub is known that holds the test sets in this form, so that the tasks cannot be read from there.
Score   The first choice that an output names ("solution2", "true") equals the reference's: the rule of the paper's
        `commonsense_evaluate.py`.

`commonsense` is what the papers report: one training, eight test sets, the mean over them. The eight others are scored
on a test set of their own each, after a training on the same mix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from harness.api import DataRoot, GenerationTask, HubSource, Text
from harness.errors import UserError
from tasks._content.instructions import instruction_prompt

FORMATS = {
    "boolq": "true|false",
    "piqa": "solution[12]",
    "social_i_qa": "answer[1-5]",
    "hellaswag": "ending[1-4]",
    "winogrande": "option[12]",
    "ARC-Easy": "answer[1-5]",
    "ARC-Challenge": "answer[1-5]",
    "openbookqa": "answer[1-5]",
}
"""The benchmarks by the names of their folders, each with the choices that it knows."""
_ANY = "|".join(dict.fromkeys(FORMATS.values()))
_COLUMNS = ("instruction", "input", "output", "answer")
_NO_HUB = HubSource("", "", "")


class _Commonsense(GenerationTask):
    """One or more of the benchmarks. `folders` says which one each test set is."""

    metrics = ("exact_match", "parsed")
    columns = ("instruction", "input", "output")
    source = "the dataset folder of github.com/AGI-Edgerunners/LLM-Adapters"
    max_new_tokens = 32
    folders: ClassVar[Mapping[str, str]]

    def __init_subclass__(cls) -> None:
        cls.tests = tuple(cls.folders)
        cls.mirrored = ("commonsense/train", *(f"commonsense/{folder}/test" for folder in cls.folders.values()))

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        if root.path is None:
            raise UserError(
                f"task '{self.name}' is read from a local mirror only: set HARNESS_DATA or --data-root to one with "
                f"{', '.join(f'{name}.parquet' for name in self.mirrored)}."
            )
        tests = {split: _rows(root, f"{folder}/test") for split, folder in self.folders.items()}
        return {"train": _rows(root, "train"), **tests}

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(instruction_prompt(row["instruction"], row["input"]))

    def answer(self, row: Mapping[str, Any]) -> str:
        return str(row["output"])

    def extract(self, text: str) -> str | None:
        """The first choice of the tested benchmarks, or else (the other rows of the mix) the first of any."""
        own = "|".join(FORMATS[folder] for folder in self.folders.values())
        found = re.search(own, text) or re.search(_ANY, text)
        return found.group() if found else None


def _rows(root: DataRoot, file: str) -> pd.DataFrame:
    frame = root.frame(_NO_HUB, file, f"commonsense/{file}", _COLUMNS).rename(columns={"answer": "label"})
    return frame.assign(id=[f"{file}-{number}" for number in range(len(frame))])


class Commonsense(_Commonsense):
    """All eight: one training on the mix, a test set each, the score is their mean."""

    name = "commonsense"
    title = "Commonsense (8)"
    folders = {folder.lower().replace("-", "_"): folder for folder in FORMATS}


class BoolQ(_Commonsense):
    """Is the answer to the question yes?"""

    name = "boolq"
    title = "BoolQ"
    folders = {"test": "boolq"}


class PIQA(_Commonsense):
    """Which of two ways reaches the goal?"""

    name = "piqa"
    title = "PIQA"
    folders = {"test": "piqa"}


class SocialIQa(_Commonsense):
    """What do people in a situation want, feel or do next?"""

    name = "social_i_qa"
    title = "SIQA"
    folders = {"test": "social_i_qa"}


class HellaSwag(_Commonsense):
    """Which of four endings continues the text?"""

    name = "hellaswag"
    title = "HellaSwag"
    folders = {"test": "hellaswag"}


class WinoGrande(_Commonsense):
    """Which of two names fills the blank?"""

    name = "winogrande"
    title = "WinoGrande"
    folders = {"test": "winogrande"}


class ARCEasy(_Commonsense):
    """Questions of school science that simple methods can answer."""

    name = "arc_easy"
    title = "ARC-e"
    folders = {"test": "ARC-Easy"}


class ARCChallenge(_Commonsense):
    """Questions of school science that simple methods could not answer."""

    name = "arc_challenge"
    title = "ARC-c"
    folders = {"test": "ARC-Challenge"}


class OpenBookQA(_Commonsense):
    """Questions that need a fact from a small book and common knowledge."""

    name = "openbookqa"
    title = "OBQA"
    folders = {"test": "openbookqa"}
