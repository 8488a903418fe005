"""Small trials for the tests of packs, run together and alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.api import parameters_of
from harness.backbones import resolve
from harness.pack.run import run_trials
from harness.plugins import discover, make_method
from harness.records import RunRecord
from harness.runner import run_trial
from harness.settings import Settings
from harness.trial import Recipe, Trial

LINEAR = ("lora", "rslora", "lora_plus", "dora", "pissa", "olora", "svd_lora", "lora_xs", "lora_sb", "qr_lora", "vera")
QUIET = Recipe(epochs=2, batch_size=8, learning_rate=5e-3, head_learning_rate=1e-2, max_length=16, backbone_dropout=0.0)


@dataclass
class Heard:
    """Keeps what a listener is told."""

    begun: list[Trial] = field(default_factory=list)
    records: dict[str, RunRecord] = field(default_factory=dict)

    def started(self, trial: Trial) -> None:
        self.begun.append(trial)

    def progress(self, trial: Trial, done: int, total: int) -> None:
        assert 0 < done <= total

    def finished(self, record: RunRecord) -> None:
        assert record.trial.id not in self.records
        self.records[record.trial.id] = record


def make_trial(settings: Settings, method: str = "lora", task: str = "parity", **changes: Any) -> Trial:
    """A trial without dropout; `parameters`, and the recipe's and the trial's fields, may be changed by name."""
    plugins = discover(settings.plugin_files)
    backbone = {"parity": "tiny", "arithmetic": "starter-decoder"}.get(task, "starter-encoder")
    names = {item.name for item in dataclasses.fields(Recipe)}
    recipe = {name: changes.pop(name) for name in list(changes) if name in names}
    parameters = changes.pop("parameters", {})
    if task == "parity" and method in ("lora", "lora_xs", "lora_sb", "pissa", "olora", "rslora", "dora", "lora_plus"):
        parameters = {"r": 2, **parameters}
    trial = Trial(
        backbone=resolve(backbone, settings),
        task=task,
        task_version=plugins.tasks[task].version,
        method=method,
        parameters=parameters_of(make_method(plugins.methods[method], parameters)),
        recipe=dataclasses.replace(QUIET, **recipe),
        seed=0,
    )
    return dataclasses.replace(trial, **changes)


def together(trials: Sequence[Trial], settings: Settings, width: int = 64) -> dict[str, RunRecord]:
    """The records of trials run as one pack, by trial id."""
    heard = Heard()
    run_trials(trials, dataclasses.replace(settings, pack=str(width)), heard)
    return heard.records


def assert_as_alone(record: RunRecord, settings: Settings, tolerance: float = 1e-5) -> None:
    """The packed run's losses and last predictions are those of the same trial alone."""
    alone = run_trial(record.trial, settings)
    assert (record.status, alone.status) == ("ok", "ok"), record.traceback
    assert [step for step, _ in record.losses] == [step for step, _ in alone.losses]
    assert abs(record.losses[0][1] / alone.losses[0][1] - 1) < tolerance
    for mine, theirs in zip(record.losses, alone.losses, strict=True):
        assert abs(mine[1] / theirs[1] - 1) < 1e-3
    assert [(p.split, p.epoch, p.ids, p.labels) for p in record.predictions] == [
        (p.split, p.epoch, p.ids, p.labels) for p in alone.predictions
    ]
    for packed, lone in zip(record.predictions, alone.predictions, strict=True):
        assert all(_same(*pair) for pair in zip(packed.values, lone.values, strict=True))
    assert record.parameters == alone.parameters
    assert record.costs.train_flops == alone.costs.train_flops


def _same(first: Any, second: Any) -> bool:
    return abs(first - second) < 1e-3 * max(1.0, abs(second)) if isinstance(second, float) else first == second
