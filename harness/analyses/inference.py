"""What an adapter costs at inference while it is not merged: FLOPs of the real graph, on shapes alone.

LoRA-SB, arXiv:2411.19557, table 6, asks this question of MACs and FLOPs. Merged, every linear method costs what the
plain backbone costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness import adapt, backbones, flops
from harness.api import Baseline, LinearMethod, Method, parameters_of
from harness.counts import Shape, count
from harness.errors import UserError
from harness.settings import Settings
from harness.targets import select_modules


@dataclass(frozen=True)
class InferenceCost:
    """One forward pass of one example through the backbone with a method attached and not merged."""

    label: str
    parameters: Mapping[str, Any]
    """The method's configuration; empty for the plain backbone."""
    adapter_params: int | None
    """Trained beside the backbone; None where the weights' values decide."""
    flops: float | None
    """Matrix products only, two operations a term; None where a rank depends on the weights' values (QR-LoRA)."""
    overhead: float | None
    """FLOPs above those of the plain backbone, as a share of them."""

    @property
    def macs(self) -> float | None:
        """Multiply-accumulate operations: half the FLOPs."""
        return None if self.flops is None else self.flops / 2


def inference_costs(
    shape: Shape, methods: Mapping[str, Method], length: int, settings: Settings
) -> list[InferenceCost]:
    """The plain backbone, then each method of `methods` by label, on one example of `length` tokens.

    Counted by torch's dispatcher-level counter on the meta device: no weights are read and nothing is computed. All
    tokens are real, attention runs over all pairs of them, and a decoder gives the logits of every position.
    Raises UserError for a method without a model, targets that match nothing, or a length below 1 or beyond the
    backbone's positions.
    """
    model, _ = backbones.meta_model(shape.backbone, shape.kind, shape.labels, settings)
    _check_length(model, length, shape.backbone)
    plain = forward_flops(model, length)
    costs = [InferenceCost(shape.backbone, {}, 0, plain, 0.0)]
    for label, method in methods.items():
        counted = count(method, shape, settings)
        adapted = _adapted_flops(method, shape, length, settings)
        overhead = None if adapted is None else adapted / plain - 1
        costs.append(InferenceCost(label, parameters_of(method), counted.adapter_params, adapted, overhead))
    return costs


def forward_flops(model: nn.Module, length: int) -> float:
    """FLOPs of one forward pass of `model`, on any device, on one row of `length` tokens."""
    device = next(model.parameters()).device
    # no attention mask: whether it is all ones cannot be read off a tensor without values
    batch = {"input_ids": torch.zeros(2, length, dtype=torch.int64, device=device)}
    cost = flops.flops_by_length(model, lambda inputs: model(**inputs), [batch], training=False)
    return cost.flops(1, length)


def _adapted_flops(method: Method, shape: Shape, length: int, settings: Settings) -> float | None:
    if isinstance(method, Baseline):
        raise UserError(f"method '{method.name}' has no model: it costs nothing at inference. Leave it out.")
    model, head = backbones.meta_model(shape.backbone, shape.kind, shape.labels, settings)
    gradients: dict[str, Tensor] = {}
    if isinstance(method, LinearMethod):
        targets = select_modules(model, method.targets, method.layers)
        if any(method.count(*target.shape) is None for target in targets):
            return None
        gradients = {target.module: _weight(model, target.module) for target in targets}
    support = adapt.Support(ShapesOnly(), lambda name: _weight(model, name), gradients, 1.0)
    adapt.attach(model, method, head, 0, support)
    return forward_flops(model, length)


def _weight(model: nn.Module, module: str) -> Tensor:
    return model.get_parameter(f"{module}.weight").detach()


class ShapesOnly:
    """Implements `harness.api.Decompositions` for weights without values: factors of the right shapes."""

    def svd(self, weight: Tensor, rank: int, routine: str = "exact") -> tuple[Tensor, Tensor, Tensor]:
        """U [m, rank], S [rank], Vt [rank, n] of weight [m, n]."""
        m, n = weight.shape
        return weight.new_empty(m, rank), weight.new_empty(rank), weight.new_empty(rank, n)

    def pivoted_qr(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q [m, k], R [k, n], P [n] of weight [m, n], k = min(m, n)."""
        m, n = weight.shape
        k = min(m, n)
        return weight.new_empty(m, k), weight.new_empty(k, n), weight.new_empty(n, dtype=torch.int64)


def _check_length(model: nn.Module, length: int, backbone: str) -> None:
    longest = backbones.positions(model)
    if length < 1 or (longest is not None and length > longest):
        most = "" if longest is None else f" to {longest}, the positions of '{backbone}'"
        raise UserError(f"a length of {length} tokens cannot be: give a number from 1{most}.")
