"""One trial becomes one run: the place where data, backbone, start, method, loop and measurement meet."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from harness import bench as stages
from harness import costs, forgetting, loop, measure, outcomes, prefix
from harness.api import Baseline
from harness.bench import Bench, Stage
from harness.checkpoints import training_checkpoints
from harness.clocks import Began
from harness.devices import set_matmul_precision
from harness.errors import DeviceLost
from harness.evaluation import Evaluator, references
from harness.executors import available_cores
from harness.placement import ALONE, Placement
from harness.provenance import provenance
from harness.records import Forgetting, ParameterCounts, RunRecord
from harness.retrying import AGAIN, may_pass
from harness.settings import Settings
from harness.sharding.checks import check_devices, check_sharded
from harness.sharding.launch import Place, together
from harness.start_training import start
from harness.torch_errors import device_lost, out_of_memory
from harness.trial import Trial

ProgressCallback = Callable[[int, int], None]
"""Told (optimizer steps done, optimizer steps in all)."""


def run_trial(trial: Trial, settings: Settings, progress: ProgressCallback = lambda done, total: None) -> RunRecord:
    """Run one trial to its end, good or bad. Only KeyboardInterrupt passes through; all else becomes a status.

    Where memory does not suffice, its steps are computed in smaller micro-batches; what is the machine's fault is
    tried again after a while. Raises DeviceLost, with the record, after an error that takes the device from this
    process.
    """
    began = Began()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    attempt, lost = _Attempt(trial), False
    with contextlib.redirect_stdout(sys.stderr):  # standard output belongs to the commands, whatever plugins print
        while True:
            try:
                record = _run(stages.prepare(trial, settings, attempt.parts), progress)
            except (Exception, SystemExit) as error:  # a plugin may raise anything; the run's row keeps the traceback
                if attempt.again_after(error):
                    continue
                record = outcomes.failed(trial, error)
                lost = device_lost(error)
            record = dataclasses.replace(record, provenance={**record.provenance, **attempt.facts()})
            record = outcomes.finished(record, began, settings)
            if lost:
                raise DeviceLost(record)
            return record


@dataclass
class _Attempt:
    """How a trial is tried: after a fault that may be got over, once more."""

    trial: Trial
    parts: int = 0
    """Micro-batches of a step at least."""
    too_large: list[int] = field(default_factory=list)
    """Micro-batches that did not fit into memory, by how many a step had."""
    waits: list[float] = field(default_factory=lambda: list(AGAIN))

    def again_after(self, error: BaseException) -> bool:
        """Whether to try once more; gets ready for it, which may take a while."""
        recipe = self.trial.recipe
        if out_of_memory(error):
            parts = max(self.parts, recipe.accumulation)
            self.too_large.append(parts)
            if parts >= recipe.batch_size:
                return False
            self.parts = min(2 * parts, recipe.batch_size)
            self._say(f"out of memory with {parts} micro-batches in a step; next {self.parts}")
            error.__traceback__ = None  # its frames hold the model
            gc.collect()
            torch.cuda.empty_cache()
            return True
        if may_pass(error) and self.waits:
            self._say(f"{error}; next try in {self.waits[0]:g} s")
            time.sleep(self.waits.pop(0))
            return True
        return False

    def facts(self) -> dict[str, object]:
        """What was got over, for the run's provenance."""
        if not self.too_large:
            return {}
        return {"micro_batches": max(self.parts, self.too_large[-1]), "out_of_memory_with": self.too_large}

    def _say(self, text: str) -> None:
        print(f"{self.trial.task} {self.trial.method} seed {self.trial.seed}: {text}", file=sys.stderr)


