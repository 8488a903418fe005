"""LoRA, rsLoRA and PiSSA against the PEFT library: with the same tensors, the same outputs and merged weights."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from method_support import SHAPES, Map, close, normal
from torch import Tensor, nn

from methods.lora import LoRA
from methods.pissa import PiSSA
from methods.rslora import RsLoRA

on_every_shape = pytest.mark.parametrize("shape", SHAPES)


class OneMap(nn.Module):
    """The smallest model that PEFT adapts."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.q = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
        self.q.weight = nn.Parameter(weight.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.q(x)


def in_peft(weight: Tensor, **options: Any) -> peft.PeftModel:
    return peft.get_peft_model(OneMap(weight), peft.LoraConfig(target_modules=["q"], **options))


def with_tensors_of(model: peft.PeftModel, adapted: Map) -> peft.PeftModel:
    layer = model.base_model.model.q
    layer.lora_A["default"].weight.data = adapted.p.A.clone()
    layer.lora_B["default"].weight.data = adapted.p.B.clone()
    return model


def same_as_peft(adapted: Map, model: peft.PeftModel, tolerance: float) -> None:
    x = normal(5, adapted.weight.shape[1], dtype=adapted.weight.dtype)
    close(adapted(x), model(x).detach(), tolerance)
    close(adapted.merged, model.merge_and_unload().q.weight.detach(), tolerance)


@on_every_shape
def test_lora_is_pefts(shape: tuple[int, int]) -> None:
    adapted = Map.of(LoRA(r=3, alpha=5), normal(*shape)).train()
    same_as_peft(adapted, with_tensors_of(in_peft(adapted.weight, r=3, lora_alpha=5), adapted), 1e-12)


@on_every_shape
def test_rslora_is_pefts(shape: tuple[int, int]) -> None:
    adapted = Map.of(RsLoRA(r=3, alpha=5), normal(*shape)).train()
    model = in_peft(adapted.weight, r=3, lora_alpha=5, use_rslora=True)
    same_as_peft(adapted, with_tensors_of(model, adapted), 1e-12)


@on_every_shape
def test_pissa_is_pefts_from_its_start_to_its_trained_state(shape: tuple[int, int]) -> None:
    weight = normal(*shape, dtype=torch.float32)  # PEFT refuses float64 here
    adapted = Map.of(PiSSA(r=3, alpha=5), weight)
    model = in_peft(weight, r=3, lora_alpha=5, init_lora_weights="pissa")
    layer = model.base_model.model.q
    close(adapted.frozen, layer.weight.detach(), 1e-5)
    theirs = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    close(adapted.p.B @ adapted.p.A, theirs.detach(), 1e-5)
    same_as_peft(adapted.train(), with_tensors_of(model, adapted), 1e-4)
