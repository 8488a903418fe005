"""Methods that the PEFT library has too: with the same tensors, the same outputs, gradients and merged weights."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import peft
import pytest
import torch
from method_support import SHAPES, Map, assert_close, normal
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor, nn

from harness.adapt import AdaptedLinear
from harness.api import Common, Trainable
from harness.loop import optimizer_groups
from harness.trial import Recipe
from methods.dora import DoRA
from methods.lora import LoRA
from methods.lora_plus import LoRAPlus
from methods.lora_xs import LoraXS
from methods.olora import OLoRA
from methods.pissa import PiSSA
from methods.rslora import RsLoRA
from methods.vera import VeRA

TENSORS = {"A": Trainable(torch.ones(2, 4)), "B": Trainable(torch.ones(6, 2))}

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
    for name, parameter in theirs(model, adapted).items():
        parameter.data = getattr(adapted.p, name).clone()
    return model


def theirs(model: peft.PeftModel, adapted: Map) -> dict[str, nn.Parameter]:
    """PEFT's parameters under the names that the method gives its trainable tensors."""
    layer = model.base_model.model.q
    if isinstance(adapted.method, VeRA):
        return {"b": layer.vera_lambda_b["default"], "d": layer.vera_lambda_d["default"]}
    found = {"A": layer.lora_A["default"].weight, "B": layer.lora_B["default"].weight}
    if isinstance(adapted.method, DoRA):
        found["M"] = layer.lora_magnitude_vector["default"].weight
    return found


def assert_same_as_peft(adapted: Map, model: peft.PeftModel, tolerance: float) -> None:
    """Outputs, gradients and merged weights agree."""
    parameters = theirs(model, adapted)
    assert set(parameters) == set(adapted.trainable)
    x = normal(5, adapted.weight.shape[1], dtype=adapted.weight.dtype)
    probe = normal(5, adapted.weight.shape[0], dtype=adapted.weight.dtype, seed=3)
    for name in adapted.trainable:
        getattr(adapted.p, name).requires_grad_()
    ours, expected = adapted(x), model(x)
    assert_close(ours.detach(), expected.detach(), tolerance)
    (ours * probe).sum().backward()
    (expected * probe).sum().backward()
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        assert_close(getattr(adapted.p, name).grad, parameter.grad, tolerance)
    assert_close(adapted.merged.detach(), model.merge_and_unload().q.weight.detach(), tolerance)


@on_every_shape
def test_lora_is_pefts(shape: tuple[int, int]) -> None:
    adapted = Map.of(LoRA(r=3, alpha=5), normal(*shape)).train()
    assert_same_as_peft(adapted, with_tensors_of(in_peft(adapted.weight, r=3, lora_alpha=5), adapted), 1e-12)


@on_every_shape
def test_rslora_is_pefts(shape: tuple[int, int]) -> None:
    adapted = Map.of(RsLoRA(r=3, alpha=5), normal(*shape)).train()
    model = in_peft(adapted.weight, r=3, lora_alpha=5, use_rslora=True)
    assert_same_as_peft(adapted, with_tensors_of(model, adapted), 1e-12)


@on_every_shape
def test_dora_is_pefts(shape: tuple[int, int]) -> None:
    adapted = Map.of(DoRA(r=3, alpha=5), normal(*shape))
    model = in_peft(adapted.weight, r=3, lora_alpha=5, use_dora=True)
    assert_close(adapted.p.M, theirs(model, adapted)["M"].detach(), 1e-12)
    assert_same_as_peft(adapted.train(), with_tensors_of(model, adapted), 1e-10)


@pytest.mark.parametrize("init", ["pissa", "olora"])
@on_every_shape
def test_pissa_and_olora_are_pefts_from_their_start_to_their_trained_state(shape: tuple[int, int], init: str) -> None:
    weight = normal(*shape, dtype=torch.float32)  # PEFT refuses float64 here
    adapted = Map.of({"pissa": PiSSA, "olora": OLoRA}[init](r=3, alpha=5), weight)
    model = in_peft(weight, r=3, lora_alpha=5, init_lora_weights=init)
    assert_close(adapted.frozen, model.base_model.model.q.weight.detach(), 1e-5)
    their = theirs(model, adapted)
    assert_close(adapted.p.B @ adapted.p.A, (their["B"] @ their["A"]).detach(), 1e-5)
    assert_same_as_peft(adapted.train(), with_tensors_of(model, adapted), 1e-4)


