"""One trial inside a pack: its own tensors, data order, schedule, loss curve and scores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from harness import adapt, bench, costs, loop, measure
from harness.bench import Bench, Phase, Stage, Started
from harness.clocks import Began
from harness.errors import TrialFailure
from harness.evaluation import Evaluator
from harness.trial import Recipe


@dataclass(frozen=True)
class Ground:
    """What all trials of a pack stand on: a model at its start."""

    started: Started
    maps: Mapping[str, nn.Module]
    """All linear maps of the model below its head, as they are without any trial."""
    head: Mapping[str, nn.Module]
    """The head at the start; each trial has a copy of it, or one drawn afresh."""
    resident_bytes: int


@dataclass(frozen=True)
class Facts:
    """What was found out about a trial when it was attached, before it joined others."""

    meter: costs.Meter
    init_seconds: float
    adapter_bytes: int
    held_bytes: int
    """Of the model with all that was attached to it, as the trial holds it alone; see `adapt.Attachment.held`."""
    init_growth: int | None
    """Bytes by which memory grew while it was attached; None if it was not looked at, or cannot be known."""
    entry: Began
    """When it joined its pack."""


@dataclass
class Slot:
    """A trial in a pack."""

    bench: Bench
    stage: Stage
    """The pack's model, and this trial's training rows."""
    attachment: adapt.Attachment
    ground: Ground
    modules: dict[str, nn.Module]
    """The trial's own modules by their names in the model: adapted maps, and the head."""
    parameters: dict[str, nn.Parameter]
    """What the trial trains, by name in the model; tensors that learn at one rate are neighbours."""
    rates: dict[str, float]
    """Learning rate of each, before the schedule."""
    facts: Facts
    progress: loop.Progress = field(default_factory=loop.Progress)
    failure: TrialFailure | None = None
    eval_seconds: float = 0.0
    """Of its evaluations alone."""
    joint_epochs: int = 0
    """Epochs after which it was evaluated together with others."""
    wall_seconds: float = 0.0
    """From its entry to its end."""
    shares: list[tuple[float, int]] = field(default_factory=list)
    """Of each stretch of steps that it was part of: wall seconds, and the number of trials in it."""
    positions: list[int] = field(default_factory=list)
    """Token positions of each of its steps, padding among them."""

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.steps_per_epoch = -(-len(self.stage.encoded) // recipe.batch_size)
        self.total_steps = recipe.epochs * self.steps_per_epoch
        self.factor = loop.rate_schedule(recipe, self.total_steps)
        self.curve = loop.LossCurve(self.progress, self.total_steps)
        tokenizer, cache_root = self.stage.loaded.tokenizer, self.bench.settings.cache_root
        self.evaluator = Evaluator(self.bench.task, self.bench.splits, tokenizer, recipe, cache_root)
        scalars = sum(parameter.numel() for parameter in self.parameters.values())
        self.moments = torch.zeros(2, scalars, device=next(iter(self.parameters.values())).device)
        self._steps = _all_steps(self.bench, self.stage)
        self._next: list[loop.Batch] | None = None

    @property
    def recipe(self) -> Recipe:
        return self.bench.trial.recipe

    @property
    def maps(self) -> dict[str, adapt.AdaptedLinear]:
        """The adapted maps by name."""
        return {name: module for name, module in self.modules.items() if isinstance(module, adapt.AdaptedLinear)}

    @property
    def done(self) -> bool:
        return self.progress.steps == self.total_steps

    def place(self) -> None:
        """Make the pack's model this trial's own: forward, backward and evaluation are those of the trial alone."""
        adapt.place(self.stage.model, {**self.ground.maps, **self.modules})

    def next_step(self) -> list[loop.Batch]:
        """The micro-batches of the optimizer step to come: the same ones until `step_done`."""
        if self._next is None:
            self._next = next(self._steps)
        return self._next

    @property
    def company(self) -> int:
        """The most trials that it has shared a step with, itself included."""
        return max((trials for _, trials in self.shares), default=1)

    def step_done(self, loss: Tensor) -> None:
        """Count the step and keep its loss; a loss that is not finite becomes the trial's `failure`."""
        for batch in self.next_step():
            self.progress.count(batch)
        self.positions.append(positions(self.next_step()))
        self._next = None
        self.progress.steps += 1
        if self.failure is not None:
            return
        try:
            self.curve.add(loss)
            if self.epoch_ended:
                self.curve.flush()
        except TrialFailure as failure:
            self.failure = failure

    @property
    def epoch_ended(self) -> bool:
        return self.progress.steps % self.steps_per_epoch == 0

    @property
    def epoch(self) -> int:
        """Epochs that have ended."""
        return self.progress.steps // self.steps_per_epoch

    def flat(self) -> Tensor:
        """All trainable scalars in one row [scalars]."""
        return torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters.values()])

    def adopt(self, values: Tensor, moments: Tensor) -> None:
        """Let the parameters be views of `values` [scalars], and take over the optimizer's `moments` [2, scalars]."""
        start = 0
        for parameter in self.parameters.values():
            parameter.data = values[start : start + parameter.numel()].view(parameter.shape)
            start += parameter.numel()
        self.moments = moments


