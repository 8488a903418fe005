"""A run's trained model once more: from tensors that were kept, else by training its trial again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness import adapt, backbones, loop
from harness import bench as stages
from harness.api import Baseline
from harness.bench import Bench, Stage
from harness.devices import pick_device
from harness.errors import UserError
from harness.evaluation import Evaluator, selected_epoch
from harness.kept import KeptTensors
from harness.records import SELECT, Predictions, RunRecord
from harness.settings import Settings
from harness.start_training import start
from harness.store import RunDetails, Store
from harness.trial import Trial

Factors = dict[str, tuple[Tensor, Tensor]]
"""B [m, k] and A [k, n] of each adapted map by module name."""


@dataclass(frozen=True)
class Wanted:
    """Which state of which run."""

    run_id: str
    record: RunRecord
    epoch: int
    predictions: Sequence[Predictions]
    """The run's test predictions after that epoch: what the model made again is held against."""

    @property
    def trial(self) -> Trial:
        return self.record.trial


@dataclass
class Trained:
    """The model as it was after the wanted epoch, its method still attached."""

    wanted: Wanted
    bench: Bench
    stage: Stage
    attachment: adapt.Attachment
    initial: Factors
    """Low-rank factors before training, of methods that take them out of the frozen weight; else empty."""
    agreement: float = 0.0
    """Share of the run's stored test predictions that this model gives again, 0 to 1."""
    kept: bool = False
    """Whether the tensors are those that the run kept, and not trained again."""


def stored_state(store: Store, details: RunDetails, which: Literal["selected", "last"]) -> Wanted:
    """The state of a stored run after its selected or last epoch; UserError for a run that did not end well."""
    record = details.record
    if record.status != "ok":
        raise UserError(f"run {details.id} ended as {record.status}: it has no trained model.")
    tasks = {(info.name, info.version): info for info in store.tasks()}
    primary = tasks[record.trial.task, record.trial.task_version].metrics[0]
    last = max(score.epoch for score in record.scores)
    number = last if which == "last" else selected_epoch(record.scores, primary)
    splits = dict.fromkeys(score.split for score in record.scores if score.split != SELECT)
    return Wanted(details.id, record, number, [store.predictions(details.id, split, number) for split in splits])


def rebuild(wanted: Wanted, settings: Settings) -> Trained:
    """The trained model of a run. UserError if backbone, task or rows are not those of the run any more."""
    trial = wanted.trial
    prepared = stages.prepare(trial, settings)
    _check_same(prepared, wanted)
    kept = KeptTensors(settings.cache_root, trial.id).load(wanted.epoch)
    if kept is not None:
        trained = _attached(prepared, wanted)
        _put(trained, kept)
        trained.kept, trained.agreement = True, _agreement(trained)
        if trained.agreement == 1.0 or trial.recipe.shards > 1:
            return trained
    _check_alone(wanted)
    trained = _attached(prepared, wanted)
    if any(parameter.requires_grad for parameter in trained.stage.model.parameters()):
        _put(trained, _train(trained))
    trained.agreement = _agreement(trained)
    return trained


def _check_same(prepared: Bench, wanted: Wanted) -> None:
    trial, run = wanted.trial, wanted.run_id
    if isinstance(prepared.method, Baseline):
        raise UserError(f"run {run} is of '{trial.method}', which has no model: there is nothing to export.")
    if prepared.task.version != trial.task_version:
        now = f"version {prepared.task.version} now; the run had {trial.task_version}"
        raise UserError(f"task '{trial.task}' is {now}: run it again, and export that run.")
    stored = wanted.record.provenance.get("data_sha256")
    if stored not in (None, prepared.data_sha256):
        raise UserError(f"the rows of task '{trial.task}' are not those of run {run}; check --data-root.")
    found = backbones.resolve(trial.backbone.name, prepared.settings, trial.backbone.revision)
    if found != trial.backbone:
        revisions = f"{found.revision}; run {run} had {trial.backbone.revision}"
        raise UserError(f"backbone '{trial.backbone.name}' is at {revisions}. Check --models-root.")


def _check_alone(wanted: Wanted) -> None:
    """Raise UserError for a training in several processes, which is not made again in this one."""
    shards = wanted.trial.recipe.shards
    if shards > 1:
        raise UserError(
            f"run {wanted.run_id} was trained in {shards} processes, and its tensors are not in the cache; "
            "run its trial with --keep-adapters (into another --db), and export that run."
        )


def _attached(prepared: Bench, wanted: Wanted) -> Trained:
    stage = stages.load(prepared, pick_device(prepared.settings.device))
    started = start(prepared, stage)
    attachment, _ = stages.attach_anew(prepared, stage, started)
    taken_out = attachment.taken_out()  # before a transferred adapter takes the place of the initial one
    stages.carry_adapter(stage, started)
    return Trained(wanted, prepared, stage, attachment, taken_out)


def _train(trained: Trained) -> dict[str, Tensor]:
    """The stored tensors after the wanted epoch of the whole training (its schedule needs the whole length)."""
    snapshot: dict[str, Tensor] = {}

    def after_epoch(epoch: int) -> None:
        if epoch == trained.wanted.epoch:
            stored = trained.attachment.stored_tensors()
            snapshot.update({name: value.detach().cpu().clone() for name, value in stored.items()})

    recipe = trained.wanted.trial.recipe
    phase = stages.Phase("train", recipe, trained.bench.method)
    stages.train(trained.bench, trained.stage, phase, loop.Hooks(after_epoch))
    return snapshot


def _put(trained: Trained, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors into the attached model."""
    places = dict(trained.stage.model.named_parameters()) | dict(trained.stage.model.named_buffers())
    with torch.no_grad():
        for name, value in tensors.items():
            places[name].copy_(value)


def _agreement(trained: Trained) -> float:
    splits = {item.split: trained.bench.splits[item.split] for item in trained.wanted.predictions}
    evaluator = Evaluator(trained.bench.task, splits, trained.stage.loaded.tokenizer, trained.wanted.trial.recipe)
    evaluator.evaluate(trained.stage.model, trained.wanted.epoch)
    now = {item.split: item.values for item in evaluator.predictions}
    pairs = [pair for item in trained.wanted.predictions for pair in zip(item.values, now[item.split], strict=True)]
    return sum(1 for before, after in pairs if before == after) / max(1, len(pairs))
