"""The training of a pack: trials enter, share every step, are evaluated at their epochs' ends, and leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from harness import data, loop, measure
from harness.api import GenerationTask
from harness.errors import TrialFailure
from harness.pack.batches import merge, trial_losses
from harness.pack.slots import Slot
from harness.pack.stack import Stack
from harness.prefetch import sent
from harness.torch_errors import out_of_memory


@dataclass(frozen=True)
class Hooks:
    """What the caller hears of a pack."""

    joined: Callable[[list[Slot]], int]
    """Before trials share steps: told all of them, answers how many of the first fit into memory together."""
    stepped: Callable[[Slot], None]
    evaluated: Callable[[Slot], None]
    """After each evaluation, while nothing else has changed the slot's tensors."""
    left: Callable[[Slot], None]
    """At its end; `slot.failure` says whether that was a good one."""


@dataclass
class PackTrainer:
    """Trains up to `width` slots at a time; `entrants` yields the slots that wait, attached when it is their turn."""

    entrants: Iterator[Slot]
    width: int
    hooks: Hooks
    active: list[Slot] = field(default_factory=list)
    paused: list[Slot] = field(default_factory=list)
    """Put aside in mid-training because memory did not suffice; they go on before anybody new enters."""
    stack: Stack | None = None

    def run(self) -> None:
        """Train all. Raises torch.cuda.OutOfMemoryError if a single trial does not fit."""
        while self._fill():
            stack = self.stack or self._restack()
            try:
                self._stretch(stack)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                self._halve()
                continue
            self._end_epochs([slot for slot in stack.slots if slot.epoch_ended])
            self._let_go()

    def _fill(self) -> bool:
        """Let trials in while there is room; False when nobody is left."""
        while len(self.active) < self.width:
            slot = self.paused.pop(0) if self.paused else next(self.entrants, None)
            if slot is None:
                break
            self.active.append(slot)
            self.stack = None
        return bool(self.active)

    def _restack(self) -> Stack:
        fit = self.hooks.joined(self.active)
        if fit < len(self.active):
            self._set_aside(fit)
        self.stack = Stack(self.active)
        self.stack.place()
        self.stack.model.train()
        return self.stack

    def _stretch(self, stack: Stack) -> None:
        """Steps until a trial ends an epoch, timed as a whole: only loss curves wait for the device between them."""
        watch, before = measure.Stopwatch(stack.slots[0].stage.device), stack.slots[0].progress.steps
        try:
            with watch:
                while not self._advance(stack):
                    pass
        finally:
            if stack.slots[0].progress.steps > before:
                for slot in stack.slots:
                    slot.shares.append((watch.seconds, len(stack.slots)))

    def _advance(self, stack: Stack) -> bool:
        """One step of all trials; whether the epoch of one has ended with it, or no trial is left that learns."""
        for slot, loss in zip(stack.slots, self._step(stack), strict=True):
            slot.step_done(loss)
            self.hooks.stepped(slot)
        return any(slot.epoch_ended for slot in stack.slots) or all(slot.failure is not None for slot in stack.slots)

    def _step(self, stack: Stack) -> torch.Tensor:
        """Losses [trials] of one optimizer step of all trials."""
        device, task = stack.slots[0].stage.device, stack.slots[0].bench.task
        pad_id = stack.slots[0].stage.loaded.tokenizer.pad_token_id
        steps = [slot.next_step() for slot in stack.slots]
        items = sent(torch.tensor([sum(map(loop.loss_items, step)) for step in steps], dtype=torch.float32), device)
        losses = torch.zeros(len(steps), device=device)
        for number in range(max(map(len, steps))):
            merged = merge([step[number] if number < len(step) else None for step in steps], pad_id)
            batch = {name: sent(value, device) for name, value in merged.items()}
            labels = batch.pop("labels")
            with loop.autocast(device, stack.slots[0].recipe.precision):
                part = trial_losses(stack.model(**batch).logits, labels, items, task.kind)
            part.backward(torch.ones_like(part))  # no sum over trials: what is no number in one stays in it
            losses += part.detach()
        stack.update()
        return losses

    def _halve(self) -> None:
        """Put half of the trials aside, with what they have learned, and go on with the others."""
        if len(self.active) == 1:
            raise torch.cuda.OutOfMemoryError("one trial alone does not fit into the device's memory")
        self._set_aside(len(self.active) // 2)
        torch.cuda.empty_cache()

    def _set_aside(self, width: int) -> None:
        self.width = width
        self.paused[:0] = self.active[width:]
        del self.active[width:]
        self.stack = None

    def _end_epochs(self, ended: Sequence[Slot]) -> None:
        sound = [slot for slot in ended if slot.failure is None]
        if not sound:
            return
        stack = self.stack
        for group in _alike(sound):
            evaluate(group)
            for slot in group:
                self.hooks.evaluated(slot)
        if stack is not None:
            stack.place()
            stack.model.train()

    def _let_go(self) -> None:
        """Take out what has ended. A diverged trial stays to its end while others train: taking it out would change
        the shapes of their products, and with these the last bits of their losses."""
        over = [slot for slot in self.active if slot.done]
        if all(slot.failure is not None or slot.done for slot in self.active):
            over = list(self.active)
        for slot in over:
            self.active.remove(slot)
            self.stack = None
            self.hooks.left(slot)


def evaluate(slots: Sequence[Slot]) -> None:
    """Score trials of one task on `select` and the test sets, together where that can be; failures become theirs."""
    task = slots[0].bench.task
    if len(slots) == 1 or isinstance(task, GenerationTask):
        for slot in slots:
            slot.place()
            with measure.eval_seconds(slot.stage.device) as watch:
                _judge(slot, partial(slot.evaluator.evaluate, slot.stage.model, slot.epoch))
            slot.eval_seconds += watch.seconds
        return
    stack = Stack(slots, adopt=False)
    stack.place()
    for split, frame in slots[0].bench.splits.items():
        encoded = data.encode(task, frame, slots[0].stage.loaded.tokenizer, slots[0].recipe.max_length)
        predictions = _predict(stack, encoded)
        for slot, values in zip(stack.slots, predictions, strict=True):
            _judge(slot, partial(slot.evaluator.record, split, slot.epoch, values))
    for slot in slots:
        slot.joint_epochs += 1


def _judge(slot: Slot, action: Callable[[], None]) -> None:
    try:
        if slot.failure is None:
            action()
    except TrialFailure as failure:
        slot.failure = failure


def _predict(stack: Stack, encoded: data.Encoded) -> list[list[Any]]:
    """Predictions of each trial in row order."""
    trials, first = len(stack.slots), stack.slots[0]
    # as many rows at a time as a training step has, which is known to fit
    size = min(first.recipe.eval_batch_size, first.recipe.batch_size)
    found: list[list[Any]] = [[None] * len(encoded) for _ in range(trials)]
    with loop.evaluating(stack.model), loop.autocast(first.stage.device, first.recipe.precision):
        for rows in data.eval_batches(encoded.lengths, size):
            batch = data.collate(encoded, rows, first.stage.loaded.tokenizer.pad_token_id)
            inputs = {
                name: value.to(first.stage.device).repeat(trials, *[1] * (value.ndim - 1))
                for name, value in batch.items()
                if name != "labels"
            }
            answers = loop.answers(stack.model(**inputs).logits, first.bench.task.kind).view(trials, -1).tolist()
            for values, given in zip(found, answers, strict=True):
                for row, answer in zip(rows, given, strict=True):
                    values[row] = answer
    return found


def _alike(slots: Sequence[Slot]) -> list[list[Slot]]:
    """Slots that are evaluated on the same rows, with the same batch sizes."""
    groups: dict[tuple[str, int, int], list[Slot]] = {}
    for slot in slots:
        key = (slot.bench.trial.task, slot.recipe.eval_batch_size, slot.recipe.select_rows)
        groups.setdefault(key, []).append(slot)
    return list(groups.values())