@on_every_shape
def test_vera_is_pefts_with_projections_from_the_same_seed(shape: tuple[int, int]) -> None:
    weight = normal(*shape)
    adapted = Map.of(VeRA(r=4, projection_seed=7), weight, common=Common(largest=shape))
    config = peft.VeraConfig(r=4, target_modules=["q"], projection_prng_key=7)
    model = peft.get_peft_model(OneMap(weight), config).double()
    layer = model.base_model.model.q
    assert_close(adapted.p.A, layer.vera_A["default"].double(), 1e-7)
    assert_close(adapted.p.B, layer.vera_B["default"].double(), 1e-7)
    for name, parameter in theirs(model, adapted).items():
        assert_close(getattr(adapted.p, name), parameter.detach(), 1e-7)
    layer.vera_A["default"], layer.vera_B["default"] = adapted.p.A, adapted.p.B
    assert_same_as_peft(adapted.train(), with_tensors_of(model, adapted), 1e-10)


def test_lora_plus_gives_b_the_rate_that_peft_gives_it() -> None:
    rate, ratio = 1e-3, 16.0
    model = in_peft(normal(6, 4), r=2)
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=rate, loraplus_lr_ratio=ratio)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    expected = {name: rates[id(p)] for name, p in theirs(model, Map.of(LoRA(r=2), normal(6, 4))).items()}
    adapted = nn.Sequential(
        OrderedDict(q=AdaptedLinear(nn.Linear(4, 6), (method := LoRAPlus(r=2, ratio=ratio)), TENSORS))
    )
    groups = optimizer_groups(adapted, method.parameter_groups(), (), Recipe(learning_rate=rate))
    ours = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert {name: ours[id(adapted.get_parameter(f"q.adapter.{name}"))] for name in "AB"} == expected


def lora_xs_and_its_singular_values(shape: tuple[int, int]) -> tuple[Map, Tensor]:
    adapted = Map.of(LoraXS(r=4, alpha=6.0), normal(*shape, dtype=torch.float32)).train()
    return adapted, torch.linalg.svdvals(adapted.weight)[:4]


@on_every_shape
def test_lora_xs_is_psoft_without_its_constraints(shape: tuple[int, int]) -> None:
    """PSOFT trains Sigma (R' - I) between U and V^T: R' = I + s Sigma^-1 R Sigma is LoRA-XS."""
    adapted, S = lora_xs_and_its_singular_values(shape)
    free = {"psoft_orth": False, "psoft_mag_a": False, "psoft_mag_b": False, "psoft_svd": "full"}
    model = peft.get_peft_model(OneMap(adapted.weight), peft.PsoftConfig(r=4, target_modules=["q"], **free))
    matrix = torch.eye(4) + 6.0 / 4 * adapted.p.R * S / S[:, None]
    model.base_model.model.q.psoft_R["default"].weight.data = matrix
    x = normal(5, shape[1], dtype=torch.float32)
    assert_close(adapted(x), model(x).detach(), 1e-4)
    assert_close(adapted.merged, model.merge_and_unload().q.weight.detach(), 1e-4)


@on_every_shape
def test_lora_xs_is_tinylora_with_one_number_per_entry(shape: tuple[int, int]) -> None:
    """TinyLoRA splits Sigma between both bases: R' = s Sigma^-1/2 R Sigma^1/2, its projections the unit matrices."""
    adapted, S = lora_xs_and_its_singular_values(shape)
    model = peft.get_peft_model(OneMap(adapted.weight), peft.TinyLoraConfig(r=4, u=16, target_modules=["q"]))
    layer = model.base_model.model.q
    layer.tinylora_P["default"] = torch.eye(16).reshape(16, 4, 4)
    (vector,) = layer.tinylora_v["default"].values()
    vector.data = (6.0 / 4 * adapted.p.R * (S / S[:, None]).sqrt()).flatten()
    x = normal(5, shape[1], dtype=torch.float32)
    assert_close(adapted(x), model(x).detach(), 1e-4)
    assert_close(adapted.merged, model.merge_and_unload().q.weight.detach(), 1e-4)