def _run(bench: Bench, progress: ProgressCallback) -> RunRecord:
    if isinstance(bench.method, Baseline):
        return _run_baseline(bench, bench.method)
    shards, settings = bench.trial.recipe.shards, bench.settings
    if shards == 1:
        return run_placed(bench, progress)
    check_sharded(bench.trial, bench.method, settings)
    check_devices(shards, settings)
    threads = max(1, (settings.threads or available_cores()) // shards)
    order = (bench.trial, dataclasses.replace(settings, threads=threads), bench.least_parts)
    record: RunRecord = together(run_shard, order, shards, threads, progress)
    return record


def run_shard(order: tuple[Trial, Settings, int], place: Place, say: ProgressCallback) -> RunRecord:
    """What each of the processes does that share a trial's model; the record of the first is the trial's.

    order: the trial, its settings, and the micro-batches of a step at least.
    """
    from harness.sharding.model import Sharded

    trial, settings, parts = order
    torch.set_num_threads(place.threads)
    placement = Sharded(place, settings)
    progress = say if placement.leads else _silent
    record = run_placed(stages.prepare(trial, settings, parts), progress, placement)
    placement.close()
    facts = provenance(settings)
    shared = {**facts, "stack": {**facts["stack"], "processes": place.ranks}}
    return dataclasses.replace(record, provenance={**shared, **record.provenance})


def _silent(done: int, total: int) -> None:
    """Of several processes one is heard."""


def run_placed(bench: Bench, progress: ProgressCallback, placement: Placement = ALONE) -> RunRecord:
    """Run a prepared trial that has a model, where `placement` says; raises whatever goes wrong."""
    device = placement.device(bench.settings)
    set_matmul_precision(bench.trial.recipe.precision, device)
    meter = costs.Meter()
    placement.take_turn()
    with measure.load_seconds(device) as load:
        stage = stages.load(bench, placement.loads_on(device))
    text = forgetting.held_out(bench.trial.recipe, stage.loaded.tokenizer, bench.settings)
    before = measure.perplexity_before(stage.model, text)
    started = start(bench, stage)
    resident = measure.model_bytes(stage.model, device)
    with measure.MemoryGrowth(device) as memory:
        with measure.init_seconds(device) as initialisation:
            attachment, cached_seconds = stages.attach(bench, stage, started)
        with measure.load_seconds(device) as placing:
            stage = placement.placed(stage, attachment, device)
        meter.count(bench, stage)
        recipe = bench.trial.recipe
        recipe = dataclasses.replace(recipe, eval_batch_size=bench.shrunk(recipe.eval_batch_size))
        evaluator = Evaluator(bench.task, bench.splits, stage.loaded.tokenizer, recipe, bench.settings.cache_root)
        keep = outcomes.keeper(bench, attachment, placement)
        trained = _train(bench, stage, evaluator, Callbacks(progress, keep), placement)
        after = measure.perplexity_after(stage.model, text)
    measured = dataclasses.replace(
        meter.costs(bench, stage, trained),
        load_seconds=load.seconds + placing.seconds,
        init_seconds=initialisation.seconds + cached_seconds,
        eval_seconds=evaluator.seconds,
        start_seconds=started.seconds,
        peak_memory_bytes=placement.largest(measure.peak_memory_bytes(resident, memory.bytes)),
        adapter_bytes=measure.adapter_bytes(attachment.stored_tensors()),
    )
    record = outcomes.sound(bench, stage, started, evaluator, measured, trained)
    return dataclasses.replace(record, forgetting=Forgetting(before, after))


@dataclass(frozen=True)
class Callbacks:
    """Who hears of training while it goes on."""

    progress: ProgressCallback
    keep: Callable[[Evaluator, int], None]
    """Told the evaluator and the epoch after each evaluation."""


def _train(
    bench: Bench, stage: Stage, evaluator: Evaluator, callbacks: Callbacks, placement: Placement
) -> loop.Progress:
    """Train and evaluate after every epoch; what trains nothing is evaluated once, as epoch 0."""
    recipe = bench.trial.recipe
    total = recipe.epochs * -(-len(stage.encoded) // recipe.batch_size)
    answering = placement.answering(stage.model, bench.task.kind)

    def evaluate(epoch: int) -> None:
        with measure.eval_seconds(stage.device) as watch:
            evaluator.evaluate(answering, epoch)
        evaluator.seconds += watch.seconds
        callbacks.keep(evaluator, epoch)

    if not any(parameter.requires_grad for parameter in stage.model.parameters()):
        evaluate(0)
        return loop.Progress()
    hooks = loop.Hooks(evaluate, lambda step: callbacks.progress(step, total))
    with prefix.cached(stage.model, stage.loaded.head, recipe.cache_prefix) as evaluator.cache:
        saved = training_checkpoints(bench.trial.id, bench, evaluator)
        phase = stages.Phase("train", recipe, bench.method, evaluator.cache, saved, placement)
        return stages.train(bench, stage, phase, hooks)


def _run_baseline(bench: Bench, method: Baseline) -> RunRecord:
    evaluator = Evaluator(bench.task, bench.splits, None, bench.trial.recipe)
    labels = type(bench.train["label"])(references(bench.task, bench.train))
    for split, frame in bench.splits.items():
        evaluator.record(split, 0, method.predict(labels, len(frame), bench.task.kind))
    record = outcomes.scored(bench, evaluator, costs.NO_MODEL)
    return dataclasses.replace(record, parameters=ParameterCounts(adapter=0, head=0, total=0))
