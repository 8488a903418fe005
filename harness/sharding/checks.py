"""What cannot be sharded, said before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.api import Baseline, Method
from harness.errors import UserError
from harness.settings import Settings
from harness.trial import Trial

if TYPE_CHECKING:
    from torch import nn


def check_sharded(trial: Trial, method: Method, settings: Settings) -> None:
    """Raise UserError if the trial asks for shards and for something that takes the whole model in one process."""
    recipe = trial.recipe
    if recipe.shards == 1 or isinstance(method, Baseline):
        return
    samples = method.gradient_request(trial.train_size or 1)
    reasons = {
        "packing = true makes a batch one row, which cannot be shared out": recipe.packing,
        "cache_prefix = true looks up whole rows of one process": recipe.cache_prefix,
        "forgetting wants the whole pretrained model on one device": bool(recipe.forgetting),
        f"the start '{trial.start.kind}' trains the whole model in one process": trial.start.kind != "pretrained",
        f"method '{method.name}' wants the gradient of the whole model before it starts": samples is not None,
        f"method '{method.name}' changes tensors after each update, of which a process has its share only": (
            type(method).after_update is not Method.after_update
        ),
        "--compile auto compiles steps of one process": settings.compile != "off",
        "--checkpoint-every saves trainings of one process": settings.checkpointed,
    }
    for reason, holds in reasons.items():
        if holds:
            raise UserError(f"shards = {recipe.shards}, but {reason}; leave one of the two out.")


def check_devices(shards: int, settings: Settings) -> None:
    """Raise UserError unless every process finds a GPU of its own, or all compute on the CPU. Imports torch."""
    import torch

    from harness.devices import pick_device

    if shards == 1:
        return
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        raise UserError(f"shards = {shards}, but this torch was built without torch.distributed; set shards = 1.")
    device = pick_device(settings.device)
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"shards = {shards} wants CUDA or the CPU, not {device}; say --device cpu, or set shards = 1.")
    if device.index is not None:
        raise UserError(f"shards = {shards}, but --device {device} names one device; say --device {device.type}.")
    there = torch.cuda.device_count() if device.type == "cuda" else shards
    if there < shards:
        raise UserError(f"shards = {shards} wants as many GPUs; this machine has {there}. Set shards = {there}.")


def check_tensors(model: nn.Module) -> None:
    """Raise UserError for a tensor that has no rows to share out."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 0:
            raise UserError(f"{name} is a single number, which FSDP cannot share out; set shards = 1.")


def layer_classes(model: nn.Module) -> list[str]:
    """Names of the classes of the model's layers, each of which is gathered as one; UserError if it shows none."""
    from harness.prefix import layer_stack

    found = layer_stack(model)
    if found is None:
        raise UserError(f"{type(model).__name__} shows no list of its layers, by which to shard it; set shards = 1.")
    return sorted({type(layer).__name__ for layer in found[1]})
