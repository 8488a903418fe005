"""Scores and predictions of a model on `select` and the test sets, epoch by epoch; which epoch was chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import data, loop, metrics, prefetch
from harness.api import GenerationTask, Task
from harness.errors import TrialFailure
from harness.generation import evaluate_generation, reference_answers
from harness.records import SELECT, Predictions, Score
from harness.trial import Recipe

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from harness.prefix import PrefixCache


@dataclass
class Evaluator:
    """Evaluates one task's `select` and test sets and remembers every epoch."""

    task: Task
    frames: Mapping[str, pd.DataFrame]
    """`select` and the test sets by name."""
    tokenizer: Any
    recipe: Recipe
    cache_root: Path | None = None
    """Where encoded rows are kept between processes, if anywhere."""
    cache: PrefixCache | None = None
    """Keeps what the frozen lower layers of the model give."""
    scores: list[Score] = field(default_factory=list)
    predictions: list[Predictions] = field(default_factory=list)
    seconds: float = 0.0
    """Of all evaluations; counted by whoever has a clock."""

    def state(self) -> dict[str, Any]:
        """What was scored so far, ready for JSON."""
        scores, predictions = (list(map(asdict, items)) for items in (self.scores, self.predictions))
        return {"scores": scores, "predictions": predictions, "seconds": self.seconds}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.scores = [Score(**score) for score in state["scores"]]
        self.predictions = [Predictions(**kept) for kept in state["predictions"]]
        self.seconds = state["seconds"]

    def evaluate(self, model: nn.Module, epoch: int) -> None:
        """Predict every split after `epoch` and score it."""
        for split, frame in self.frames.items():
            self.record(split, epoch, self._predict(model, frame))

    def record(self, split: str, epoch: int, values: list[Any]) -> None:
        """Score the predictions `values` (in row order) of one split after one epoch and keep them.

        Raises TrialFailure("diverged") for a model that gives infinity or no number.
        """
        frame = self.frames[split]
        if self.task.kind != "generation" and not all(map(_is_answer, values)):
            raise TrialFailure("diverged", f"a prediction on '{split}' was not finite after epoch {epoch}")
        labels = references(self.task, frame)
        for metric in self.task.metrics:
            self.scores.append(Score(epoch, split, metric, metrics.compute(metric, values, labels)))
        self.predictions.append(Predictions(split, epoch, frame["id"].astype(str).tolist(), labels, values))

    def selected_epoch(self) -> int:
        """The epoch with the best primary metric on `select`; the earliest of equals."""
        return selected_epoch(self.scores, self.task.metrics[0])

    def kept_epochs(self) -> set[int]:
        """The last and the selected epoch: what later metrics, tests and exports need."""
        return {self.selected_epoch(), max(score.epoch for score in self.scores)}

    def kept_predictions(self) -> list[Predictions]:
        """Test predictions of the kept epochs."""
        epochs = self.kept_epochs()
        return [item for item in self.predictions if item.split != SELECT and item.epoch in epochs]

    def _predict(self, model: nn.Module, frame: pd.DataFrame) -> list[Any]:
        if isinstance(self.task, GenerationTask):
            with loop.autocast(next(model.parameters()).device, self.recipe.precision):
                return evaluate_generation(model, self.tokenizer, self.task, frame, self.recipe.eval_batch_size).answers
        encoded = data.encode(self.task, frame, self.tokenizer, self.recipe.max_length, cache_root=self.cache_root)
        device = next(model.parameters()).device

        def collate(rows: Sequence[int]) -> loop.Batch:
            return data.collate(encoded, rows, self.tokenizer.pad_token_id)

        make = collate if self.cache is None else self.cache.remembering(encoded, collate)

        def numbered(rows: Sequence[int]) -> tuple[Sequence[int], loop.Batch]:
            return rows, prefetch.pinned(make(rows), device)

        rows = data.eval_batches(encoded.lengths, self.recipe.eval_batch_size)
        batches = prefetch.Prepared(numbered, rows, prefetch.ahead_for(device))
        return loop.predict(model, batches, self.task.kind, self.recipe.precision)


def selected_epoch(scores: Sequence[Score], metric: str) -> int:
    """The epoch with the best `metric` on `select`; the earliest of equals."""
    on_select = [score for score in scores if score.split == SELECT and score.metric == metric]
    return max(on_select, key=lambda score: (score.value, -score.epoch)).epoch


def references(task: Task, frame: pd.DataFrame) -> list[Any]:
    """What predictions are compared with: label ids, floats, or the reference answers' final part."""
    if isinstance(task, GenerationTask):
        return list(reference_answers(task, frame))
    kind = float if task.kind == "regression" else int
    return [kind(label) for label in frame["label"]]


def _is_answer(value: float) -> bool:
    """A regression may give -1.0, but -1 is no class."""
    return math.isfinite(value) and not (isinstance(value, int) and value == loop.NO_ANSWER)
