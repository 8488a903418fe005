"""MetaMathQA: its rows from a mirror, answers of both test sets in one spelling, and a trial on the bundled decoder."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from language_support import cut_mirror, tiny_trial
from lm_eval.tasks.hendrycks_math.utils import is_equiv

from harness import data
from harness.api import DataRoot
from harness.errors import UserError
from harness.runner import run_trial
from harness.settings import Settings
from tasks.gsm8k import GSM8K
from tasks.math_problems import MathProblems
from tasks.metamath import MetaMathQA

TASK = MetaMathQA()


@pytest.fixture
def mirror(data_root: Path, tmp_path: Path) -> Path:
    """Two dozen rows in the form of MetaMathQA, and a few real test rows of each kind."""
    numbers = range(24)
    rows = {
        "type": ["GSM_Rephrased" if number % 2 else "MATH_AnsAug" for number in numbers],
        "query": [f"What is {number} plus one half?" for number in numbers],
        "response": [
            f"One half more is {number}.5.\n#### {number}.5\nThe answer is: {number}.5"
            if number % 2
            else rf"It is $\boxed{{\frac{{{2 * number + 1}}}{{2}}}}$. The answer is: \frac{{{2 * number + 1}}}{{2}}"
            for number in numbers
        ],
    }
    rows["query"].append("What is nothing?")
    rows["type"].append("MATH_AnsAug")
    rows["response"].append("Nobody knows.")
    folder = tmp_path / "mirror"
    (folder / "metamath").mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(folder / "metamath" / "train.parquet")
    cut_mirror(data_root, folder, {"gsm8k/test": 4}, "answer", 200)
    return cut_mirror(data_root, folder, {"math/test": 3}, "solution", 200)


def test_rows_come_from_the_mirror_and_those_without_an_answer_are_left_out(mirror: Path) -> None:
    loaded = data.load_task(TASK, DataRoot(mirror))
    assert len(loaded.train) + len(loaded.select) == 24
    assert {split: len(frame) for split, frame in loaded.tests.items()} == {"gsm8k": 4, "math": 3}
    row: Any = loaded.train[loaded.train["id"] == "train-3"].to_dict("records")[0]
    assert "### Instruction:\nWhat is 3 plus one half?\n\n### Response:\n" in TASK.encode(row).first
    assert TASK.answer(row).endswith("The answer is: 3.5")
    assert row["label"] == "3.5"


def test_without_a_mirror_or_the_hub_the_missing_file_is_named(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"'metamath/train.parquet' in the data root .* Put the file there, or name"):
        data.check_mirror(TASK, DataRoot(tmp_path))
    monkeypatch.setattr("harness.data._reach_hub", lambda repository, revision: _unreachable())
    with pytest.raises(
        UserError, match=r"meta-math/MetaMathQA .* from the hub .*a local mirror that holds metamath/tr"
    ):
        data.check_mirror(TASK, DataRoot())


def _unreachable() -> None:
    raise ConnectionError("no network")


def test_real_references_of_gsm8k_have_the_answer_that_gsm8k_reads(data_root: Path) -> None:
    published = pd.read_parquet(data_root / "gsm8k" / "test.parquet")["answer"]
    assert len(published) > 200
    for solution in published:
        number = solution.rpartition("####")[2].strip()
        expected = GSM8K().extract(solution)
        assert {
            TASK.extract(f"so.\nThe answer is: {spelled}") for spelled in (number, f"${number}.", f"{number} dollars")
        } == {expected}


def test_real_references_of_math_are_the_same_where_the_fields_rule_says_so(data_root: Path) -> None:
    published = pd.read_parquet(data_root / "math" / "test.parquet")
    answers = sorted(set(published["answer"]))
    assert len(answers) > 200
    extracted = {answer: TASK.extract(f"The answer is: {answer}") for answer in answers}
    forms = {answer: MathProblems().extract(rf"\boxed{{{answer}}}") for answer in answers}
    by_form: dict[str | None, set[str | None]] = {}
    for answer in answers:
        by_form.setdefault(forms[answer], set()).add(extracted[answer])
    assert all(len(spellings) == 1 for spellings in by_form.values())
    by_answer: dict[str | None, set[str | None]] = {}
    for answer in answers:
        by_answer.setdefault(extracted[answer], set()).add(forms[answer])
    merged = [values for values in by_answer.values() if len(values) > 1]
    for values in merged:  # 4000 and 4,000: the field's rule takes them for different answers
        assert len({Fraction(str(value).replace(",", "").replace(r"\frac{1}{2}", "0.5")) for value in values}) == 1
    assert len(merged) < 0.01 * len(by_answer)
    assert is_equiv(r"\frac12", r"\frac{1}{2}")
    assert TASK.extract(r"The answer is: \frac12") == TASK.extract(r"The answer is: $\dfrac{1}{2}$.")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so.\nThe answer is: 1,250", "1250"),
        ("The answer is: $18.00.", "18"),
        ("The answer is: 5 apples", "5"),
        ("The answer is: 25%", "25"),
        ("The answer is: -1,2", "-1,2"),
        ("The answer is: $7$", "7"),
        ("The answer is: -3.\nAnd on.", "-3"),
        ("The answer is: 1. No: The answer is: 2", "2"),
        ("The answer is: 2 x", "2x"),
        (r"The answer is: \begin{pmatrix} -2 \\ 1 \end{pmatrix}", r"\begin{pmatrix}-2\1\end{pmatrix}"),
        ("#### 5", None),
        ("The answer is: ", None),
        ("The answer is: .", None),
    ],
)
def test_what_follows_the_mark(text: str, answer: str | None) -> None:
    assert TASK.extract(text) == answer


def test_a_trial_is_scored_on_both_test_sets(mirror: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetaMathQA, "max_new_tokens", 8)
    settings = dataclasses.replace(settings, data_root=mirror)
    record = run_trial(tiny_trial("metamath", settings), settings)
    assert record.status == "ok", record.traceback
    assert {(score.split, score.metric) for score in record.scores} == {
        (split, metric) for split in ("select", "gsm8k", "math") for metric in TASK.metrics
    }
    assert {item.split for item in record.predictions} == {"gsm8k", "math"}
