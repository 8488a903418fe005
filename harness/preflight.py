"""Everything that can be known to go wrong before training starts, checked before training starts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.api import DataRoot, LinearMethod
from harness.errors import UserError
from harness.executors import Executor
from harness.plugins import Plugins, make_method
from harness.records import Member
from harness.settings import Settings
from harness.trial import Trial

DISK_BYTES = 200 * 2**20
"""Free space that a run wants for its database and caches."""


@dataclass(frozen=True)
class TargetCheck:
    """Whether a linear method finds maps to adapt in a backbone."""

    backbone: str
    kind: str
    labels: int
    targets: str
    layers: str
    label: str
    """The suite's row, for the message."""


def check_plan(members: Sequence[Member], plugins: Plugins, settings: Settings, executor: Executor) -> None:
    """Raise UserError if data, backbones, targets, the device or the disk cannot carry this plan."""
    check_data([member.trial for member in members], plugins, settings)
    check_disk(settings.cache_root)
    executor.call(check_targets, target_checks(members, plugins))


def check_data(trials: Sequence[Trial], plugins: Plugins, settings: Settings) -> None:
    """Every task's rows are there and sound, and there are as many as the train sizes ask for."""
    from harness.data import check_mirror, check_size, load_task

    root = DataRoot(settings.data_root)
    sizes: dict[str, set[int]] = {}
    for trial in trials:
        sizes.setdefault(trial.task, set()).add(trial.train_size)
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


def target_checks(members: Sequence[Member], plugins: Plugins) -> list[TargetCheck]:
    """The distinct pairs of a linear method's targets and a backbone that the plan holds."""
    checks: dict[tuple[object, ...], TargetCheck] = {}
    for member in members:
        trial = member.trial
        method = make_method(plugins.methods[trial.method], trial.parameters)
        if isinstance(method, LinearMethod):
            task = plugins.tasks[trial.task]
            key = (trial.backbone.name, task.kind, method.targets, method.layers)
            check = TargetCheck(
                trial.backbone.name, task.kind, len(task.labels) or 1, method.targets, method.layers, member.label
            )
            checks.setdefault(key, check)
    return list(checks.values())


def check_targets(checks: Sequence[TargetCheck], settings: Settings) -> None:
    """Raise UserError for the first check that fails, or for a device that this machine lacks. Imports torch."""
    from harness.backbones import meta_model
    from harness.devices import pick_device
    from harness.targets import select_modules

    pick_device(settings.device)
    models = {}
    for check in checks:
        key = (check.backbone, check.kind)
        if key not in models:
            models[key] = meta_model(check.backbone, check.kind, check.labels, settings)[0]
        try:
            select_modules(models[key], check.targets, check.layers)
        except UserError as error:
            raise UserError(f"method '{check.label}' on backbone '{check.backbone}': {error}") from None
