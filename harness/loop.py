"""Training and evaluation: one step, one clock each. Knows models and batches, no method and no task."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from harness.api import Kind, ParameterGroup
from harness.checkpoints import Checkpoints
from harness.compiling import PLAIN, Way
from harness.errors import TrialFailure
from harness.language_loss import LossFunction
from harness.measure import train_seconds
from harness.prefetch import opened, pinned
from harness.trial import Recipe

Batch = Mapping[str, Tensor]


class Steps(Protocol):
    """The optimizer steps of one epoch: their number, and the micro-batches of each in turn."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sequence[Batch]]: ...

    def after(self, done: int) -> Iterable[Sequence[Batch]]:
        """The steps after the first `done`, whose batches are not made."""
        ...


LOSS_POINTS = 100
"""A loss curve has about this many points, each the mean since the one before."""


@dataclass
class Progress:
    """What training has done so far."""

    steps: int = 0
    examples: int = 0
    tokens: int = 0
    """Real tokens, padding excluded."""
    slots: int = 0
    """Tokens with padding."""
    seconds: float = 0.0
    shapes: dict[tuple[int, int], int] = field(default_factory=dict)
    """How many micro-batches of each shape (rows, padded length) were trained on."""
    losses: list[tuple[int, float]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """How steps were computed, where that is not the usual, for the run's provenance."""

    def count(self, batch: Batch) -> None:
        """Add the rows, tokens and shape of one micro-batch."""
        rows, length = batch["input_ids"].shape
        packed = "position_ids" in batch  # positions begin anew with every row
        self.examples += int((batch["position_ids"] == 0).sum()) if packed else rows
        self.tokens += rows * length if packed else int(batch["attention_mask"].sum())
        self.slots += rows * length
        self.shapes[rows, length] = self.shapes.get((rows, length), 0) + 1


class LossCurve:
    """Gathers a training's losses on the device and now and then moves their mean into its progress."""

    def __init__(self, progress: Progress, total_steps: int) -> None:
        self.progress = progress
        self.interval = max(1, total_steps // LOSS_POINTS)
        self.pending: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """The loss of the step that `progress` has just counted.

        Raises TrialFailure("diverged") as soon as a loss that is not finite is noticed.
        """
        self.pending.append(loss)
        if self.progress.steps % self.interval == 0:
            self.flush()

    def flush(self) -> None:
        """Move pending losses into the curve: in steps, all that the loop (not a model's forward) waits for."""
        if not self.pending:
            return
        mean = float(torch.stack(self.pending).mean())
        self.pending.clear()
        if not math.isfinite(mean):
            raise TrialFailure("diverged", f"the training loss was {mean} at step {self.progress.steps}")
        self.progress.losses.append((self.progress.steps, mean))


@dataclass(frozen=True)
class Hooks:
    """What the caller hears of training."""

    after_epoch: Callable[[int], None]
    after_step: Callable[[int], None] = lambda step: None
    after_update: Callable[[int], None] = lambda step: None
    """Told the number of the optimizer's step while its gradients are still there."""


def optimizer_groups(
    model: nn.Module, groups: Sequence[ParameterGroup], head: tuple[str, ...], recipe: Recipe
) -> list[dict[str, Any]]:
    """Optimizer groups: the head at its own rate, tensors that `groups` single out, and the rest."""
    special = [(group.suffixes, group.ratio * recipe.learning_rate) for group in groups]
    rates: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = recipe.learning_rate
        if name.split(".")[0] in head:
            rate = recipe.head_learning_rate
        else:
            rate = next((value for suffixes, value in special if name.endswith(suffixes)), rate)
        rates.setdefault(rate, []).append(parameter)
    return [{"params": parameters, "lr": rate} for rate, parameters in rates.items()]


def fit(
    model: nn.Module,
    groups: Sequence[dict[str, Any]],
    epochs: Iterable[Steps],
    recipe: Recipe,
    hooks: Hooks,
    way: Way = PLAIN,
    checkpoints: Checkpoints | None = None,
) -> Progress:
    """Train. `epochs` yields, for each epoch, its optimizer steps; a step is one or more micro-batches.

    The number of steps per epoch must not vary. Seconds count steps only, not what `hooks.after_epoch` does.
    With `checkpoints` the training is saved when these say so, and goes on from where it was saved last.
    Raises TrialFailure("diverged") as soon as a loss that is not finite is noticed.
    """
    progress = Progress()
    device = next(model.parameters()).device
    parameters = [parameter for group in groups for parameter in group["params"]]
    trainer: Trainer | None = None
    over = 0
    for number, steps in enumerate(epochs, start=1):
        if trainer is None:
            trainer = Trainer(model, groups, parameters, recipe, len(steps) * recipe.epochs, progress, hooks)
            trainer.way = way
            over = checkpoints.restore(trainer) if checkpoints is not None else 0
        if number <= over:
            continue
        model.train()
        done = progress.steps - (number - 1) * len(steps)
        with opened(steps.after(done)) as ready:
            ended = False
            while not ended:
                with train_seconds(device) as watch:
                    ended = trainer.run(ready, checkpoints)
                progress.seconds += watch.seconds
                if checkpoints is not None and not ended:
                    checkpoints.save(trainer, number - 1)
        hooks.after_epoch(number)
    return progress


class Trainer:
    """Optimizer, schedule and loss curve of one training."""

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[dict[str, Any]],
        parameters: list[nn.Parameter],
        recipe: Recipe,
        total_steps: int,
        progress: Progress,
        hooks: Hooks,
    ) -> None:
        self.model, self.parameters, self.recipe, self.progress = model, parameters, recipe, progress
        self.after_step, self.after_update = hooks.after_step, hooks.after_update
        self.optimizer = torch.optim.AdamW(list(groups), weight_decay=recipe.weight_decay, fused=True)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate_schedule(recipe, total_steps))
        self.curve = LossCurve(progress, total_steps)
        self.loss: LossFunction | None = None
        """Chosen on the first batch."""
        self.way = PLAIN

    def run(self, steps: Iterator[Sequence[Batch]], checkpoints: Checkpoints | None) -> bool:
        """Take steps until there are no more, or a checkpoint is due. Returns whether there are no more."""
        for step in steps:
            self.step(step)
            self.after_step(self.progress.steps)
            if checkpoints is not None and checkpoints.due(self.progress.steps):
                return False
        self.curve.flush()
        return True

    def _loss_function(self, first: Batch) -> LossFunction:
        device, precision = self.parameters[0].device, self.recipe.precision
        with autocast(device, precision):
            plain = self.way.choose(self.model, first)

        def loss(batch: Batch) -> Tensor:
            with autocast(device, precision):
                return plain(batch)

        return loss

    def step(self, micro_batches: Sequence[Batch]) -> None:
        """One optimizer step on the mean loss over all items of the micro-batches, which are still on the host."""
        device = self.parameters[0].device
        items = [loss_items(batch) for batch in micro_batches]
        loss = torch.zeros((), device=device)
        for batch, count in zip(micro_batches, items, strict=True):
            self.progress.count(batch)
            ready = pinned(self.way.ready(batch), device)
            moved = {name: value.to(device, non_blocking=True) for name, value in ready.items()}
            self.loss = self.loss or self._loss_function(moved)
            loss += self.way.compute(self.loss, moved, count / sum(items))
        if self.recipe.clip > 0:
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        self.optimizer.step()
        self.scheduler.step()
        self.progress.steps += 1
        self.after_update(self.progress.steps)
        self.optimizer.zero_grad(set_to_none=True)
        self.curve.add(loss)


