"""A pack of trials becomes runs."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import hashlib
import itertools
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from harness import activations, adapt, backbones, bench, forgetting, measure, outcomes, packing
from harness.api import Baseline
from harness.clocks import Began
from harness.devices import pick_device, set_matmul_precision
from harness.errors import DeviceLost
from harness.executors import Listener
from harness.pack import slots, solo, width
from harness.pack.slots import Slot
from harness.pack.trainer import Hooks, PackTrainer
from harness.pack.verify import check_pack_against_alone
from harness.records import Forgetting, RunRecord
from harness.runner import run_trial
from harness.settings import Settings
from harness.start_training import start
from harness.torch_errors import device_lost
from harness.trial import Trial


def run_trials(trials: Sequence[Trial], settings: Settings, listener: Listener) -> None:
    """Run trials that may share a model to their ends, good or bad; only KeyboardInterrupt and DeviceLost pass through.

    What cannot be trained together is trained alone: a lone trial, all of them where packing does not pay, and those
    left over when something goes wrong that concerns the pack and not one trial.
    """
    _spare_the_collector()
    left = list(trials)
    if len(trials) > 1:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        with contextlib.redirect_stdout(sys.stderr):
            left = (
                _verified(trials, settings, listener)
                if settings.pack == "verify"
                else _packed(trials, settings, listener)
            )
    for trial in left:
        listener.started(trial)
        listener.finished(run_trial(trial, settings, partial(listener.progress, trial)))


_calls = itertools.count()


def _spare_the_collector() -> None:
    """From the second pack on libraries and plugins are loaded: collections before measurements need not walk them."""
    if next(_calls) == 1:
        gc.collect()
        gc.freeze()


def _packed(trials: Sequence[Trial], settings: Settings, listener: Listener) -> list[Trial]:
    """Train what can be trained together; returns the others."""
    return _Host(trials, settings, listener).run()


def _verified(trials: Sequence[Trial], settings: Settings, listener: Listener) -> list[Trial]:
    """As `_packed`, after a comparison with trials alone; if that fails, nothing is trained together."""
    try:
        check = check_pack_against_alone(trials, settings, _packed, run_trial)
    except DeviceLost:
        raise DeviceLost from None  # its record is of a trial that was changed for the comparison
    print(f"pack of {len(trials)}: {check}", file=sys.stderr)
    if not check.passed:
        print("a pack differs from its trials alone: they run alone; please report it", file=sys.stderr)
        return list(trials)
    return _Host(trials, settings, listener, {"pack_check": dataclasses.asdict(check)}).run()


@dataclass
class _Host:
    """The loaded model of a pack, and the trials that it serves."""

    trials: Sequence[Trial]
    settings: Settings
    listener: Listener
    facts: dict[str, Any] = field(default_factory=dict)
    """For every record's provenance."""
    _ended: set[str] = field(default_factory=set)
    _active: list[Slot] = field(default_factory=list)
    _checkpointing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """Holds what `_choose_checkpointing` turned on."""
    _chosen: bool = False

    def run(self) -> list[Trial]:
        """Train the trials together; returns those that are still to be run alone."""
        try:
            self._load()
            limit = self._width()
            if limit > 1:
                self._train(limit)
        except (Exception, SystemExit) as error:
            _check_device(error)
            print(f"a pack of {len(self.trials)} trials goes on one by one: {error!r}", file=sys.stderr)
        finally:
            self._active.clear()
        return [trial for trial in self.trials if trial.id not in self._ended]

    def _load(self) -> None:
        first = bench.prepare(self.trials[0], self.settings)
        device = pick_device(self.settings.device)
        set_matmul_precision(first.trial.recipe.precision, device)
        with measure.load_seconds(device) as load:
            self._stage = bench.load(first, device)
        self._load_seconds = load.seconds
        self._text = forgetting.held_out(first.trial.recipe, self._stage.loaded.tokenizer, self.settings)
        self._perplexity = measure.perplexity_before(self._stage.model, self._text)
        model, head = self._stage.model, self._stage.loaded.head
        started = start(first, self._stage)
        maps: dict[str, nn.Module] = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and name.split(".")[0] not in head
        }
        heads = {name: copy.deepcopy(model.get_submodule(name)) for name in head}
        self._ground = slots.Ground(started, maps, heads, measure.model_bytes(model))

    def _width(self) -> int:
        if self.settings.pack.isdecimal():
            return int(self.settings.pack)
        paying = width.paying_width(self._stage, self.trials[0].recipe)
        return max(2, paying) if self.settings.pack == "verify" else paying

    def _train(self, limit: int) -> None:
        model = self._stage.model
        hooks = Hooks(self._joined, self._stepped, self._evaluated, self._left)
        trainer = PackTrainer(self._entrants(), limit, hooks, self._active)
        plain = packing.without_cache(model)
        apart = warnings.catch_warnings()
        with apart, torch.random.fork_rng(), plain, self._checkpointing:
            # gradients of a block lie in one matrix, in strides that autograd accepts but remarks on
            warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")
            torch.manual_seed(_seed(self.trials))
            trainer.run()

    def _entrants(self) -> Iterator[Slot]:
        """The trials in turn, attached; one that cannot be attached ends here, one that cannot be packed is left."""
        for trial in self.trials:
            began = Began()
            self.listener.started(trial)
            try:
                slot = self._enter(trial, began)
            except (Exception, SystemExit) as error:  # a plugin may raise anything; the others go on
                _check_device(error)
                self._finish(outcomes.failed(trial, error), began)
                continue
            if slot is not None:
                yield slot

    def _enter(self, trial: Trial, began: Began) -> Slot | None:
        prepared = bench.prepare(trial, self.settings)
        if isinstance(prepared.method, Baseline):
            return None
        stage = bench.beside(prepared, self._stage.loaded, self._stage.device)
        heads = {name: copy.deepcopy(head) for name, head in self._ground.head.items()}
        adapt.place(stage.model, {**self._ground.maps, **heads})
        if trial.start.kind == "pretrained":
            backbones.draw_head(stage.loaded, prepared.task, trial.seed)
        with activations.checkpointing(stage.model, False):  # it would count in the FLOPs; the method asks for its own
            slot = slots.attach(prepared, stage, self._ground, began, watch_memory=not solo.is_measured(trial))
        if slot is not None:
            slots.share_frozen(slot, self._active)
        return slot

    def _joined(self, active: list[Slot]) -> int:
        """Before trials share steps for the first time: measure them alone; returns how many fit together."""
        if not self._chosen:
            self._choose_checkpointing(active[0])
        solo.measure_alone(active)
        return width.fitting(active)

    def _choose_checkpointing(self, slot: Slot) -> None:
        """Once for all of the pack, whose steps have one shape: as the first trial, now attached, would have it."""
        slot.place()
        chosen = bench.checkpoints(slot.bench, slot.stage)
        self._checkpointing.enter_context(activations.checkpointing(slot.stage.model, chosen))
        self.facts |= bench.checkpointing_facts(slot.bench, chosen)
        self._chosen = True

    def _stepped(self, slot: Slot) -> None:
        self.listener.progress(slot.bench.trial, slot.progress.steps, slot.total_steps)

    def _evaluated(self, slot: Slot) -> None:
        if self.settings.keep_adapters and slot.failure is None:
            slot.place()
            outcomes.keeper(slot.bench, slot.attachment)(slot.evaluator, slot.epoch)

    def _left(self, slot: Slot) -> None:
        slot.wall_seconds = slot.facts.entry.seconds
        self._finish(self._record(slot), slot.facts.entry)

    def _record(self, slot: Slot) -> RunRecord:
        if slot.failure is not None:
            return outcomes.failed(slot.bench.trial, slot.failure)
        slot.place()
        costs = solo.costs_of(slot, self._load_seconds)
        record = outcomes.sound(slot.bench, slot.stage, slot.ground.started, slot.evaluator, costs, slot.progress)
        after = measure.perplexity_after(slot.stage.model, self._text)
        facts = {**record.provenance, **self.facts}
        return dataclasses.replace(record, forgetting=Forgetting(self._perplexity, after), provenance=facts)

    def _finish(self, record: RunRecord, began: Began) -> None:
        self._ended.add(record.trial.id)
        self.listener.finished(outcomes.finished(record, began, self.settings))


def _check_device(error: BaseException) -> None:
    """Raise DeviceLost if the error has cost this process its device. Nobody can tell then which trial's fault it was:
    an error on a device is noticed when it is next asked for something, by whichever trial does."""
    if device_lost(error):
        raise DeviceLost from error


def _seed(trials: Sequence[Trial]) -> int:
    """Seed of the pack's dropout: the same for the same trials in the same order."""
    text = "/".join(trial.id for trial in trials)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
