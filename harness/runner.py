"""One trial becomes one run: the place where data, backbone, start, method, loop and measurement meet."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from harness import adapt, costs, loop, measure, prefix
from harness import bench as stages
from harness.api import Baseline
from harness.bench import Bench, Stage
from harness.devices import pick_device, set_matmul_precision
from harness.errors import TrialFailure, UserError
from harness.evaluation import Evaluator, references
from harness.kept import KeptTensors
from harness.provenance import provenance
from harness.records import Costs, ParameterCounts, RunRecord, Status
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
    except TrialFailure as error:
        record = _failure(trial, error.status, error)
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:
        record = _failure(trial, "oom", error)
    except Exception as error:  # a plugin may raise anything; the grid goes on, the run's row keeps the traceback
        record = _failure(trial, "failed", error)
    facts = {**provenance(settings), **record.provenance}
    return dataclasses.replace(record, started_at=started, finished_at=datetime.now(UTC), provenance=facts)


def _failure(trial: Trial, status: Status, error: Exception) -> RunRecord:
    message = str(error).split("\n")[0]
    known = isinstance(error, TrialFailure | UserError)
    return RunRecord(
        trial,
        status,
        datetime.now(UTC),
        datetime.now(UTC),
        reason=message if known else f"{type(error).__name__}: {message}",
        traceback="".join(traceback.format_exception(error)),
    )


def _run(bench: Bench, progress: ProgressCallback) -> RunRecord:
    if isinstance(bench.method, Baseline):
        return _run_baseline(bench, bench.method)
    device = pick_device(bench.settings.device)
    set_matmul_precision(bench.trial.recipe.precision, device)
    meter = costs.Meter()
    with measure.peak_memory_bytes(device) as memory:
        with measure.load_seconds(device) as load:
            stage = stages.load(bench, device)
        started = stages.start(bench, stage)
        with measure.init_seconds(device) as initialisation:
            attachment, cached_seconds = stages.attach(bench, stage, started)
        meter.count(bench, stage)
        evaluator = Evaluator(
            bench.task, bench.splits, stage.loaded.tokenizer, bench.trial.recipe, bench.settings.cache_root
        )
        keep = _keeper(bench, attachment)
        trained, eval_seconds = _train(bench, stage, evaluator, Callbacks(progress, keep))
    measured = dataclasses.replace(
        meter.costs(bench, stage, trained),
        load_seconds=load.seconds,
        init_seconds=initialisation.seconds + cached_seconds,
        eval_seconds=eval_seconds,
        start_seconds=started.seconds,
        peak_memory_bytes=memory.bytes,
        adapter_bytes=measure.adapter_bytes(attachment.stored_tensors()),
    )
    record = _record(bench, evaluator, measured)
    return dataclasses.replace(
        record,
        parameters=measure.count_parameters(stage.model, stage.loaded.output),
        losses=trained.losses,
        provenance={
            **record.provenance,
            **_start_facts(started),
            **_training_facts(bench, stage),
            **trained.facts,
            "backbone_sha256": stage.loaded.sha256,
        },
    )


def _start_facts(started: stages.Started) -> dict[str, Any]:
    """Whether a start on other rows brought its head along, for the run's provenance."""
    if started.head_carried is None:
        return {}
    return {"start_head": "carried over" if started.head_carried else "drawn afresh: the shapes differ"}


def _training_facts(bench: Bench, stage: Stage) -> dict[str, Any]:
    """Rows that were left out as too long, if any were, and how steps were computed where that is not the usual."""
    count, chosen = len(bench.train) - len(stage.encoded), stages.checkpoints(bench, stage)
    facts: dict[str, Any] = {"dropped_rows": count} if count else {}
    if chosen != bench.trial.recipe.gradient_checkpointing:
        facts["gradient_checkpointing"] = "chosen by memory"
    if not bench.settings.split_batches:
        facts["whole_batches"] = True
    return facts


@dataclass(frozen=True)
class Callbacks:
    """Who hears of training while it goes on."""

    progress: ProgressCallback
    keep: Callable[[Evaluator, int], None]
    """Told the evaluator and the epoch after each evaluation."""


def _keeper(bench: Bench, attachment: adapt.Attachment) -> Callable[[Evaluator, int], None]:
    """Keeps the trained tensors of the last and the selected epoch, if the settings say so."""
    kept = KeptTensors(bench.settings.cache_root, bench.trial.id)

    def keep(evaluator: Evaluator, epoch: int) -> None:
        if bench.settings.keep_adapters:
            kept.save(epoch, attachment.stored_tensors())
            kept.drop_all_but(evaluator.kept_epochs())

    return keep


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
    record = _record(bench, evaluator, costs.NO_MODEL)
    return dataclasses.replace(record, parameters=ParameterCounts(adapter=0, head=0, total=0))


def _record(bench: Bench, evaluator: Evaluator, measured: Costs) -> RunRecord:
    now = datetime.now(UTC)
    return RunRecord(
        bench.trial,
        "ok",
        now,
        now,
        costs=measured,
        scores=evaluator.scores,
        predictions=evaluator.kept_predictions(),
        provenance={"data_sha256": bench.data_sha256},
    )
