"""Freeze, select, attach, merge, detach: the only file that edits a model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.api import (
    AttachContext,
    Common,
    Decompositions,
    Frozen,
    InitContext,
    LinearMethod,
    Method,
    Parameters,
    Trainable,
)
from harness.errors import UserError
from harness.preconditions import check_maps, initial_tensors
from harness.targets import Target, select_modules
from harness.trial import stream_seed


class MapTensors(nn.Module):
    """The adapter tensors of one map by name: trainable ones are parameters, frozen ones buffers."""

    def __init__(self, tensors: Mapping[str, Trainable | Frozen]) -> None:
        super().__init__()
        self.stored: list[str] = []
        for name, marked in tensors.items():
            value = marked.tensor.detach()
            if isinstance(marked, Trainable):
                self.register_parameter(name, nn.Parameter(value.clone(memory_format=torch.contiguous_format)))
            else:
                self.register_buffer(name, _compact(value))
                if marked.stored:
                    self.stored.append(name)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Tensor: ...


class AdaptedLinear(nn.Module):
    """A frozen linear map with a method's formula around it.

    The backbone's own weight is shared, not copied, unless the method trains around another one (PiSSA).
    """

    def __init__(self, original: nn.Linear, method: LinearMethod, tensors: Mapping[str, Trainable | Frozen]) -> None:
        super().__init__()
        self.method = method
        self.adapter = MapTensors(tensors).to(original.weight.device)
        weight = original.weight.detach()
        if method.takes_out_start():
            weight = frozen_weight(method, _full_precision(weight), self.adapter).to(weight.dtype)
        self.base = nn.Linear(original.in_features, original.out_features, bias=False, device="meta")
        self.base.weight = nn.Parameter(weight, requires_grad=False)
        if original.bias is not None:
            # a copy: a trained bias must not reach the backbone's own
            self.base.bias = nn.Parameter(original.bias.detach().clone(), requires_grad=method.bias)
        self.dropout = nn.Dropout(method.dropout) if method.dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Adapted output [..., m] of x [..., n]."""
        if not self.method.scales_output:
            return self.method.forward(self.dropout(x), self.base(x), self.adapter)
        y = self.method.forward(self.dropout(x), nn.functional.linear(x, self.base.weight), self.adapter)
        return y if self.base.bias is None else y + self.base.bias

    def low_rank(self) -> tuple[Tensor, Tensor] | None:
        """Copies of the factors B [m, k] and A [k, n] of what is added now; None if the method has none."""
        factors = self.method.low_rank(self.adapter)
        return None if factors is None else (factors[0].detach().clone(), factors[1].detach().clone())

    def merged(self) -> nn.Linear:
        """One plain linear map that equals this one (without dropout)."""
        plain = nn.Linear(self.base.in_features, self.base.out_features, bias=False, device="meta")
        weight = self.method.merge(_full_precision(self.base.weight), self.adapter)
        plain.weight = nn.Parameter(weight.detach().to(self.base.weight.dtype), requires_grad=False)
        if self.base.bias is not None:
            plain.bias = nn.Parameter(self.base.bias.detach().clone(), requires_grad=False)
        return plain


def frozen_weight(method: LinearMethod, weight: Tensor, initial: Parameters) -> Tensor:
    """The weight [m, n] to train around: the backbone's own, without the initial update if the method takes it out."""
    factors = method.low_rank(initial) if method.takes_out_start() else None
    return weight if factors is None else (weight - factors[0] @ factors[1]).detach()


@dataclass(frozen=True)
class Support:
    """What initialisations may draw on, beside the weights themselves."""

    decompositions: Decompositions
    pretrained: Callable[[str], Tensor]
    """Weight of a module, by name, in the pretrained checkpoint."""
    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    first_step_learning_rate: float = 0.0


