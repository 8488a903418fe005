"""What a trial of a pack costs alone: short measurements of it alone, the trials taking turns."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from harness import bench, data, loop, measure
from harness.api import GenerationTask
from harness.bench import Phase
from harness.pack.slots import Slot, positions
from harness.records import Costs
from harness.trial import Trial

ROUNDS = 3
"""Repetitions of each measurement; the trials of a pack take turns within each."""


@dataclass
class SoloTimes:
    """Seconds of single steps of one trial alone, by their token positions (rows x padded length)."""

    steps: dict[int, list[float]] = field(default_factory=dict)
    """Optimizer steps: seconds of each round."""
    evaluations: dict[int, float] = field(default_factory=dict)
    """Evaluated batches, once."""
    step_growth: int | None = None
    """Bytes that a step and an evaluation took beyond what the model with the trial's tensors held."""
    growth: int | None = None
    """Bytes beyond the backbone's that the trial took at most; see `measure.peak_memory_bytes`."""

    def train_seconds(self, positions: Sequence[int]) -> list[float]:
        """For each round, the seconds of training steps of so many token positions."""
        return [
            float(np.sum(_interpolated(positions, {size: seconds[number] for size, seconds in self.steps.items()})))
            for number in range(ROUNDS)
        ]

    def eval_seconds(self, sizes: Sequence[int]) -> float:
        """Seconds of evaluating batches of so many token positions."""
        return float(np.sum(_interpolated(sizes, self.evaluations)))


_CACHE: dict[str, SoloTimes] = {}
"""Times by what they depend on: the seeds and learning rates of one row are measured once per process."""


def measure_alone(slots: Sequence[Slot]) -> None:
    """Measure the trials whose like this process has not measured yet. Leaves every tensor and the RNG as they were."""
    fresh = {_key(slot.bench.trial): slot for slot in slots if _key(slot.bench.trial) not in _CACHE}
    runners = {key: _Alone(slot) for key, slot in fresh.items()}
    with torch.random.fork_rng():
        for number in range(ROUNDS):
            for runner in runners.values():
                runner.measure(warm_up=number == 0)
    _CACHE.update({key: runner.times for key, runner in runners.items()})


def is_measured(trial: Trial) -> bool:
    """Whether this process has measured a trial like this one."""
    return _key(trial) in _CACHE


def times_of(slot: Slot) -> SoloTimes:
    """What `measure_alone` found for a trial like this one."""
    return _CACHE[_key(slot.bench.trial)]


def costs_of(slot: Slot, load_seconds: float) -> Costs:
    """The finished trial's costs as if it had run alone; see `measure.train_seconds`."""
    times = times_of(slot)
    rounds = times.train_seconds(slot.positions)
    trained = dataclasses.replace(slot.progress, seconds=statistics.fmean(rounds))
    return dataclasses.replace(
        slot.facts.meter.costs(slot.bench, slot.stage, trained),
        load_seconds=load_seconds,
        init_seconds=slot.facts.init_seconds,
        eval_seconds=_eval_seconds(slot, times),
        start_seconds=slot.ground.started.seconds,
        peak_memory_bytes=measure.peak_memory_bytes(slot.ground.resident_bytes, times.growth),
        adapter_bytes=slot.facts.adapter_bytes,
        step_seconds_spread=measure.step_seconds_spread(rounds, slot.progress.steps),
        pack_trials=slot.company,
        pack_seconds=slot.wall_seconds,
        pack_share_seconds=measure.pack_share_seconds(slot.shares),
    )


def _eval_seconds(slot: Slot, times: SoloTimes) -> float:
    """Of epochs evaluated alone what they took; of those evaluated with others what batches of the trial alone take."""
    if not slot.joint_epochs:
        return slot.eval_seconds
    return slot.eval_seconds + times.eval_seconds(_eval_sizes(slot)) * slot.joint_epochs


