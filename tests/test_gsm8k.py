"""GSM8K: the final numbers of real solutions and of free answers, and a trial on the bundled decoder."""

from __future__ import annotations

import dataclasses
import re
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from language_support import cut_mirror, tiny_trial

from harness import data
from harness.api import DataRoot
from harness.backbones import load, resolve
from harness.errors import UserError
from harness.records import UNPARSED
from harness.runner import run_trial
from harness.settings import Settings
from tasks.gsm8k import GSM8K

TASK = GSM8K()


@pytest.fixture(scope="module")
def published(data_root: Path) -> pd.DataFrame:
    """All rows as published: question, answer."""
    frames = [pd.read_parquet(data_root / "gsm8k" / f"{split}.parquet") for split in ("train", "test")]
    return pd.concat(frames, ignore_index=True)


def test_every_split_is_loaded_whole(data_root: Path) -> None:
    loaded = data.load_task(TASK, DataRoot(data_root))
    assert len(loaded.train) + len(loaded.select) == 7473
    assert len(loaded.tests["test"]) == 1319
    assert not loaded.train["solution"].str.contains("<<").any()


def test_real_references_extract_to_what_stands_after_the_mark(published: pd.DataFrame) -> None:
    printed = published["answer"].str.split("####").str[1].str.strip()
    assert len(printed) == 8792
    for text, number in zip(published["answer"], printed, strict=True):
        found = TASK.extract(text)
        assert found is not None
        assert Decimal(found) == Decimal(number.replace(",", ""))
        spellings = (number, f"so it is ${number}.", f"#### {number} in 1 day")
        assert {TASK.extract(spelled) for spelled in spellings} == {found}


def test_different_real_answers_stay_different(published: pd.DataFrame) -> None:
    numbers = {Decimal(text.split("####")[1].strip().replace(",", "")) for text in published["answer"]}
    assert len(numbers) >= 200
    assert len({TASK.extract(f"#### {number}") for number in numbers}) == len(numbers)


def test_without_the_mark_the_last_number_is_that_of_the_rule_of_llm_adapters(published: pd.DataFrame) -> None:
    for text in published["answer"].head(2000):
        plain = re.sub("<<.*?>>", "", text).replace("####", "The answer is")
        theirs = float(re.findall(r"-?\d+\.?\d*", plain.replace(",", ""))[-1])
        found = TASK.extract(plain)
        assert found is not None
        assert abs(float(found) - theirs) <= 0.001


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 1,250", "1250"),
        ("#### $1,250.50", "1250.5"),
        ("The answer is 18.00 dollars.", "18"),
        ("He owes -$5", "-5"),
        ("That makes $ -5.", "-5"),
        ("She has 7-3=4", "4"),
        ("- 3 apples", "3"),
        ("So 12-5", "5"),
        ("it fell by 3 to -2.", "-2"),
        ("it costs $.50", "0.5"),
        ("1 2 3\n#### 9\nor 4", "9"),
        ("first 8\n####", "8"),
        ("1,2,3,000", "123000"),
        ("#### 0.0", "0"),
        ("#### -0", "0"),
        ("no number here", None),
        ("", None),
    ],
)
def test_spellings_of_a_number(text: str, number: str | None) -> None:
    assert TASK.extract(text) == number


def test_the_prompt_is_that_of_llm_adapters() -> None:
    assert TASK.encode({"question": "How many?"}).first == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nHow many?\n\n### Response:\n"
    )


def test_a_long_prompt_loses_its_beginning_and_the_answer_stays_whole(data_root: Path, settings: Settings) -> None:
    loaded = load(resolve("starter-decoder", settings), TASK, 0, settings)
    frame = data.load_task(TASK, DataRoot(data_root)).tests["test"]
    frame = frame[frame["solution"].str.len() < 150].head(30)
    encoded = data.encode(TASK, frame, loaded.tokenizer, 128)
    assert max(encoded.lengths) == 128  # some prompts were cut
    for ids, labels, solution in zip(encoded.input_ids, encoded.labels, frame["solution"], strict=True):
        answer = [token for token, label in zip(ids, labels, strict=True) if label != -100]
        assert loaded.tokenizer.decode(answer[:-1]) == solution
        assert answer[-1] == loaded.tokenizer.eos_token_id
        prompt = loaded.tokenizer.decode(ids[: len(ids) - len(answer)])
        assert prompt.endswith("### Response:\n")
    with pytest.raises(UserError, match=r"the answer of row test-\d+ has \d+ tokens, .* raise the recipe's max_length"):
        data.encode(TASK, frame, loaded.tokenizer, 48)
    fitting = [len(loaded.tokenizer(text)["input_ids"]) + 1 < 48 for text in frame["solution"]]
    assert 0 < sum(fitting) < len(frame)
    assert len(data.encode(TASK, frame, loaded.tokenizer, 48, drop_long=True)) == sum(fitting)
    assert data.row_lengths(TASK, frame, loaded.tokenizer, 48) == [48] * len(frame)
    with pytest.raises(UserError, match="no answer of its 30 training rows fits into max_length = 4 tokens"):
        data.encode(TASK, frame, loaded.tokenizer, 4, drop_long=True)


def test_a_trial_on_the_bundled_decoder_scores_and_counts_what_it_cannot_read(
    data_root: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GSM8K, "max_new_tokens", 32)
    mirror = cut_mirror(data_root, tmp_path / "mirror", {"gsm8k/train": 18, "gsm8k/test": 6}, "answer", 200)
    settings = dataclasses.replace(settings, data_root=mirror)
    record = run_trial(tiny_trial("gsm8k", settings), settings)
    assert record.status == "ok", record.traceback
    scores = {score.metric: score.value for score in record.scores if score.split == "test"}
    (predictions,) = record.predictions
    right = [value == label for value, label in zip(predictions.values, predictions.labels, strict=True)]
    read = [not value.startswith(UNPARSED) for value in predictions.values]
    assert scores == {"exact_match": sum(right) / 6, "parsed": pytest.approx(sum(read) / 6)}
    numbers = [value for value, good in zip(predictions.values, read, strict=True) if good]
    assert all(re.fullmatch(r"-?\d+(\.\d+)?", value) for value in numbers)
