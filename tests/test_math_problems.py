r"""MATH: boxed answers of real solutions, and the equivalence that the field uses."""

from __future__ import annotations

import dataclasses
import itertools
import random
from pathlib import Path

import pandas as pd
import pytest
from language_support import cut_mirror, tiny_trial
from lm_eval.tasks.hendrycks_math.utils import is_equiv

from harness import data
from harness.api import DataRoot
from harness.runner import run_trial
from harness.settings import Settings
from tasks.math_problems import MathProblems

TASK = MathProblems()


def normal(answer: str) -> str | None:
    return TASK.extract(rf"so it is $\boxed{{{answer}}}$.")


@pytest.fixture(scope="module")
def published(data_root: Path) -> pd.DataFrame:
    """The test rows as published, with the answers that the mirror's maker found on his own."""
    return pd.read_parquet(data_root / "math" / "test.parquet")


def test_all_rows_but_the_two_without_an_answer_are_loaded(data_root: Path) -> None:
    loaded = data.load_task(TASK, DataRoot(data_root))
    assert len(loaded.train) + len(loaded.select) == 7500 - 2
    assert len(loaded.tests["test"]) == 5000


def test_real_references_extract_to_the_published_answer(published: pd.DataFrame) -> None:
    for solution, answer in zip(published["solution"], published["answer"], strict=True):
        assert TASK.extract(solution) == normal(answer)
        assert TASK.extract(solution)


def test_real_answers_are_the_same_exactly_if_the_fields_rule_says_so(published: pd.DataFrame) -> None:
    answers = sorted(set(published["answer"]))
    chosen = random.Random(0).sample(answers, 220)
    same = 0
    for first, second in itertools.combinations(chosen, 2):
        assert (normal(first) == normal(second)) is is_equiv(first, second), (first, second)
    for answer, spelled in ((answer, answer.replace(r"\frac", r"\dfrac")) for answer in answers):
        assert normal(answer) == normal(spelled)
        same += answer != spelled
    assert same > 200


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (r"\frac12", r"\frac{1}{2}"),
        (r"\dfrac{1}{2}", r"\tfrac{1}{2}"),
        ("0.5", r"\frac{1}{2}"),
        (".5", "0.5"),
        ("1/2", r"\frac{1}{2}"),
        (r"\sqrt3", r"\sqrt{3}"),
        (r"\left(1, 2\right)", "(1,2)"),
        (r"10\%", "10"),
        (r"\$32", "32"),
        (r"90^\circ", "90"),
        ("x = 5", "5"),
        (r"12 \text{ meters}", "12"),
        (r"10,\!000", "10,000"),
        (r"\frac{1}{\sqrt2}", r"\frac1{\sqrt{2}}"),
    ],
)
def test_spellings_that_mean_the_same(first: str, second: str) -> None:
    assert is_equiv(first, second)
    assert normal(first) == normal(second)


@pytest.mark.parametrize(("first", "second"), [("1", "2"), ("-3", "3"), (r"\frac{1}{2}", r"\frac{2}{1}"), ("x", "y")])
def test_answers_that_differ(first: str, second: str) -> None:
    assert normal(first) != normal(second)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{1} and then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}}.", r"\frac{1}{\sqrt{2}}"),
        (r"$\boxed 7$", "7"),
        (r"\boxed{\text{(A)}}", r"\text{(A)}"),
        (r"\boxed{3", None),
        (r"\boxed{}", None),
        (r"\boxed", None),
        (r"\fbox{3}", None),
        ("The answer is 3.", None),
        ("", None),
    ],
)
def test_the_last_box_counts(text: str, answer: str | None) -> None:
    assert TASK.extract(text) == answer


def test_a_trial_leaves_out_what_does_not_fit_and_says_how_much(
    data_root: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MathProblems, "max_new_tokens", 8)
    mirror = cut_mirror(data_root, tmp_path / "mirror", {"math/train": 24, "math/test": 6}, "solution", 2000)
    settings = dataclasses.replace(settings, data_root=mirror)
    refused = run_trial(tiny_trial("math", settings), settings)
    assert refused.status == "failed"
    assert "leaves no room for its prompt" in refused.reason
    record = run_trial(tiny_trial("math", settings, long_answers="drop"), settings)
    assert record.status == "ok", record.traceback
    assert 0 < record.provenance["dropped_rows"] < 22
    assert {score.metric for score in record.scores} == {"exact_match", "parsed"}
    assert len(record.predictions[0].values) == 6


def test_an_output_cut_anywhere_is_read_without_error(published: pd.DataFrame) -> None:
    draw = random.Random(1)
    found = [TASK.extract(text[: draw.randrange(len(text))]) for text in published["solution"].head(500)]
    assert found.count(None) > 400  # a solution ends with its box, so that most cuts lose it
    assert all(answer is None or answer for answer in found)