class _Alone:
    """Steps and evaluations of one trial in its own modules, timed."""

    def __init__(self, slot: Slot) -> None:
        self.slot, self.times = slot, SoloTimes()
        recipe, stage = slot.recipe, slot.stage
        lengths = stage.encoded.lengths
        phase = Phase("train", recipe, slot.bench.method)
        batches = next(bench.row_order(slot.bench, stage, phase))
        make = bench.step_maker(slot.bench, stage, phase)
        sized = sorted(batches, key=lambda rows: (len(rows), max(lengths[row] for row in rows)))
        self.steps = [make(rows) for rows in (sized[len(sized) // 4], sized[-1])]
        self.evaluated = [] if isinstance(slot.bench.task, GenerationTask) else _eval_extremes(slot)
        groups = [{"params": [value], "lr": slot.rates[name]} for name, value in slot.parameters.items()]
        many = loop.LOSS_POINTS * len(self.steps) * ROUNDS * 10  # so that no loss is looked at
        self.trainer = loop.Trainer(
            stage.model,
            groups,
            list(slot.parameters.values()),
            recipe,
            many,
            loop.Progress(),
            loop.Hooks(lambda _: None),
        )

    def measure(self, warm_up: bool) -> None:
        """One round; before the first, a step and an evaluation that are not timed but tell the memory."""
        slot, device = self.slot, self.slot.stage.device
        slot.place()
        slot.stage.model.train()
        with _kept(slot):
            if warm_up:
                with measure.MemoryGrowth(device) as memory:
                    self.trainer.step(self.steps[-1])
                    self._evaluate(self.evaluated[-1:])
                self.times.step_growth, self.times.growth = memory.bytes, self._growth(memory.bytes)
            for step in self.steps:
                with measure.train_seconds(device) as watch:
                    self.trainer.step(step)
                self.times.steps.setdefault(positions(step), []).append(watch.seconds)
            for rows in self.evaluated if warm_up else ():
                with measure.eval_seconds(device) as watch:
                    self._evaluate([rows])
                self.times.evaluations[rows.positions] = watch.seconds

    def _growth(self, step: int | None) -> int | None:
        slot = self.slot
        if step is None:
            return None
        own = max(0, slot.facts.held_bytes - slot.ground.resident_bytes)
        return max(slot.facts.init_growth or 0, own + step)

    def _evaluate(self, chosen: Sequence[_EvalBatch]) -> None:
        model, task = self.slot.stage.model, self.slot.bench.task
        pad_id = self.slot.stage.loaded.tokenizer.pad_token_id
        for rows in chosen:
            batch = data.collate(rows.encoded, rows.indices, pad_id)
            loop.predict(model, [(range(len(rows.indices)), batch)], task.kind, self.slot.recipe.precision)


@dataclass(frozen=True)
class _EvalBatch:
    """A batch of an evaluated split."""

    encoded: data.Encoded
    indices: list[int]

    @property
    def positions(self) -> int:
        return len(self.indices) * max(self.encoded.lengths[index] for index in self.indices)


def _eval_batches(slot: Slot) -> list[_EvalBatch]:
    tokenizer, recipe = slot.stage.loaded.tokenizer, slot.recipe
    found = []
    for frame in slot.bench.splits.values():
        encoded = data.encode(slot.bench.task, frame, tokenizer, recipe.max_length)
        found += [_EvalBatch(encoded, rows) for rows in data.eval_batches(encoded.lengths, recipe.eval_batch_size)]
    return found


def _eval_extremes(slot: Slot) -> list[_EvalBatch]:
    by_size = sorted(_eval_batches(slot), key=lambda batch: batch.positions)
    return [by_size[0], by_size[-1]]


def _eval_sizes(slot: Slot) -> list[int]:
    return [batch.positions for batch in _eval_batches(slot)]


def _interpolated(sizes: Sequence[int], measured: dict[int, float]) -> np.ndarray:
    """Seconds at `sizes`: on straight lines between the measured sizes, in proportion beyond them."""
    known = sorted(measured)
    low, high = known[0], known[-1]
    inside = np.interp(sizes, known, [measured[size] for size in known])
    wanted = np.asarray(sizes, dtype=np.float64)
    return np.where(wanted > high, inside * wanted / high, np.where(wanted < low, inside * wanted / low, inside))


@contextlib.contextmanager
def _kept(slot: Slot) -> Iterator[None]:
    """The trial's tensors are put back afterwards."""
    before = [parameter.detach().clone() for parameter in slot.parameters.values()]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(slot.parameters.values(), before, strict=True):
                parameter.copy_(value)


def _key(trial: Trial) -> str:
    """What the times of a trial alone depend on: all but seed, rates and the number of rows and epochs."""
    recipe = dataclasses.replace(
        trial.recipe, learning_rate=0.0, head_learning_rate=0.0, weight_decay=0.0, warmup_ratio=0.0, epochs=0
    )
    return dataclasses.replace(trial, seed=0, train_size=0, recipe=recipe).canonical
