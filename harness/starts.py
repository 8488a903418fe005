"""Where training starts. A start is computed once, cached by the content that made it, and shared by all methods."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn

from harness.api import settings_of
from harness.tensor_files import read_tensors, write_tensors
from harness.trial import Recipe, Start, Trial


def start_recipe(trial: Trial) -> Recipe:
    """The recipe of the training that makes the start: one learning rate for all that learns, the head too.

    The rates of the trial's own training are not in it, so that tasks and methods with other rates share the start, and
    neither is the held-out text, on which nothing is trained.
    """
    rate = trial.start.learning_rate
    untold = {name: getattr(Recipe, name) for name in ("forgetting", "forgetting_sha256", "forgetting_tokens")}
    recipe = dataclasses.replace(trial.recipe, **untold)
    return dataclasses.replace(recipe, epochs=trial.start.epochs, learning_rate=rate, head_learning_rate=rate)


def source_trial(trial: Trial) -> Trial:
    """The trial that a transfer comes from: the same backbone, method and seed on the start's task."""
    start = trial.start
    return dataclasses.replace(
        trial,
        task=start.task,
        task_version=start.task_version,
        train_size=start.train_size,
        recipe=start_recipe(trial),
        start=Start(),
    )


def cache_key(trial: Trial, made_from: Mapping[str, Any]) -> str:
    """Hash of everything that the started weights depend on: what the trial says, and the hashes of rows and sources.

    The method is among it only where its own adapter is what is brought along; its learning rates never are.
    """
    start = trial.start
    transfer = start.kind == "transfer"
    content: dict[str, Any] = {
        "backbone": dataclasses.asdict(trial.backbone),
        "task": [start.task, start.task_version, start.train_size]
        if transfer
        else [trial.task, trial.task_version, trial.train_size],
        "seed": trial.seed,
        "start": settings_of(start),
        "recipe": settings_of(start_recipe(trial)),
        "made_from": dict(made_from),
    }
    if transfer and start.what == "adapter":
        content["method"] = [trial.method, trial.parameters]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def carry(model: nn.Module, tensors: Mapping[str, Tensor]) -> set[str]:
    """Copy the tensors that `model` has under the same name and shape; the names of those that fit nowhere."""
    places = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    left = set()
    with torch.no_grad():
        for name, value in tensors.items():
            if name in places and places[name].shape == value.shape:
                places[name].copy_(value)
            else:
                left.add(name)
    return left


class StartCache:
    """Started weights below `cache_root/starts`, one safetensors file each; safe under several processes."""

    def __init__(self, cache_root: Path, key: str) -> None:
        folder = cache_root / "starts"
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / f"{key}.safetensors"
        self.lock = FileLock(f"{self.file}.lock")

    def load(self) -> tuple[dict[str, Tensor], float] | None:
        """The started weights and the training seconds that they once took; None if there are none that are whole."""
        found = read_tensors(self.file)
        return None if found is None else (found[0], float(found[1]["seconds"]))

    def save(self, state: Mapping[str, Tensor], seconds: float) -> tuple[dict[str, Tensor], float]:
        """Write the weights at once or not at all, tied tensors once; returns what `load` will."""
        tensors, seen = {}, set()
        for name, value in state.items():
            if value.data_ptr() not in seen:
                seen.add(value.data_ptr())
                tensors[name] = value.detach().cpu().contiguous()
        write_tensors(self.file, tensors, {"seconds": repr(seconds)})
        return tensors, seconds
