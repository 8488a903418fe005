"""One trial becomes one run: the place where data, backbone, start, method, loop and measurement meet."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import torch

from harness import bench as stages
from harness import costs, forgetting, loop, measure, outcomes, prefix
from harness.api import Baseline
from harness.bench import Bench, Stage
from harness.devices import pick_device, set_matmul_precision
from harness.evaluation import Evaluator, references
from harness.records import Forgetting, ParameterCounts, RunRecord
from harness.settings import Settings
from harness.trial import Trial

ProgressCallback = Callable[[int, int], None]
"""Told (optimizer steps done, optimizer steps in all)."""


def run_trial(trial: Trial, settings: Settings, progress: ProgressCallback = lambda done, total: None) -> RunRecord:
    """Run one trial to its end, good or bad. Only KeyboardInterrupt passes through; all else becomes a status."""
    started = datetime.now(UTC)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output belongs to the commands, whatever plugins print
            record = _run(stages.prepare(trial, settings), progress)
    except Exception as error:  # a plugin may raise anything; the grid goes on, the run's row keeps the traceback
        record = outcomes.failed(trial, error)
    return outcomes.finished(record, started, settings)


def _run(bench: Bench, progress: ProgressCallback) -> RunRecord:
    if isinstance(bench.method, Baseline):
        return _run_baseline(bench, bench.method)
    device = pick_device(bench.settings.device)
    set_matmul_precision(bench.trial.recipe.precision, device)
    meter = costs.Meter()
    with measure.load_seconds(device) as load:
        stage = stages.load(bench, device)
    text = forgetting.held_out(bench.trial.recipe, stage.loaded.tokenizer, bench.settings)
    before = measure.perplexity_before(stage.model, text)
    started = stages.start(bench, stage)
    resident = measure.model_bytes(stage.model)
    with measure.MemoryGrowth(device) as memory:
        with measure.init_seconds(device) as initialisation:
            attachment, cached_seconds = stages.attach(bench, stage, started)
        meter.count(bench, stage)
        evaluator = Evaluator(
            bench.task, bench.splits, stage.loaded.tokenizer, bench.trial.recipe, bench.settings.cache_root
        )
        keep = outcomes.keeper(bench, attachment)
        trained, eval_seconds = _train(bench, stage, evaluator, Callbacks(progress, keep))
        after = measure.perplexity_after(stage.model, text)
    measured = dataclasses.replace(
        meter.costs(bench, stage, trained),
        load_seconds=load.seconds,
        init_seconds=initialisation.seconds + cached_seconds,
        eval_seconds=eval_seconds,
        start_seconds=started.seconds,
        peak_memory_bytes=measure.peak_memory_bytes(resident, memory.bytes),
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


def _train(bench: Bench, stage: Stage, evaluator: Evaluator, callbacks: Callbacks) -> tuple[loop.Progress, float]:
    """Train and evaluate after every epoch; what trains nothing is evaluated once, as epoch 0."""
    recipe = bench.trial.recipe
    total = recipe.epochs * -(-len(stage.encoded) // recipe.batch_size)
    seconds = 0.0

    def evaluate(epoch: int) -> None:
        nonlocal seconds
        with measure.eval_seconds(stage.device) as watch:
            evaluator.evaluate(stage.model, epoch)
        seconds += watch.seconds
        callbacks.keep(evaluator, epoch)

    if not any(parameter.requires_grad for parameter in stage.model.parameters()):
        evaluate(0)
        return loop.Progress(), seconds
    hooks = loop.Hooks(evaluate, lambda step: callbacks.progress(step, total))
    with prefix.cached(stage.model, stage.loaded.head, recipe.cache_prefix) as evaluator.cache:
        phase = stages.Phase("train", recipe, bench.method, evaluator.cache)
        return stages.train(bench, stage, phase, hooks), seconds


def _run_baseline(bench: Bench, method: Baseline) -> RunRecord:
    evaluator = Evaluator(bench.task, bench.splits, None, bench.trial.recipe)
    labels = type(bench.train["label"])(references(bench.task, bench.train))
    for split, frame in bench.splits.items():
        evaluator.record(split, 0, method.predict(labels, len(frame), bench.task.kind))
    record = outcomes.scored(bench, evaluator, costs.NO_MODEL)
    return dataclasses.replace(record, parameters=ParameterCounts(adapter=0, head=0, total=0))
