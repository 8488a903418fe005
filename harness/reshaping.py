"""What the command line changes in a suite as a whole before its trials are planned: backbones and train sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.backbones import bundled_names, find_folder
from harness.errors import UserError, unknown
from harness.overrides import Override
from harness.plugins import Plugins
from harness.settings import Settings
from harness.shipped import canonical, config_names
from harness.trial import Start

if TYPE_CHECKING:
    from harness.suite import Suite, TaskEntry


def with_train_size(suite: Suite, overrides: Sequence[Override]) -> Suite:
    """The suite with `--set train_size=N` in place of every train size of its tasks, grids and transfers; 0 is all."""
    for override in overrides:
        if override.key != "train_size":
            continue
        size = override.value
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise UserError(f"--set {override}: train_size must be a whole number, at least 0.")
        tasks = tuple(replace(task, train_size=size) for task in suite.tasks)
        grids = tuple(replace(grid, train_sizes=(size,), start=_of_size(grid.start, size)) for grid in suite.grids)
        suite = replace(suite, tasks=tasks, grids=grids)
    return suite


def _of_size(start: Start, size: int) -> Start:
    return replace(start, train_size=size) if start.kind == "transfer" else start


def with_backbones(
    suite: Suite, names: Sequence[str], settings: Settings, plugins: Plugins
) -> tuple[Suite, tuple[str, ...]]:
    """The suite on the named backbones, and the names to record it with: none unless a backbone was replaced.

    A task whose own backbone is named stays as it is. On every other task a named backbone that is none of the
    suite's takes the place of its own, if it can serve the task: an encoder classification and regression, a decoder
    generation. Tasks that no named backbone serves are left out.
    """
    if not names:
        return suite, ()
    own = {canonical(task.backbone) for task in suite.tasks}
    others = [name for name in names if canonical(name) not in own]
    kept = {canonical(name) for name in names} & own
    served = _served(suite, others, settings, plugins)
    tasks = []
    for task in suite.tasks:
        if canonical(task.backbone) in kept:
            tasks.append(task)
        elif task.name in served:
            tasks.append(replace(task, backbone=served[task.name], revision="", replaced=True))
    free = {task.name for task in tasks if task.replaced}
    for name in others:
        if name not in {served[task] for task in free}:
            kinds = ", ".join(sorted({plugins.tasks[task.name].kind for task in suite.tasks}))
            raise UserError(
                f"backbone '{name}' fits no task of suite '{suite.name}', which is {kinds}; "
                "an encoder serves classification and regression, a decoder generation."
            )
    return replace(suite, tasks=tuple(tasks)), tuple(names) if others else ()


def _served(suite: Suite, names: Sequence[str], settings: Settings, plugins: Plugins) -> dict[str, str]:
    """The name out of `names` that serves each task; two that serve the same one are a UserError."""
    served: dict[str, str] = {}
    for name in names:
        generates = _generates(name, suite.tasks, suite.name, settings)
        for task in suite.tasks:
            if (plugins.tasks[task.name].kind == "generation") == generates:
                if task.name in served:
                    first = served[task.name]
                    raise UserError(
                        f"backbones '{first}' and '{name}' both serve task '{task.name}'; name one of them."
                    )
                served[task.name] = name
    return served


def _generates(name: str, tasks: Sequence[TaskEntry], suite: str, settings: Settings) -> bool:
    from harness.counts import natural_kind

    if find_folder(name, settings) is None and "/" not in canonical(name):
        known = {*(task.backbone for task in tasks), *bundled_names(), *config_names()}
        raise unknown("backbone", name, known, f"suite '{suite}'")
    return natural_kind(name, settings) == "generation"
