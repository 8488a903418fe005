"""Everything that can be known to go wrong before training starts, checked before training starts."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.api import Baseline, DataRoot, GenerationTask, LinearMethod, Method
from harness.errors import UserError
from harness.executors import Executor
from harness.plugins import Plugins, discover, make_method
from harness.records import Member
from harness.settings import Settings
from harness.sharding.checks import check_devices, check_sharded, layer_classes
from harness.trial import Backbone, Trial

if TYPE_CHECKING:
    from torch import nn

DISK_BYTES = 200 * 2**20
"""Free space that a run wants for its database and caches."""


@dataclass(frozen=True)
class ModelCheck:
    """A method on a backbone: does it find maps that it can adapt, and do the rows fit into the positions?"""

    backbone: Backbone
    kind: str
    labels: int
    method: str
    parameters: str
    """Canonical JSON."""
    max_length: int
    label: str
    """The suite's row, for the message."""
    cache_prefix: bool = False
    backbone_dropout: float = -1.0
    chat_task: str = ""
    """The task whose prompts go into the tokenizer's chat template; empty if the recipe does not want it."""
    shards: int = 1


def check_plan(members: Sequence[Member], plugins: Plugins, settings: Settings, executor: Executor) -> None:
    """Raise UserError if data, backbones, targets, the device or the disk cannot carry this plan."""
    check_data([member.trial for member in members], plugins, settings)
    _check_shards([member for member in members if member.trial.recipe.shards > 1], plugins, settings)
    check_disk(settings.cache_root)
    executor.call(check_models, model_checks(members, plugins))


def _check_shards(members: Sequence[Member], plugins: Plugins, settings: Settings) -> None:
    for member in members:
        method = make_method(plugins.methods[member.trial.method], member.trial.parameters)
        try:
            check_sharded(member.trial, method, settings)
        except UserError as error:
            raise UserError(f"method '{member.label}' on task '{member.trial.task}': {error}") from None


def check_data(trials: Sequence[Trial], plugins: Plugins, settings: Settings) -> None:
    """Every task's rows are there and sound, and there are as many as the train sizes ask for."""
    from harness.data import check_mirror, check_size, load_task

    root = DataRoot(settings.data_root)
    sizes: dict[str, set[int]] = {}
    for trial in trials:
        sizes.setdefault(trial.task, set()).add(trial.train_size)
        if trial.start.task:
            sizes.setdefault(trial.start.task, set()).add(trial.start.train_size)
    for name, wanted in sizes.items():
        task = plugins.tasks[name]
        check_mirror(task, root)
        train = load_task(task, root).train
        for size in sorted(wanted):
            check_size(train, size, name)


def check_disk(folder: Path, needed: int = DISK_BYTES) -> None:
    """Raise UserError unless the disk under `folder` (which need not exist yet) has `needed` bytes left."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    total, _, free = shutil.disk_usage(existing)
    if total and free < needed:  # a file system without a size (/proc) is for the writer to complain about
        raise UserError(
            f"only {free / 2**20:.0f} MiB are free on the disk of {folder}; a run wants {needed / 2**20:.0f} MiB. "
            "Make room, or name other places with --cache-root and --db."
        )


def model_checks(members: Sequence[Member], plugins: Plugins) -> list[ModelCheck]:
    """The distinct combinations of method and backbone that the plan holds."""
    checks: dict[ModelCheck, None] = {}
    for member in members:
        trial, task = member.trial, plugins.tasks[member.trial.task]
        if issubclass(plugins.methods[trial.method], Baseline):
            continue
        checks[
            ModelCheck(
                backbone=trial.backbone,
                kind=task.kind,
                labels=len(task.labels) or 1,
                method=trial.method,
                parameters=json.dumps(trial.parameters, sort_keys=True),
                max_length=trial.recipe.max_length,
                label=member.label,
                cache_prefix=trial.recipe.cache_prefix,
                backbone_dropout=trial.recipe.backbone_dropout if trial.recipe.cache_prefix else -1.0,
                chat_task=trial.task if trial.recipe.chat_template else "",
                shards=trial.recipe.shards,
            )
        ] = None
    return list(checks)


def check_models(checks: Sequence[ModelCheck], settings: Settings) -> None:
    """Raise UserError for the first check that fails, or for a device that this machine lacks. Imports torch."""
    from harness.backbones import check_weights, meta_model
    from harness.counts import natural_kind
    from harness.devices import pick_device

    pick_device(settings.device)
    plugins = discover(settings.plugin_files)
    models: dict[tuple[Backbone, str], tuple[nn.Module, tuple[str, ...]]] = {}
    for check in checks:
        key = (check.backbone, check.kind)
        if key not in models:
            check_weights(check.backbone, settings)
            if check.kind == "generation" and natural_kind(check.backbone.name, settings) != "generation":
                raise UserError(
                    f"backbone '{check.backbone.name}' is an encoder: it sees what comes next, so that it cannot be "
                    "trained to answer in text; name a decoder."
                )
            models[key] = meta_model(check.backbone.name, check.kind, check.labels, settings)
        if check.chat_task:
            _check_chat(check, plugins, settings)
        method = make_method(plugins.methods[check.method], json.loads(check.parameters))
        try:
            _check_model(*models[key], method, check)
            if check.shards > 1:
                check_devices(check.shards, settings)
                layer_classes(models[key][0])
            if check.cache_prefix:
                _check_prefix(*models[key], method, check)
        except UserError as error:
            raise UserError(f"method '{check.label}' on backbone '{check.backbone.name}': {error}") from None


def _check_chat(check: ModelCheck, plugins: Plugins, settings: Settings) -> None:
    from harness.backbones import load_tokenizer
    from harness.chat import check_template, in_chat

    tokenizer = load_tokenizer(check.backbone, settings)
    check_template(tokenizer, check.backbone.name)
    in_chat(cast(GenerationTask, plugins.tasks[check.chat_task]), tokenizer)


def _check_model(model: nn.Module, head: tuple[str, ...], method: Method, check: ModelCheck) -> None:
    from harness.backbones import positions
    from harness.targets import select_modules

    limit = positions(model)
    if limit is not None and check.max_length > limit:
        raise UserError(f"max_length = {check.max_length} exceeds its {limit} positions; choose at most {limit}.")
    if isinstance(method, LinearMethod):
        for target in select_modules(model, method.targets, method.layers, head):
            method.check_map(target.module, target.shape)


def _check_prefix(model: nn.Module, head: tuple[str, ...], method: Method, check: ModelCheck) -> None:
    from harness import prefix
    from harness.counts import attach_shapes
    from harness.targets import select_modules

    if check.kind == "generation":
        raise UserError("cache_prefix = true is for classification and regression; set it to false.")
    if isinstance(method, LinearMethod):
        trained = [target.module for target in select_modules(model, method.targets, method.layers)]
    else:
        copied = copy.deepcopy(model)
        attach_shapes(method, copied, head)
        trained = [name for name, parameter in copied.named_parameters() if parameter.requires_grad]
    below = prefix.check_frozen(model, trained, head)
    if check.backbone_dropout < 0:
        prefix.check_no_dropout(model, below)
    elif check.backbone_dropout > 0:
        raise UserError("cache_prefix = true needs a backbone without dropout; set backbone_dropout = 0.")
