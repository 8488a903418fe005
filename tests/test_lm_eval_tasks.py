"""Tasks of lm-eval by name: read from a local task file, trained on, and judged by lm-eval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from language_support import tiny_trial

from harness import data, metrics
from harness.api import DataRoot, GenerationTask
from harness.backbones import load, resolve
from harness.errors import UserError
from harness.evaluation import references
from harness.generation import evaluate_generation, load_scorer
from harness.plugins import discover
from harness.runner import run_trial
from harness.settings import Settings

COLOURS = ("red", "blue", "green")


def write_task(folder: Path, **changes: object) -> str:
    """A task file with 30 training and 6 test rows. Returns the task's name in a suite."""
    for split, count in (("train", 30), ("test", 6)):
        rows = [{"thing": f"thing {n}", "colours": COLOURS, "right": n % 3} for n in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    configuration = {
        "task": "colours",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {s: str(folder / f"{s}.jsonl") for s in ("train", "test")}},
        "training_split": "train",
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "Question: which colour has {{thing}}?\nAnswer:",
        "doc_to_choice": "colours",
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        **changes,
    }
    path = folder / "colours.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in configuration.items() if value is not None}))
    return f"lm_eval:{path}"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


def generation(name: str) -> GenerationTask:
    task = discover().tasks[name]
    assert isinstance(task, GenerationTask)
    return task


def test_prompt_and_target_are_lm_evals(tmp_path: Path) -> None:
    task = generation(write_task(tmp_path))
    loaded = data.load_task(task, DataRoot())
    assert len(loaded.train) + len(loaded.select) == 30
    row: Any = loaded.tests["test"].iloc[4].to_dict()
    assert task.encode(row).first == "Question: which colour has thing 4?\nAnswer:"
    assert (task.answer(row), row["label"]) == (" blue", "blue")


def test_choices_are_judged_as_lm_eval_judges_them_alone(tmp_path: Path, settings: Settings) -> None:
    name = write_task(tmp_path)
    task = generation(name)
    loaded = load(resolve("starter-decoder", settings), task, 0, settings)
    frame = data.load_task(task, DataRoot()).tests["test"]
    load_scorer()
    result = evaluate_generation(loaded.model, loaded.tokenizer, task, frame, batch_size=4)

    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    from harness.language_model import AdaptedModel

    alone = evaluate(
        lm=AdaptedModel(loaded.model, loaded.tokenizer, 4),
        task_dict=TaskManager(include_defaults=False).load([name.removeprefix("lm_eval:")]),
        bootstrap_iters=0,
    )
    assert alone is not None
    assert result.exact_match == alone["results"]["colours"]["acc,none"]
    labels = references(task, frame)
    assert metrics.compute("exact_match", result.answers, labels) == result.exact_match
    assert set(result.answers) <= set(COLOURS)
    assert len(set(labels)) == 3


def test_generated_answers_go_through_the_tasks_own_filters(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_scorer()
    from harness.language_model import AdaptedModel

    pattern = {"function": "regex", "regex_pattern": "is (\\w+)"}
    changes = {
        "output_type": "generate_until",
        "doc_to_choice": None,
        "doc_to_target": "{{colours[right]}}",
        "filter_list": [{"name": "strict", "filter": [pattern, {"function": "take_first"}]}],
        "metric_list": [
            {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, "ignore_case": True}
        ],
    }
    task = generation(write_task(tmp_path, **changes))
    loaded = load(resolve("starter-decoder", settings), task, 0, settings)
    frame = data.load_task(task, DataRoot()).tests["test"]
    outputs = ["it is RED", "blue", "it is red", "it is red", "is BLUE", "x"]
    monkeypatch.setattr(AdaptedModel, "generate_until", lambda self, requests, **_: outputs)
    result = evaluate_generation(loaded.model, loaded.tokenizer, task, frame, batch_size=4)
    assert result.answers == ["red", "unparsed: [invalid]", "red", "red", "blue", "unparsed: [invalid]"]
    assert result.exact_match == metrics.compute("exact_match", result.answers, references(task, frame)) == 3 / 6


def test_a_trial_trains_on_a_task_of_lm_eval(tmp_path: Path, settings: Settings) -> None:
    trial = tiny_trial(write_task(tmp_path), settings)
    record = run_trial(trial, settings)
    assert record.status == "ok", record.traceback
    (score,) = [score.value for score in record.scores if score.split == "test"]
    (predictions,) = record.predictions
    assert score == sum(a == b for a, b in zip(predictions.values, predictions.labels, strict=True)) / 6


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"training_split": None}, "has no training split"),
        ({"unsafe_code": True}, "it runs code that a model wrote"),
        ({"doc_to_target": "colours", "output_type": "generate_until", "doc_to_choice": None}, "several targets"),
        ({"metric_list": [{"metric": "f1"}]}, "its first metric is 'f1'"),
        ({"output_type": "loglikelihood", "metric_list": None}, "its output type is 'loglikelihood'"),
    ],
)
def test_a_task_that_does_not_fit_is_refused_before_training(
    tmp_path: Path, changes: dict[str, object], fault: str
) -> None:
    with pytest.raises(UserError, match=fault):
        data.check_mirror(generation(write_task(tmp_path, **changes)), DataRoot())


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("lm_eval:arc_eazy", "unknown task 'arc_eazy' in lm-eval: did you mean 'arc_easy'?"),
        ("lm_eval:mmlu", "'lm_eval:mmlu' is a group of lm-eval tasks"),
        ("lm_eval:nowhere.yaml", "there is no file nowhere.yaml"),
    ],
)
def test_a_name_that_lm_eval_does_not_know_is_one_line(name: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        discover().tasks[name]
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_hub_one_line_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"cannot get the rows of task 'lm_eval:arc_easy' .* name a task file"):
        data.check_mirror(generation("lm_eval:arc_easy"), DataRoot())
