"""Evaluation of a generation task through lm-eval: the adapted model answers every prompt, lm-eval scores it.

lm-eval is slow to import (seconds), so this module does not import it; `load_scorer` does, outside any clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from harness.api import GenerationTask
from harness.errors import UserError
from harness.records import UNPARSED

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

METRIC = "exact_match"


@dataclass(frozen=True)
class GenerationResult:
    """What a model answered, in row order, and how lm-eval judged it."""

    outputs: list[str]
    """Generated texts, up to the first stop string or end token."""
    answers: list[str]
    """The final answer that the task extracts from each; see `final_answer` for outputs without one."""
    correct: list[bool]
    """Whether it equals the reference's."""
    exact_match: float
    """Share of correct rows, 0 to 1."""


def final_answer(task: GenerationTask, output: str) -> str:
    """What the task extracts from a generated text, or `UNPARSED` and the text itself, which equals no reference."""
    found = task.extract(output)
    return UNPARSED + output.strip() if found is None else found


def reference_answers(task: GenerationTask, frame: pd.DataFrame) -> list[str]:
    """The final answer of each row's reference. A reference without one is a UserError."""
    found = []
    for row in frame.to_dict("records"):
        answer = task.extract(task.answer(cast(Mapping[str, Any], row)))
        if answer is None:
            raise UserError(
                f"task '{task.name}': the reference of row {row['id']} holds no final answer; correct or remove it."
            )
        found.append(answer)
    return found


def load_scorer() -> None:
    """Import lm-eval ahead of the first evaluation, so that no clock counts it."""
    import harness.language_model  # noqa: F401


def evaluate_generation(
    model: nn.Module, tokenizer: Any, task: GenerationTask, frame: pd.DataFrame, batch_size: int
) -> GenerationResult:
    """Answer the rows of `frame` greedily and have lm-eval compare the extracted answers with the references.

    Prompts are tokenized as in training (`harness.batching`). At most `batch_size` rows are decoded at a time,
    until a stop string, the end token or `task.max_new_tokens`. The model's training mode is put back.
    """
    from lm_eval.evaluator import evaluate

    from harness.language_model import AdaptedModel, RowsTask

    adapted = AdaptedModel(model, tokenizer, batch_size)
    rows = RowsTask(config=_configuration(task, frame))
    results = evaluate(lm=adapted, task_dict={task.name: rows}, bootstrap_iters=0)
    samples = sorted(results["samples"][task.name], key=lambda sample: sample["doc_id"])
    return GenerationResult(
        outputs=[sample["resps"][0][0] for sample in samples],
        answers=[sample["filtered_resps"][0] for sample in samples],
        correct=[bool(sample[METRIC]) for sample in samples],
        exact_match=float(results["results"][task.name][f"{METRIC},extract"]),
    )


def _configuration(task: GenerationTask, frame: pd.DataFrame) -> dict[str, Any]:
    """lm-eval's configuration of the task, its rows in memory: no hub, no cache on disk."""
    import datasets

    records = [cast(Mapping[str, Any], row) for row in frame.to_dict("records")]
    rows = {
        "prompt": [task.encode(row).first for row in records],
        "reference": reference_answers(task, frame),
    }

    def extract(responses: list[list[str]], documents: list[dict[str, Any]]) -> list[list[str]]:
        return [[final_answer(task, text) for text in texts] for texts in responses]

    return {
        "task": task.name,
        "metadata": {"version": task.version},
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_dict(rows)},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "prompt",
        "doc_to_target": "reference",
        "num_fewshot": 0,
        "generation_kwargs": {"until": list(task.stop), "max_gen_toks": task.max_new_tokens, "do_sample": False},
        "filter_list": [
            {"name": "extract", "filter": [{"function": "custom", "filter_fn": extract}, {"function": "take_first"}]}
        ],
        "metric_list": [{"metric": METRIC, "aggregation": "mean", "higher_is_better": True}],
    }
