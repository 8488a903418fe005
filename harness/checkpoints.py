"""Trainings saved on the way, so that one that was cut short goes on where it was.

One safetensors file for each training, below `cache_root/checkpoints`: its tensors are the file's, everything else is
JSON in the file's metadata, and a hash covers both. Nothing is ever unpickled. What goes on is bit-identical on a CPU
to a training that was never cut: parameters, optimizer, schedule, random streams, position in the data, scores so far.
A file that is damaged, or was made by other software or on another machine, is left out with a note.
"""

from __future__ import annotations

import dataclasses
import json
import random
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from harness.checkpoint_files import checkpoint_file, remove
from harness.provenance import stack
from harness.settings import Settings
from harness.source_hashes import harness_sha256, source_sha256
from harness.tensor_files import read_tensors, write_tensors

if TYPE_CHECKING:
    from harness.bench import Bench
    from harness.loop import Trainer

_PROGRESS = ("steps", "examples", "tokens", "slots", "seconds", "losses", "facts")


class Remembered(Protocol):
    """What a training leaves behind beside its model."""

    def state(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Be what `state` says."""
        ...


class Checkpoints:
    """The checkpoint of one training: when it is due, how it is written, and how a training goes on from it."""

    def __init__(
        self, name: str, settings: Settings, made_with: Mapping[str, Any], remembered: Remembered | None = None
    ) -> None:
        self.file = checkpoint_file(settings.cache_root, name)
        self._made_with = json.loads(json.dumps(made_with, default=str))
        self._remembered = remembered
        self._steps = settings.checkpoint_steps
        self._seconds = settings.checkpoint_seconds
        self._last = time.monotonic()
        self._buffers: dict[str, tuple[int, int]] = {}
        """Versions of the model's buffers when the training began."""

    def due(self, steps: int) -> bool:
        """Whether the training is to be saved now that so many steps are done."""
        by_steps = self._steps > 0 and steps % self._steps == 0
        return by_steps or (self._seconds > 0 and time.monotonic() - self._last >= self._seconds)

    def save(self, trainer: Trainer, evaluated: int) -> None:
        """Save a training of which `evaluated` epochs are over; without room for it, the one before stays."""
        changed = _versions(trainer.model).items() - self._buffers.items()
        tensors, optimizer = _tensors_of(trainer, {name for name, _ in changed})
        state = {
            "made_with": self._made_with,
            "evaluated": evaluated,
            "optimizer": optimizer,
            "progress": {name: getattr(trainer.progress, name) for name in _PROGRESS},
            "shapes": [[*shape, count] for shape, count in trainer.progress.shapes.items()],
            "random": {"python": random.getstate(), "numpy": _numpy_state()},
            "remembered": None if self._remembered is None else self._remembered.state(),
        }
        if not write_tensors(self.file, tensors, {"state": json.dumps(state, default=_plain)}, durable=True):
            print(f"no checkpoint could be written to {self.file.parent}; the training goes on", file=sys.stderr)
        self._last = time.monotonic()

    def restore(self, trainer: Trainer) -> int:
        """Bring a training that is about to begin to where it was saved. Returns the number of epochs that are over."""
        self._buffers = _versions(trainer.model)
        found = read_tensors(self.file)
        if found is None:
            return 0
        tensors, state = found[0], json.loads(found[1]["state"])
        if state["made_with"] != self._made_with:
            changed = sorted(name for name, value in self._made_with.items() if state["made_with"].get(name) != value)
            print(f"{self.file} was made with another {', '.join(changed)}: the training begins anew", file=sys.stderr)
            remove(self.file)
            return 0
        progress = trainer.progress
        for name, value in state["progress"].items():
            setattr(progress, name, value)
        progress.losses = [(step, loss) for step, loss in progress.losses]
        progress.shapes = {(rows, length): count for rows, length, count in state["shapes"]}
        progress.facts.setdefault("resumed_at_steps", []).append(progress.steps)
        _restore_tensors(trainer, tensors, state["optimizer"])
        if self._remembered is not None:
            self._remembered.restore(state["remembered"])
        _restore_random(tensors, state["random"], trainer)
        return int(state["evaluated"])

    def forget(self) -> None:
        """Remove the file: what it was for is stored elsewhere."""
        remove(self.file)


def training_checkpoints(name: str, bench: Bench, remembered: Remembered | None = None) -> Checkpoints | None:
    """Checkpoints of a training of `bench` under a name; None if the settings want none, or its method cannot go on:
    what a hook after every step keeps for itself, nobody else can save."""
    settings, method, trial = bench.settings, bench.method, bench.trial
    if not settings.checkpointed or type(method).after_update is not _plain_hook():
        return None
    made_with = {
        **stack(settings),
        "harness": harness_sha256(),
        "trial": trial.canonical,
        "method": source_sha256(type(method)),
        "task": source_sha256(type(bench.task)),
        "data": bench.data_sha256,
        "way of computing": [settings.split_batches, settings.compile, settings.checkpointing],
    }  # not the micro-batches: a training that runs out of memory on its way goes on with smaller ones
    return Checkpoints(name, settings, made_with, remembered)


def _plain_hook() -> Any:
    from harness.api import Method

    return Method.after_update


def _versions(model: nn.Module) -> dict[str, tuple[int, int]]:
    """What changes with every write to a buffer of the model."""
    return {name: (id(buffer), buffer._version) for name, buffer in model.named_buffers()}


def _tensors_of(trainer: Trainer, buffers: set[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything of a training that is a tensor, by name, and what else its optimizer and schedule hold."""
    tensors: dict[str, Tensor] = {f"parameter.{index}": value for index, value in enumerate(trainer.parameters)}
    tensors |= {f"buffer.{name}": value for name, value in trainer.model.named_buffers() if name in buffers}
    kept = trainer.optimizer.state_dict()
    numbers: dict[str, Any] = {}
    for index, values in kept["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                numbers.setdefault(str(index), {})[name] = value
    tensors["random.cpu"] = torch.get_rng_state()
    if (device := trainer.parameters[0].device).type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    if trainer.curve.pending:
        tensors["losses.pending"] = torch.stack(trainer.curve.pending)
    rates = [group["lr"] for group in kept["param_groups"]]
    schedule = {name: value for name, value in trainer.scheduler.state_dict().items() if name != "lr_lambdas"}
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    return whole, {"numbers": numbers, "rates": rates, "schedule": schedule}


def _restore_tensors(trainer: Trainer, tensors: Mapping[str, Tensor], optimizer: Mapping[str, Any]) -> None:
    buffers = dict(trainer.model.named_buffers())
    moments: dict[int, dict[str, Any]] = {int(index): dict(found) for index, found in optimizer["numbers"].items()}
    with torch.no_grad():
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "parameter":
                trainer.parameters[int(rest)].copy_(value)
            elif kind == "buffer":
                buffers[rest].copy_(value)
            elif kind == "optimizer":
                index, _, moment = rest.partition(".")
                moments.setdefault(int(index), {})[moment] = value
    groups = trainer.optimizer.state_dict()["param_groups"]
    for group, rate in zip(groups, optimizer["rates"], strict=True):
        group["lr"] = rate
    trainer.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    trainer.scheduler.load_state_dict({**trainer.scheduler.state_dict(), **optimizer["schedule"]})
    device = trainer.parameters[0].device
    trainer.curve.pending = [loss.to(device) for loss in tensors.get("losses.pending", torch.zeros(0)).unbind()]


def _restore_random(tensors: Mapping[str, Tensor], state: Mapping[str, Any], trainer: Trainer) -> None:
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], trainer.parameters[0].device)
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(state["numpy"])


def _numpy_state() -> list[Any]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return [name, np.asarray(keys).tolist(), *rest]


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, dataclasses and paths as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)
