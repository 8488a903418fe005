"""How many parameters a method trains on a backbone, from shapes alone: no weights are read, no memory is taken."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import backbones
from harness.api import AttachContext, Baseline, Kind, LinearMethod, Method
from harness.settings import Settings
from harness.targets import select_modules

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class MapCount:
    """Adapter parameters of one adapted map."""

    module: str
    shape: tuple[int, int]
    """(out, in)."""
    adapter_params: int | None
    """None if it depends on the weight's values."""


@dataclass(frozen=True)
class Counts:
    """Parameters of an adapted backbone; None where a count depends on the weights' values."""

    adapter_params: int | None
    head_params: int
    total_params: int | None
    """All scalars of the adapted model, trained or not."""
    linear_params: int = 0
    """Weights of the backbone's linear maps, through which every token goes (embeddings are only looked up)."""
    maps: tuple[MapCount, ...] = ()

    @property
    def trainable_params(self) -> int | None:
        """Adapter and head."""
        return None if self.adapter_params is None else self.adapter_params + self.head_params


@dataclass(frozen=True)
class Shape:
    """What to count on: a backbone by name, and the kind of output on top of it."""

    backbone: str
    kind: Kind
    labels: int = 2
    """Outputs of the head; ignored for generation."""
    revision: str = ""


def natural_kind(backbone: str, settings: Settings) -> Kind:
    """Classification for a backbone that was trained to fill masks, generation for any other."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    configuration = backbones.configuration(backbone, settings)
    masked = configuration.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "classification" if masked and not getattr(configuration, "is_decoder", False) else "generation"


def count(method: Method, shape: Shape, settings: Settings) -> Counts:
    """Counts of `method` on the backbone; UserError for targets that match nothing or a rank too large."""
    if isinstance(method, Baseline):
        return Counts(0, 0, 0)
    if isinstance(method, LinearMethod):
        return _count_linear(method, *_untouched(shape, settings))
    return _count_attached(method, *backbones.meta_model(shape.backbone, shape.kind, shape.labels, settings))


@functools.lru_cache(maxsize=8)
def _untouched(shape: Shape, settings: Settings) -> tuple[nn.Module, tuple[str, ...]]:
    """The model and its head's names, built once for all methods that are counted without being attached."""
    return backbones.meta_model(shape.backbone, shape.kind, shape.labels, settings)


def _count_linear(method: LinearMethod, model: nn.Module, head: tuple[str, ...]) -> Counts:
    targets = select_modules(model, method.targets, method.layers, head)
    maps = []
    biases = 0
    for target in targets:
        method.check_map(target.module, target.shape)
        has_bias = method.bias and model.get_submodule(target.module).bias is not None
        added = method.count(*target.shape)
        biases += target.shape[0] * has_bias
        maps.append(
            MapCount(target.module, target.shape, None if added is None else added + target.shape[0] * has_bias)
        )
    total, linear = _size(model), _linear_size(model)
    head_params = sum(_size(model.get_submodule(name)) for name in head) if method.trains_head else 0
    counts = [item.adapter_params for item in maps if item.adapter_params is not None]
    if len(counts) < len(maps):
        return Counts(None, head_params, None, linear, tuple(maps))
    adapter = sum(counts)
    return Counts(adapter, head_params, total + adapter - biases, linear, tuple(maps))


def _count_attached(method: Method, model: nn.Module, head: tuple[str, ...]) -> Counts:
    """For methods that are no formula per map: attach, and see what can be trained."""
    from harness.measure import count_parameters

    attach_shapes(method, model, head)
    counted = count_parameters(model, head or backbones.output_names(model))
    return Counts(counted.adapter, counted.head, counted.total, _linear_size(model))


def attach_shapes(method: Method, model: nn.Module, head: tuple[str, ...]) -> None:
    """Attach to a model on the meta device a method that is no formula per map: afterwards it shows what is trained."""
    import torch

    model.requires_grad_(False)

    def select(targets: str, layers: str) -> list[str]:
        return [target.module for target in select_modules(model, targets, layers, head)]

    method.attach(model, AttachContext(torch.Generator(), head, select))
    for name in head if method.trains_head else ():
        model.get_submodule(name).requires_grad_(True)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _linear_size(model: nn.Module) -> int:
    from torch import nn

    return sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
