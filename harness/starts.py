"""Where training starts. A start is computed once, cached by the content that made it, and shared by all methods."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from harness.api import settings_of
from harness.trial import Recipe, Trial


def warmup_recipe(trial: Trial) -> Recipe:
    """The recipe of the full fine-tuning that a warm-up start is: one learning rate for backbone and head."""
    rate = trial.start.learning_rate
    return dataclasses.replace(trial.recipe, epochs=trial.start.epochs, learning_rate=rate, head_learning_rate=rate)


def cache_key(trial: Trial) -> str:
    """Hash of everything that the started weights depend on; the method and its learning rates are not among it."""
    content = {
        "backbone": dataclasses.asdict(trial.backbone),
        "task": [trial.task, trial.task_version, trial.train_size],
        "seed": trial.seed,
        "start": dataclasses.asdict(trial.start),
        "recipe": settings_of(warmup_recipe(trial)),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class StartCache:
    """Started weights below `cache_root/starts`, one safetensors file each; safe under several processes."""

    def __init__(self, cache_root: Path, trial: Trial) -> None:
        folder = cache_root / "starts"
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / f"{cache_key(trial)}.safetensors"
        self.lock = FileLock(f"{self.file}.lock")

    def load(self, model: nn.Module) -> float | None:
        """Load the started weights into `model`; the seconds they once took, or None if there are none yet."""
        if not self.file.is_file():
            return None
        with safe_open(self.file, "pt") as stored:
            seconds = float(stored.metadata()["seconds"])
        model.load_state_dict(load_file(self.file), strict=False)
        return seconds

    def save(self, model: nn.Module, seconds: float) -> None:
        """Write the weights at once or not at all. Tied tensors are written once."""
        tensors, seen = {}, set()
        for name, value in model.state_dict().items():
            if value.data_ptr() not in seen:
                seen.add(value.data_ptr())
                tensors[name] = value.detach().cpu().contiguous()
        temporary = self.file.with_suffix(f".{os.getpid()}.tmp")
        save_file(tensors, temporary, metadata={"seconds": repr(seconds)})
        os.replace(temporary, self.file)