def _all_steps(prepared: Bench, stage: Stage) -> Iterator[list[loop.Batch]]:
    """A slot's steps in order; holds no slot, so that none holds itself and its model through the steps to come."""
    phase = Phase("train", prepared.trial.recipe, prepared.method)
    make = bench.step_maker(prepared, stage, phase)
    for batches in bench.row_order(prepared, stage, phase):
        yield from map(make, batches)


def positions(step: Sequence[loop.Batch]) -> int:
    """Token positions of a step, padding among them."""
    return sum(batch["input_ids"].numel() for batch in step)


def attach(prepared: Bench, stage: Stage, ground: Ground, entry: Began, watch_memory: bool) -> Slot | None:
    """Attach a trial to the pack's model, whose own maps and the trial's head are in place, and take it off as a slot.

    None if something outside its maps and the head is trained: then the trial must run alone.
    """
    model, head = stage.model, stage.loaded.head
    memory = measure.MemoryGrowth(stage.device)
    with memory if watch_memory else contextlib.nullcontext(), measure.init_seconds(stage.device) as watch:
        attachment, cached_seconds = bench.attach(prepared, stage, ground.started)
    try:
        modules: dict[str, nn.Module] = {name: attachment.adapted(name) for name in attachment.originals}
        modules |= {name: model.get_submodule(name) for name in head}
        groups = loop.optimizer_groups(model, prepared.method.parameter_groups(), head, prepared.trial.recipe)
        names = {id(value): name for name, value in model.named_parameters() if value.requires_grad}
        parameters = {names[id(value)]: value for group in groups for value in group["params"]}
        if not all(any(name.startswith(f"{module}.") for module in modules) for name in parameters):
            return None
        meter = costs.Meter()
        meter.count(prepared, stage)
        stored = measure.adapter_bytes(attachment.stored_tensors())
        held = measure.tensor_bytes(attachment.held())
        facts = Facts(meter, watch.seconds + cached_seconds, stored, held, memory.bytes, entry)
    finally:
        attachment.detach()
    rates = {names[id(value)]: group["lr"] for group in groups for value in group["params"]}
    return Slot(prepared, stage, attachment, ground, modules, parameters, rates, facts)


def share_frozen(slot: Slot, others: Iterable[Slot]) -> None:
    """Let `slot` use the backbone's frozen tensors, and those of another with its method, where they equal its own."""
    like = next((other for other in others if other.bench.method == slot.bench.method), None)
    theirs = like.maps if like is not None else {}
    for name, adapted in slot.maps.items():
        original = slot.attachment.originals[name]
        if adapted.base.bias is not None and not adapted.base.bias.requires_grad:
            adapted.base.bias = original.bias
        if name not in theirs:
            continue
        if _equal(adapted.base.weight, theirs[name].base.weight):
            adapted.base.weight = theirs[name].base.weight
        for key, value in theirs[name].adapter.named_buffers():
            if key in adapted.adapter._buffers and _equal(adapted.adapter.get_buffer(key), value):
                adapted.adapter.register_buffer(key, value)


def _equal(first: Tensor, second: Tensor) -> bool:
    same = first.data_ptr() == second.data_ptr() and first.stride() == second.stride()
    return first.shape == second.shape and (same or torch.equal(first, second))