@dataclass
class Attachment:
    """A method attached to a model; knows how to take itself off again."""

    model: nn.Module
    originals: dict[str, nn.Linear] = field(default_factory=dict)
    """The backbone's own maps by module name, for `detach`."""

    def merge(self) -> None:
        """Replace every adapted map by one plain map of the same function."""
        place(self.model, {name: self.adapted(name).merged() for name in self.originals})

    def detach(self) -> None:
        """Put the backbone's own maps back, bit for bit as they were."""
        place(self.model, self.originals)

    def let_go(self) -> None:
        """Give up the backbone's own maps and their memory: from now on `detach` has nothing to put back."""
        for original in self.originals.values():
            original.to("meta")

    def held(self) -> Iterator[Tensor]:
        """All that is in memory: the model's tensors, and those of the backbone's own maps, kept for `detach`."""
        for module in (self.model, *self.originals.values()):
            yield from itertools.chain(module.parameters(), module.buffers())

    def adapted(self, name: str) -> AdaptedLinear:
        """The adapted map that stands at `name`."""
        module = self.model.get_submodule(name)
        if not isinstance(module, AdaptedLinear):
            raise TypeError(f"{name} is a {type(module).__name__}, no adapted map")
        return module

    def low_rank(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Copies of B [m, k] and A [k, n] of every map whose method has them, by module name."""
        found = {name: self.adapted(name).low_rank() for name in self.originals}
        return {name: factors for name, factors in found.items() if factors is not None}

    def taken_out(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The factors that the frozen weights lack; ask before anything changes the adapter. Often none."""
        taking = [name for name in self.originals if self.adapted(name).method.takes_out_start()]
        return self.low_rank() if taking else {}

    def stored_tensors(self) -> dict[str, Tensor]:
        """What must be kept beside the backbone: all trainable tensors, and frozen ones that cannot be recomputed."""
        tensors = {name: value.detach() for name, value in self.model.named_parameters() if value.requires_grad}
        for name in self.originals:
            adapter = self.adapted(name).adapter
            tensors |= {f"{name}.adapter.{key}": adapter.get_buffer(key) for key in adapter.stored}
        return tensors


def attach(model: nn.Module, method: Method, head: tuple[str, ...], seed: int, support: Support) -> Attachment:
    """Freeze the model, attach the method, unfreeze the head if the method trains it.

    If an initialisation fails on one map, the model is left as it was.
    """
    model.requires_grad_(False)
    attachment = Attachment(model)
    if isinstance(method, LinearMethod):
        targets = select_modules(model, method.targets, method.layers, head)
        attachment.originals = _attach_maps(model, method, targets, seed, support)
    else:
        method.attach(model, AttachContext(_generator(seed, method.name), head, partial(_selected, model, head)))
    if method.trains_head:
        for name in head:
            model.get_submodule(name).requires_grad_(True)
    return attachment


def _attach_maps(
    model: nn.Module, method: LinearMethod, targets: Sequence[Target], seed: int, support: Support
) -> dict[str, nn.Linear]:
    check_maps(model, method, targets)
    common = Common((max(t.shape[0] for t in targets), max(t.shape[1] for t in targets)))
    replacements = {target.module: _adapted(model, target, method, seed, support, common) for target in targets}
    if method.bias and not any(adapted.base.bias is not None for adapted in replacements.values()):
        raise UserError(f"{method.name}: bias = true, but none of the maps '{method.targets}' has a bias.")
    originals: dict[str, nn.Linear] = {}
    for name, adapted in replacements.items():
        originals[name] = _linear(model, name)
        _replace(model, name, adapted)
    return originals


def _adapted(
    model: nn.Module, target: Target, method: LinearMethod, seed: int, support: Support, common: Common
) -> AdaptedLinear:
    original = _linear(model, target.module)
    context = InitContext(
        module=target.module,
        generator=_generator(seed, target.module),
        decompositions=support.decompositions,
        pretrained=support.pretrained(target.module),
        gradient=support.gradients.get(target.module),
        first_step_learning_rate=support.first_step_learning_rate,
        common=common,
    )
    tensors = initial_tensors(method, target, _full_precision(original.weight), context)
    return AdaptedLinear(original, method, tensors)


def _selected(model: nn.Module, head: tuple[str, ...], targets: str, layers: str) -> list[str]:
    return [target.module for target in select_modules(model, targets, layers, head)]


def _compact(value: Tensor) -> Tensor:
    """The tensor itself, so that maps can share it, unless it is a view that would keep a larger one in memory."""
    whole = value.is_contiguous() and value.untyped_storage().nbytes() == value.nbytes
    return value if whole else value.clone(memory_format=torch.contiguous_format)


def _full_precision(weight: Tensor) -> Tensor:
    """float32 or better; the very same storage where it is already."""
    return weight.detach().to(torch.promote_types(weight.dtype, torch.float32))


def _generator(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(stream_seed(seed, "adapter", name))


def _linear(model: nn.Module, name: str) -> nn.Linear:
    module = model.get_submodule(name)
    if not isinstance(module, nn.Linear):
        raise TypeError(f"{name} is a {type(module).__name__}, not a linear map")
    return module


def place(model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    """Put modules where the model has others by the same names."""
    for name, module in modules.items():
        _replace(model, name, module)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