def rate_schedule(recipe: Recipe, total_steps: int) -> Callable[[int], float]:
    """The factor on the learning rates at each optimizer step, the first of which is step 0."""
    from transformers import get_scheduler

    unused = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    warmup = warmup_steps(recipe, total_steps)
    (factor,) = get_scheduler(recipe.schedule, unused, warmup, total_steps).lr_lambdas
    return cast(Callable[[int], float], factor)


def warmup_steps(recipe: Recipe, total_steps: int) -> int:
    """Optimizer steps over which the learning rate rises."""
    return round(recipe.warmup_ratio * total_steps)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """bf16 autocast if the recipe says so; parameters stay in their own precision."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def loss_items(batch: Batch) -> int:
    """What the loss is a mean over: rows, or answer tokens (labels other than -100)."""
    labels = batch["labels"]
    return int((labels[:, 1:] != -100).sum()) if labels.ndim == 2 else len(labels)


def predict(model: nn.Module, batches: Iterable[tuple[Sequence[int], Batch]], kind: Kind, precision: str) -> list[Any]:
    """Predictions in row order: class ids, or floats for regression. `batches` yields row numbers with their batch."""
    device = next(model.parameters()).device
    rows: list[int] = []
    found: list[Tensor] = []
    with evaluating(model), autocast(device, precision), opened(batches) as ready:
        for indices, batch in ready:
            inputs = {name: value.to(device, non_blocking=True) for name, value in batch.items() if name != "labels"}
            found.append(answers(model(**inputs).logits, kind))
            rows.extend(indices)
    # the one place where the host waits for the device
    values = dict(zip(rows, torch.cat(found).tolist() if found else [], strict=True))
    return [values[index] for index in range(len(values))]


NO_ANSWER = -1
"""The class of a row whose logits are not all finite."""


def answers(logits: Tensor, kind: Kind) -> Tensor:
    """[rows] class ids, or the numbers of a regression, from logits [rows, classes]."""
    if kind == "regression":
        return logits.float()[:, 0]
    return torch.where(logits.isfinite().all(-1), logits.argmax(dim=-1), NO_ANSWER)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode is put back."""
    mode = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(mode)
