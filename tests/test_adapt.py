"""Attaching a method to a model, and taking it off; what holds for every method is in test_checks.py."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaForSequenceClassification

from harness.adapt import AdaptedLinear, Attachment, Support, attach
from harness.api import LinearMethod, Method, Trainable
from harness.decompositions import CachedDecompositions
from harness.errors import UserError
from harness.plugins import discover, make_method

METHODS = discover().methods
LINEAR = sorted(name for name, cls in METHODS.items() if issubclass(cls, LinearMethod))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=60,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=40,
        max_position_embeddings=40,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return RobertaForSequenceClassification(config).eval()


def support(model: nn.Module, folder: Path) -> Support:
    gradients = {
        name: torch.randn(module.weight.shape, generator=torch.Generator().manual_seed(len(name)))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    pretrained = copy.deepcopy(model)
    return Support(
        CachedDecompositions(folder), lambda name: pretrained.get_parameter(f"{name}.weight").detach(), gradients, 1e-3
    )


def attached(model: nn.Module, name: str, folder: Path, seed: int = 0, **values: object) -> tuple[Attachment, Method]:
    cls = METHODS[name]
    rank = {"r": 4} if name != "svd_lora" and "r" in cls.__dataclass_fields__ else {}
    method = make_method(cls, {**rank, **values})
    return attach(model, method, ("classifier",), seed, support(model, folder)), method


def batch() -> dict[str, Tensor]:
    ids = torch.randint(3, 60, (5, 9), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([0, 1, 1, 0, 1])}


def step(model: nn.Module) -> None:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # no epsilon: on so small a model the attention's gradients are tiny, and every tensor must be seen to move
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, eps=1e-30)
    model(**batch()).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", LINEAR)
def test_merging_keeps_the_function_and_detaching_restores_the_bits(
    name: str, model: nn.Module, tmp_path: Path
) -> None:
    before = state(model)
    attachment, _ = attached(model, name, tmp_path)
    for _ in range(2):
        step(model)
    adapted = model(**batch()).logits
    head = {key: value for key, value in state(model).items() if key.startswith("classifier.")}
    attachment.merge()
    assert not any(isinstance(module, AdaptedLinear) for module in model.modules())
    torch.testing.assert_close(model(**batch()).logits, adapted, rtol=1e-4, atol=1e-5)
    attachment.detach()
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], head.get(key, before[key])) for key in before)


def test_a_trained_bias_is_counted_and_never_reaches_the_backbone(model: nn.Module, tmp_path: Path) -> None:
    before = state(model)
    attachment, _ = attached(model, "lora", tmp_path, bias=True)
    counted = sum(v.numel() for k, v in model.named_parameters() if v.requires_grad and "classifier" not in k)
    assert counted == 2 * 2 * (4 * (24 + 24) + 24)
    step(model)
    attachment.detach()
    backbone = {key: value for key, value in model.state_dict().items() if not key.startswith("classifier.")}
    assert all(torch.equal(value, before[key]) for key, value in backbone.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_frozen_weight_is_shared_not_copied(dtype: torch.dtype, model: nn.Module, tmp_path: Path) -> None:
    model.to(dtype)
    original = model.get_parameter("roberta.encoder.layer.0.attention.self.query.weight")
    attachment, _ = attached(model, "lora", tmp_path)
    adapted = attachment.adapted("roberta.encoder.layer.0.attention.self.query")
    assert adapted.base.weight.data_ptr() == original.data_ptr()


def test_a_failing_initialisation_leaves_nothing_attached(model: nn.Module, tmp_path: Path) -> None:
    before = state(model)
    with pytest.raises(UserError, match=r"lora_xs.*r = 25.*layer.0"):
        attached(model, "lora_xs", tmp_path, r=25)
    assert model.state_dict().keys() == before.keys()
    assert not any(isinstance(module, AdaptedLinear) for module in model.modules())


QUERY = "roberta.encoder.layer.1.attention.self.query"


def _damage(model: nn.Module) -> None:
    with torch.no_grad():
        model.get_parameter(f"{QUERY}.weight")[0, 0] = float("nan")


def _tie(model: nn.Module) -> None:
    model.get_submodule(QUERY).weight = model.get_parameter("roberta.encoder.layer.0.attention.self.query.weight")


def _quantise(model: nn.Module) -> None:
    packed = torch.zeros(24 * 12, 1, dtype=torch.uint8)
    model.get_submodule(QUERY).weight = nn.Parameter(packed, requires_grad=False)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_damage, f"pissa: the weight of {QUERY} holds NaN or infinity; the backbone is damaged."),
        (_tie, "pissa: roberta.encoder.layer.0.attention.self.query shares its weight with " + QUERY),
        (_quantise, f"pissa: the weight of {QUERY} is torch.uint8 [288, 1], not [24, 24] numbers: it is quantised"),
    ],
)
def test_a_weight_that_cannot_be_adapted_is_named_and_nothing_is_attached(
    spoil: Callable[[nn.Module], None], message: str, model: nn.Module
) -> None:
    spoil(model)
    method = make_method(METHODS["pissa"], {"r": 4})
    with pytest.raises(UserError) as caught:
        attach(model, method, ("classifier",), 0, Support(None, None))  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)
    assert not any(isinstance(module, AdaptedLinear) for module in model.modules())


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda weight: [weight], "returned list; it must return a mapping"),
        (lambda weight: {"A": weight}, "returned 'A' as Tensor; wrap the tensor in Trainable or Frozen."),
        (lambda weight: {"A": Trainable(weight / 0)}, "gave 'A' NaN or infinity."),
        (lambda weight: weight.no_such_thing, "raised AttributeError: "),
    ],
)
def test_an_init_that_breaks_its_contract_is_named_with_its_map(
    returned: Callable[[Tensor], Any], message: str, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(METHODS["lora"], "init", lambda self, weight, context: returned(weight))
    with pytest.raises(UserError) as caught:
        attached(model, "lora", tmp_path)
    place = "lora: init on roberta.encoder.layer.0.attention.self.query [24, 24] "
    assert str(caught.value).startswith(place + message)
    assert not any(isinstance(module, AdaptedLinear) for module in model.modules())


def test_dropout_acts_on_the_adapter_path_only(model: nn.Module, tmp_path: Path) -> None:
    reference = model(**batch()).logits
    attached(model, "lora", tmp_path, dropout=0.5)
    model.train()  # B = 0: whatever dropout does to the adapter's input, the function is the backbone's
    torch.testing.assert_close(model(**batch()).logits, reference)


@pytest.mark.parametrize(
    ("name", "adapter", "head"), [("ft", True, True), ("head_only", False, True), ("warmup_only", False, False)]
)
def test_methods_without_maps(name: str, adapter: bool, head: bool, model: nn.Module, tmp_path: Path) -> None:
    attached(model, name, tmp_path)
    flags = {key: value.requires_grad for key, value in model.named_parameters()}
    assert {flag for key, flag in flags.items() if not key.startswith("classifier.")} == {adapter}
    assert {flag for key, flag in flags.items() if key.startswith("classifier.")} == {head}


def test_bitfit_trains_every_bias_of_the_backbone_and_the_head(model: nn.Module, tmp_path: Path) -> None:
    attached(model, "bitfit", tmp_path)
    trained = {key for key, value in model.named_parameters() if value.requires_grad}
    head = {key for key, _ in model.named_parameters() if key.startswith("classifier.")}
    assert trained == head | {key for key, _ in model.named_parameters() if key.endswith("bias")}
    assert "roberta.encoder.layer.1.output.LayerNorm.bias" in trained


def test_bitfit_refuses_a_backbone_without_biases() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False))
    with pytest.raises(UserError, match=r"^bitfit: this backbone has no biases"):
        attach(model, make_method(METHODS["bitfit"], {}), (), 0, support(model, Path("/dev/null")))


def test_frozen_tensors_are_shared_between_maps_and_with_the_backbone(model: nn.Module, tmp_path: Path) -> None:
    query, value = (
        f"roberta.encoder.layer.{layer}.attention.self.{name}" for layer, name in ((0, "query"), (1, "value"))
    )
    attachment, _ = attached(model, "vera", tmp_path)
    first, second = attachment.adapted(query).adapter, attachment.adapted(value).adapter
    assert first.A.data_ptr() == second.A.data_ptr()
    assert first.b.data_ptr() != second.b.data_ptr()
    attachment.detach()
    attachment, _ = attached(model, "dora", tmp_path)
    adapted = attachment.adapted(query)
    assert adapted.adapter.W.data_ptr() == adapted.base.weight.data_ptr()


def test_a_frozen_part_of_a_larger_tensor_does_not_keep_it_in_memory(model: nn.Module, tmp_path: Path) -> None:
    attachment, _ = attached(model, "vera", tmp_path, targets="q,up,down")
    A = attachment.adapted("roberta.encoder.layer.0.attention.self.query").adapter.A
    assert A.shape == (4, 24)
    assert A.untyped_storage().nbytes() == A.nbytes
