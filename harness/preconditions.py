"""What must hold for a map before a method is attached to it, and for what the method then hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from harness.api import Frozen, InitContext, LinearMethod, Trainable
from harness.errors import UserError
from harness.targets import Target

Tensors = Mapping[str, Trainable | Frozen]


def check_maps(model: nn.Module, method: LinearMethod, targets: Sequence[Target]) -> None:
    """Raise UserError for the first map that the method cannot adapt: quantised, damaged, tied, or too small."""
    owners = _owners(model)
    for target in targets:
        weight = model.get_parameter(f"{target.module}.weight")
        if not weight.is_floating_point() or tuple(weight.shape) != target.shape:
            found, expected = f"{weight.dtype} {list(weight.shape)}", f"{list(target.shape)} numbers"
            raise UserError(
                f"{method.name}: the weight of {target.module} is {found}, not {expected}: it is quantised or sharded. "
                "Load the full-precision backbone."
            )
        others = [name for name in owners[id(weight)] if name != f"{target.module}.weight"]
        if others:
            raise UserError(f"{method.name}: {target.module} shares its weight with {others[0]}; choose other targets.")
        if not _finite(weight):
            raise UserError(
                f"{method.name}: the weight of {target.module} holds NaN or infinity; the backbone is damaged."
            )
        method.check_map(target.module, target.shape)


def initial_tensors(method: LinearMethod, target: Target, weight: torch.Tensor, context: InitContext) -> Tensors:
    """What `init` returns for one map, held to its contract; a UserError names method and map if it is not kept."""
    place = f"{method.name}: init on {target.module} {list(target.shape)}"
    try:
        tensors: Any = method.init(weight, context)
    except UserError:
        raise
    except Exception as error:
        line = str(error).split("\n")[0]
        raise UserError(f"{place} raised {type(error).__name__}: {line}") from error
    if not isinstance(tensors, Mapping):
        raise UserError(f"{place} returned {type(tensors).__name__}; it must return a mapping of names to tensors.")
    for name, value in tensors.items():
        if not isinstance(value, Trainable | Frozen) or not isinstance(value.tensor, torch.Tensor):
            raise UserError(
                f"{place} returned '{name}' as {type(value).__name__}; wrap the tensor in Trainable or Frozen."
            )
        if not _finite(value.tensor):
            raise UserError(f"{place} gave '{name}' NaN or infinity.")
    return tensors


def _finite(tensor: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite; a tensor on the meta device has no values that could be."""
    return tensor.is_meta or bool(torch.isfinite(tensor).all())


def _owners(model: nn.Module) -> dict[int, list[str]]:
    """The names that each parameter goes by."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    return owners
