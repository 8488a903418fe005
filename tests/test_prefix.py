"""Frozen lower layers are computed once per row, and nothing else changes; where it would, the plan is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from test_runner import good, make
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from harness import data, prefix
from harness.api import parameters_of
from harness.backbones import load, resolve
from harness.encoded import Encoded, Ragged
from harness.errors import UserError
from harness.plugins import discover, make_method
from harness.prefix import cached
from harness.preflight import ModelCheck, check_models, model_checks
from harness.records import Member
from harness.settings import Settings
from harness.trial import Backbone, Recipe, Trial

RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=3e-3, head_learning_rate=3e-3, select_rows=20)
QR = {"layers": "last:2"}
SMALL = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "pad_token_id": 0,
}
OFF = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def architectures() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "bert": BertForSequenceClassification(BertConfig(**SMALL, **OFF)),
        "roberta": RobertaForSequenceClassification(RobertaConfig(**SMALL, **OFF)),
        "llama": LlamaForSequenceClassification(LlamaConfig(**SMALL, num_key_value_heads=1)),
    }


def split() -> Encoded:
    ids = [[5 + (row * 7 + step) % 50 for step in range(3 + row % 6)] for row in range(12)]
    return Encoded(Ragged.of(ids), torch.tensor([row % 2 for row in range(12)]))


def only_last(model: nn.Module) -> None:
    """Train the last layer and the head."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".2." in name or name.startswith(("classifier", "score")))


def head_of(model: nn.Module) -> tuple[str, ...]:
    return tuple(name for name, _ in model.named_children() if name in ("classifier", "score"))


def computed(model: nn.Module) -> list[int]:
    """Counts how often each layer's attention is computed."""
    layers = prefix._stack(model)[1]
    counts = [0] * len(layers)
    for number, layer in enumerate(layers):
        attention = layer.get_submodule("attention" if hasattr(layer, "attention") else "self_attn")
        attention.register_forward_hook(lambda *_, number=number: counts.__setitem__(number, counts[number] + 1))
    return counts


@pytest.mark.parametrize("name", architectures())
def test_losses_gradients_and_logits_are_the_same_from_fewer_layers(name: str) -> None:
    model, encoded = architectures()[name].train(), split()
    only_last(model)
    batches = [[0, 5, 7], [11, 2, 3], [7, 11, 0]]  # the last one is of rows that were seen, in new company

    def plain(rows: Any) -> dict[str, Tensor]:
        return data.collate(encoded, rows, 0)

    def results(make: Any) -> list[Tensor]:
        found = []
        for batch in batches:
            model.zero_grad()
            output = model(**make(batch))
            output.loss.backward()
            gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
            found.append(torch.cat([output.logits.detach().flatten(), output.loss.detach()[None], *gradients]))
        return found

    expected = results(plain)
    counts = computed(model)
    with cached(model, head_of(model), True) as cache:
        assert cache is not None
        found = results(cache.remembering(encoded, plain))
    assert counts == [2, 2, 3]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert not any("forward" in vars(layer) for layer in prefix._stack(model)[1])
    torch.testing.assert_close(results(plain)[0], expected[0])


def test_a_split_beyond_the_limit_is_computed_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    model, encoded = architectures()["bert"], split()
    only_last(model)
    monkeypatch.setattr(prefix, "LIMIT_BYTES", 4 * 16 * len(encoded.input_ids.values))  # one position short

    def make(rows: Any) -> dict[str, Tensor]:
        return data.collate(encoded, rows, 0)

    with cached(model, head_of(model), True) as cache:
        assert cache is not None
        assert cache.remembering(encoded, make) is make
        small = dataclasses.replace(encoded, input_ids=Ragged.of([[5, 6]]))
        assert cache.remembering(small, make) is not make


def pair(method: str, settings: Settings, parameters: Any = None, **changes: Any) -> tuple[Trial, Trial]:
    """A trial without and with the cache."""
    values = parameters_of(make_method(discover().methods[method], parameters or {}))
    trial = make(method, settings, **{"recipe": RECIPE, "train_size": 32, "parameters": values, **changes})
    return trial, with_recipe(trial, cache_prefix=True)


def with_recipe(trial: Trial, **changes: Any) -> Trial:
    return dataclasses.replace(trial, recipe=dataclasses.replace(trial.recipe, **changes))


@pytest.mark.parametrize(("method", "parameters"), [("qr_lora", QR), ("head_only", {})])
def test_a_run_has_the_losses_scores_and_predictions_that_it_has_without(
    method: str, parameters: Any, settings: Settings
) -> None:
    plain, quick = pair(method, settings, parameters)
    one, other = good(plain, settings), good(quick, settings)
    assert [loss for _, loss in other.losses] == pytest.approx([loss for _, loss in one.losses], rel=1e-5)
    assert other.scores == one.scores
    assert [item.values for item in other.predictions] == [item.values for item in one.predictions]
    assert other.costs.train_flops == one.costs.train_flops
    assert quick.id != plain.id
    assert "cache_prefix" not in plain.canonical


@pytest.fixture
def minilm(settings: Settings, models_root: Path) -> tuple[Settings, Backbone]:
    settings = dataclasses.replace(settings, models_root=models_root)
    return settings, resolve("sentence-transformers/all-MiniLM-L6-v2", settings)


def test_minilm_gives_the_same_logits(minilm: tuple[Settings, Backbone]) -> None:
    settings, backbone = minilm
    model = load(backbone, discover().tasks["paraphrase"], 0, settings).model.train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".5." in name or name.startswith("classifier"))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    encoded = split()
    batches = [data.collate(encoded, batch, 0) for batch in ([0, 5, 7], [7, 0, 5])]
    expected = [model(**batch).logits for batch in batches]
    with cached(model, ("classifier",), True) as cache:
        assert cache is not None
        make = cache.remembering(encoded, lambda batch: data.collate(encoded, batch, 0))
        found = [model(**make(batch)).logits for batch in ([0, 5, 7], [7, 0, 5])]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def checks(trial: Trial) -> list[ModelCheck]:
    return model_checks([Member("main", trial.method, trial)], discover())


def refusal(trial: Trial, settings: Settings) -> str:
    with pytest.raises(UserError) as caught:
        check_models(checks(trial), settings)
    return str(caught.value)


@pytest.mark.parametrize("method", ["ft", "bitfit", "lora"])
def test_a_method_that_trains_the_first_layer_is_refused(method: str, settings: Settings) -> None:
    line = refusal(pair(method, settings)[1], settings)
    assert f"method '{method}'" in line
    assert "the method trains the first layer" in line
    assert 'layers = "last:N"' in line


def test_dropout_below_is_refused(minilm: tuple[Settings, Backbone]) -> None:
    settings, backbone = minilm
    trial = pair("head_only", settings, backbone=backbone)[1]
    assert "the backbone draws dropout below the first trained layer" in refusal(trial, settings)
    check_models(checks(with_recipe(trial, backbone_dropout=0.0)), settings)
    assert "set backbone_dropout = 0" in refusal(with_recipe(trial, backbone_dropout=0.2), settings)


def test_language_models_are_refused(settings: Settings) -> None:
    quick = pair("lora", settings, {"layers": "last:1"}, task="arithmetic")[1]
    assert "cache_prefix = true is for classification and regression" in refusal(quick, settings)
