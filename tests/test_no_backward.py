"""Below the first adapted layer nothing is differentiated: no graph, nothing kept for backward, no FLOPs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness import adapt, backbones
from harness.decompositions import CachedDecompositions
from harness.plugins import discover, make_method
from harness.settings import Settings

CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "qr_lora last:1": ("qr_lora", {"layers": "last:1"}, 1),
    "qr_lora last:2": ("qr_lora", {"layers": "last:2"}, 2),
    "lora last:1": ("lora", {"layers": "last:1", "targets": "v,up"}, 1),
    "head_only": ("head_only", {}, 0),
}
"""Name, parameters, and how many of the last layers need a backward."""


def adapted(name: str, parameters: Mapping[str, Any], settings: Settings) -> nn.Module:
    plugins = discover()
    resolved = backbones.resolve("starter-encoder", settings)
    loaded = backbones.load(resolved, plugins.tasks["paraphrase"], 0, settings)
    model = loaded.model
    support = adapt.Support(
        CachedDecompositions(settings.cache_root), lambda module: model.get_parameter(f"{module}.weight").detach()
    )
    adapt.attach(model, make_method(plugins.methods[name], parameters), loaded.head, 0, support)
    return model.train()


def layers(model: nn.Module) -> nn.ModuleList:
    found: nn.ModuleList = model.base_model.encoder.layer  # type: ignore[union-attr, assignment]
    return found


def batch() -> dict[str, Tensor]:
    ids = torch.arange(3 * 9).reshape(3, 9) % 90 + 5
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([0, 1, 1])}


def flops(model: nn.Module, work: Callable[[nn.Module], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work(model)
    return int(counter.get_total_flops())


def backward_flops(model: nn.Module) -> int:
    model.eval()  # the same forward twice
    forward = flops(model, lambda model: model(**batch()).loss)
    return flops(model, lambda model: model(**batch()).loss.backward()) - forward


@pytest.mark.parametrize("case", CASES)
def test_hidden_states_below_need_no_gradient_and_keep_nothing(case: str, settings: Settings) -> None:
    name, parameters, count = CASES[case]
    model = adapted(name, parameters, settings)
    needs: list[bool] = []
    for layer in layers(model):
        layer.register_forward_hook(lambda module, inputs, output: needs.append(first(output).requires_grad))
    kept: list[int] = []
    inside = [False]
    lowest = len(layers(model)) - count
    for layer in layers(model)[:lowest]:
        layer.register_forward_pre_hook(lambda *_: inside.__setitem__(0, True))
        layer.register_forward_hook(lambda *_: inside.__setitem__(0, False))

    def pack(tensor: Tensor) -> Tensor:
        if inside[0]:
            kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(**batch()).loss.backward()
    assert needs == [False] * lowest + [True] * count
    assert not kept


@pytest.mark.parametrize("case", CASES)
def test_backward_costs_what_it_costs_without_the_lower_layers(case: str, settings: Settings) -> None:
    name, parameters, count = CASES[case]
    model = adapted(name, parameters, settings)
    whole = backward_flops(model)
    del layers(model)[: len(layers(model)) - count]
    assert whole == backward_flops(model) > 0


def first(output: Any) -> Tensor:
    tensor: Tensor = output[0] if isinstance(output, tuple) else output
    return tensor
