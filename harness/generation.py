"""Evaluation of a generation task through lm-eval: the adapted model answers every prompt, lm-eval scores it.

lm-eval is slow to import (seconds), so this module does not import it; `load_scorer` does, outside any clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from harness.api import GenerationTask
from harness.errors import UserError
from harness.records import UNPARSED

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from harness.language_model import RowsTask

METRIC = "exact_match"
NOT_FOUND = "[invalid]"
"""What lm-eval's own filters give for an output in which they find no answer."""


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

    A task with an lm-eval configuration of its own is judged by that; choices are then compared by likelihood.

    Prompts are tokenized as in training (`harness.batching`). At most `batch_size` rows are decoded at a time,
    until a stop string, the end token or the task's token limit. The model's training mode is put back.
    """
    from lm_eval.evaluator import evaluate

    from harness.language_model import AdaptedModel, RowsTask

    adapted = AdaptedModel(model, tokenizer, batch_size)
    own = task.lm_eval_configuration()
    rows = RowsTask(config=_configuration(task, frame) if own is None else _with_rows(own, frame))
    results = evaluate(lm=adapted, task_dict={task.name: rows}, bootstrap_iters=0)
    metric, first = next(iter(rows.aggregation())), rows.filters[0]
    found = [sample for sample in results["samples"][task.name] if sample["filter"] == first]
    samples = sorted(found, key=lambda sample: int(sample["doc_id"]))
    correct = [bool(sample[metric]) for sample in samples]
    if own is None:
        answers = [sample["filtered_resps"][0] for sample in samples]
    else:
        references = reference_answers(task, frame)
        answers = [_judged(rows, *case) for case in zip(samples, correct, references, strict=True)]
    return GenerationResult(
        outputs=[str(sample["resps"][0][0]) for sample in samples],
        answers=answers,
        correct=correct,
        exact_match=float(results["results"][task.name][f"{metric},{first}"]),
    )


def _judged(rows: RowsTask, sample: Mapping[str, Any], correct: bool, reference: str) -> str:
    """The answer behind lm-eval's judgement of one row: what it calls right is the reference in one spelling."""
    if correct:
        return reference
    if rows.OUTPUT_TYPE == "multiple_choice":
        likelihoods = [float(score) for score, _ in sample["filtered_resps"]]
        answer = str(rows.doc_to_choice(sample["doc"])[likelihoods.index(max(likelihoods))]).strip()
    else:
        answer = str(sample["filtered_resps"][0]).strip()
    return UNPARSED + answer if answer in ("", NOT_FOUND, reference) else answer


def _with_rows(own: Mapping[str, Any], frame: pd.DataFrame) -> dict[str, Any]:
    """The configuration of a task of lm-eval's own, to be evaluated on the documents of `frame` and nothing else."""
    import datasets

    documents = datasets.Dataset.from_list([json.loads(text) for text in frame["document"]])
    elsewhere = dict.fromkeys(
        ("dataset_path", "dataset_name", "dataset_kwargs", "training_split", "validation_split", "process_docs")
    )
    return {
        **own,
        **elsewhere,  # documents were processed when they were read
        "custom_dataset": lambda **_: {"test": documents},
        "test_split": "test",
        "fewshot_split": None,
        "fewshot_config": None,
        "num_fewshot": 0,
    }


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
