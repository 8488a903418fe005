"""Which trials share a model. Knows no torch: the process that drives groups them, workers train them."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.api import Method, Task, settings_of
from harness.errors import UserError
from harness.plugins import Plugins
from harness.trial import Recipe, Trial

Pack = tuple[Trial, ...]
"""Trials that a process is given together; of more than one, those that fit share steps, the others wait."""

MOST_TOGETHER = 32
"""Trials that a process is handed at once; an interrupt or a dead process costs at most what these had under way."""

_OWN = ("epochs", "learning_rate", "head_learning_rate", "weight_decay", "schedule", "warmup_ratio", "clip")
"""Recipe fields in which the trials of a pack may differ."""


def check_pack(text: str) -> None:
    """Raise UserError unless `text` is a value of `Settings.pack`."""
    if text not in ("auto", "off", "verify") and not (text.isdecimal() and int(text) >= 1):
        raise UserError(f"--pack {text}: give a number from 1 on, auto, off, or verify.")


def make_packs(trials: Sequence[Trial], plugins: Plugins, pack: str, jobs: int) -> list[Pack]:
    """Trials in packs, each trial once; those of one pack have one backbone, start and shape of a step.

    Packs come before the trials that run alone, so that these fill the gaps at the end. What trials share should not be
    computed by two processes at once: packs begin with different rows, and trials that run alone take turns.
    """
    groups: dict[str, list[Trial]] = {}
    alone: list[Trial] = []
    for trial in trials:
        key = None if pack in ("off", "1") else pack_key(trial, plugins)
        if key is None:
            alone.append(trial)
        else:
            groups.setdefault(key, []).append(trial)
    packs = [part for group in groups.values() for part in _cut(_neighbours(group), _size(len(group), pack, jobs))]
    return sorted(packs, key=len, reverse=True) + [(trial,) for trial in _in_turns(alone)]


def pack_key(trial: Trial, plugins: Plugins) -> str | None:
    """Equal for trials that may share a model; None for one that must run alone."""
    method, recipe, start = plugins.methods[trial.method], trial.recipe, trial.start
    updates = method.after_update is not Method.after_update
    moved = start.kind == "transfer" and start.what == "adapter"
    special = recipe.packing or recipe.cache_prefix or recipe.shards > 1
    if not method.packable or updates or special or moved:
        return None
    own = [] if start.kind == "pretrained" else _start_rows(trial)
    parts = [dataclasses.asdict(trial.backbone), _shape(plugins.tasks[trial.task]), _shared(recipe)]
    return json.dumps([*parts, settings_of(start), own], sort_keys=True)


def _shape(task: Task) -> list[Any]:
    return [task.kind, len(task.labels)]


def _shared(recipe: Recipe) -> dict[str, Any]:
    return {name: value for name, value in settings_of(recipe).items() if name not in _OWN}


def _neighbours(trials: Sequence[Trial]) -> list[Trial]:
    """Trials with the very same batches next to each other: no padding is needed between them."""
    order = {(trial.task, trial.seed, trial.train_size): number for number, trial in reversed(list(enumerate(trials)))}
    return sorted(trials, key=lambda trial: order[trial.task, trial.seed, trial.train_size])


def _size(trials: int, pack: str, jobs: int) -> int:
    if pack.isdecimal():
        return int(pack)
    rounds = -(-trials // (MOST_TOGETHER * jobs))  # each process gets as many packs as the others, of one size
    return -(-trials // (rounds * jobs))


def _cut(trials: Sequence[Trial], size: int) -> list[Pack]:
    """Packs of `size`, each beginning elsewhere in the order of rows."""
    parts = [trials[first : first + size] for first in range(0, len(trials), size)]
    begins = [number * len(part) // len(parts) for number, part in enumerate(parts)]
    return [(*part[begin:], *part[:begin]) for part, begin in zip(parts, begins, strict=True)]


def _in_turns(trials: Sequence[Trial]) -> list[Trial]:
    """The first of the trials that share something, then the second ones: by then it has been computed."""
    met: Counter[str] = Counter()
    turns = []
    for trial in trials:
        shared = _computed_once(trial)
        turns.append(met[shared])
        met[shared] += 1
    return [trial for _, trial in sorted(zip(turns, trials, strict=True), key=lambda item: item[0])]


def _computed_once(trial: Trial) -> str:
    """Equal for trials of one row (decompositions, counts of FLOPs), or of one start where that is trained first."""
    if trial.start.kind == "pretrained":
        return dataclasses.replace(trial, seed=0).id
    return json.dumps([dataclasses.asdict(trial.backbone), settings_of(trial.start), _start_rows(trial)])


def _start_rows(trial: Trial) -> list[Any]:
    """What a trained start depends on beside its settings."""
    return [trial.task, trial.train_size, trial.seed]
