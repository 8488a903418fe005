"""The commonsense tasks: choices of real references, the mix, and a trial on the bundled decoder."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest
from language_support import cut_mirror, tiny_trial

from harness import data
from harness.api import DataRoot, GenerationTask
from harness.errors import UserError
from harness.plugins import discover
from harness.runner import run_trial
from harness.settings import Settings
from tasks.commonsense import FORMATS

NAMES = ("boolq", "piqa", "social_i_qa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa")
TASKS = {name: task for name, task in discover().tasks.items() if name in (*NAMES, "commonsense")}
# The rule of LLM-Adapters' commonsense_evaluate.py, benchmark by benchmark.
THEIRS = {
    "boolq": r"true|false",
    "piqa": r"solution1|solution2",
    "social_i_qa": r"answer1|answer2|answer3|answer4|answer5",
    "arc_challenge": r"answer1|answer2|answer3|answer4|answer5",
    "arc_easy": r"answer1|answer2|answer3|answer4|answer5",
    "openbookqa": r"answer1|answer2|answer3|answer4|answer5",
    "hellaswag": r"ending1|ending2|ending3|ending4",
    "winogrande": r"option1|option2",
}


def generation(name: str) -> GenerationTask:
    task = TASKS[name]
    assert isinstance(task, GenerationTask)
    return task


def test_there_are_eight_and_one_that_is_scored_on_all() -> None:
    assert set(TASKS) == {*NAMES, "commonsense"}
    assert set(TASKS["commonsense"].tests) == set(NAMES)
    assert {TASKS[name].tests for name in NAMES} == {("test",)}


@pytest.mark.parametrize("name", NAMES)
def test_real_references_extract_to_their_choice(name: str, data_root: Path) -> None:
    task = generation(name)
    folder = {folder.lower().replace("-", "_"): folder for folder in FORMATS}[name]
    published = pd.read_parquet(data_root / "commonsense" / folder / "test.parquet")
    assert len(published) >= 500
    for output, answer in zip(published["output"], published["answer"], strict=True):
        assert task.extract(output) == task.extract(answer) == answer == re.findall(THEIRS[name], output)[0]
        assert generation("commonsense").extract(output) == answer


@pytest.mark.parametrize("name", [*NAMES, "commonsense"])
def test_every_task_trains_on_the_mix_and_tests_on_its_own(name: str, data_root: Path) -> None:
    loaded = data.load_task(TASKS[name], DataRoot(data_root))
    mixed = pd.concat([loaded.train, loaded.select])
    assert len(mixed) == 15000
    assert {re.sub(r"\d", "", label) for label in mixed["label"]} == {
        *("true", "false", "solution", "answer", "ending", "option")
    }
    prompts = set(mixed["instruction"])
    for frame in loaded.tests.values():
        assert not prompts & set(frame["instruction"])


@pytest.mark.parametrize(
    ("name", "text", "choice"),
    [
        ("boolq", "the correct answer is false", "false"),
        ("piqa", "solution2, not solution1", "solution2"),
        ("boolq", "answer1 is true", "true"),
        ("winogrande", "option3", None),
        ("hellaswag", "the correct answer is ending", None),
        ("arc_easy", "", None),
    ],
)
def test_the_first_choice_of_the_benchmark_counts(name: str, text: str, choice: str | None) -> None:
    assert generation(name).extract(text) == choice


def test_an_input_makes_the_prompt_of_a_paired_task() -> None:
    row = {"instruction": "Choose.", "input": "A or B"}
    assert TASKS["boolq"].encode(row).first == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nChoose.\n\n### Input:\nA or B\n\n### Response:\n"
    )
    assert TASKS["boolq"].encode({**row, "input": ""}).first == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nChoose.\n\n### Response:\n"
    )


def test_without_a_mirror_the_files_are_named() -> None:
    with pytest.raises(UserError, match=r"HARNESS_DATA or --data-root.*commonsense/train\.parquet.*boolq/test\."):
        data.load_task(TASKS["boolq"], DataRoot())


def test_a_reference_without_a_choice_is_refused_before_training(data_root: Path, tmp_path: Path) -> None:
    mirror = cut_mirror(data_root, tmp_path, {"commonsense/train": 20, "commonsense/boolq/test": 5}, "instruction", 999)
    path = mirror / "commonsense" / "train.parquet"
    frame = pd.read_parquet(path)
    frame.loc[frame.index[3], "output"] = "I do not know"
    frame.to_parquet(path)
    with pytest.raises(UserError, match=r"row train-3 has label '\w+', which is not the final answer"):
        data.load_task(TASKS["boolq"], DataRoot(mirror))


def test_a_trial_on_the_bundled_decoder_scores_every_test_set(
    data_root: Path, settings: Settings, tmp_path: Path
) -> None:
    files = {"commonsense/train": 18, **{f"commonsense/{folder}/test": 3 for folder in FORMATS}}
    mirror = cut_mirror(data_root, tmp_path / "mirror", files, "instruction", 1000)
    settings = dataclasses.replace(settings, data_root=mirror)
    record = run_trial(tiny_trial("commonsense", settings), settings)
    assert record.status == "ok", record.traceback
    assert {(score.split, score.metric) for score in record.scores} == {
        (split, metric) for split in ("select", *NAMES) for metric in ("exact_match", "parsed")
    }
    assert {item.split: len(item.values) for item in record.predictions} == dict.fromkeys(NAMES, 3)
