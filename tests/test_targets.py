"""Canonical targets across model families, layer scopes, and what is said when nothing matches."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from harness.backbones import meta_model
from harness.errors import UserError
from harness.settings import Settings
from harness.targets import select_modules

FAMILIES = {
    "bert": {"intermediate_size": 32},
    "roberta": {"intermediate_size": 32},
    "electra": {"intermediate_size": 32, "embedding_size": 16},
    "llama": {"intermediate_size": 32},
    "mistral": {"intermediate_size": 32},
    "gemma": {"intermediate_size": 32, "head_dim": 8},
    "qwen2": {"intermediate_size": 32},
}


def tiny(model_type: str) -> torch.nn.Module:
    config = AutoConfig.for_model(
        model_type,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=50,
        pad_token_id=0,
        **FAMILIES[model_type],
    )
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("target", "shape"), [("q", (16, 16)), ("o", (16, 16)), ("up", (32, 16)), ("down", (16, 32))])
def test_each_canonical_name_finds_one_map_per_layer(family: str, target: str, shape: tuple[int, int]) -> None:
    found = select_modules(tiny(family), target, "all")
    assert [item.layer for item in found] == [0, 1, 2]
    assert {item.shape for item in found} == {shape}


def test_down_does_not_select_the_attention_output() -> None:
    modules = [item.module for item in select_modules(tiny("roberta"), "down", "all")]
    assert modules == [f"roberta.encoder.layer.{layer}.output.dense" for layer in range(3)]


def test_last_layers_only() -> None:
    assert [item.layer for item in select_modules(tiny("bert"), "q,v", "last:2")] == [1, 1, 2, 2]
    assert len(select_modules(tiny("bert"), "q", "last:9")) == 3


def test_a_regex_selects_whole_names() -> None:
    found = select_modules(tiny("bert"), r"re:.*\.1\.attention\.self\.(query|key)", "all")
    assert [item.module.rsplit(".", 1)[1] for item in found] == ["query", "key"]
    with pytest.raises(UserError, match="matches nothing"):
        select_modules(tiny("bert"), "re:query", "all")


@pytest.mark.parametrize(
    ("targets", "layers", "message"),
    [
        ("gate", "all", "'gate' matches nothing in this backbone; it has: q, k, v, o, up, down"),
        ("q,gate", "all", "target 'gate' matches nothing"),
        ("querry", "all", "unknown target 'querry'"),
        ("dwon", "all", "did you mean 'down'"),
        ("", "all", "targets is empty"),
        ("re:(", "all", "not a regular expression"),
        (r"re:.*LayerNorm", "all", "is a LayerNorm, not a linear layer"),
        (r"re:.*(query|classifier)", "all", "matches classifier, a part of the head"),
        (r"re:.*pooler\.dense", "last:1", "matches no map of a numbered layer; choose layers = 'all'"),
        ("q", "last:0", "neither 'all' nor 'last:N'"),
        ("q", "first:2", "neither 'all' nor 'last:N'"),
    ],
)
def test_a_target_that_cannot_be_used_is_explained(targets: str, layers: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        select_modules(tiny("bert"), targets, layers, ("classifier",))


def test_a_regex_may_name_a_map_outside_the_layers() -> None:
    found = select_modules(tiny("bert"), r"re:.*\.(1\.attention\.self\.query|pooler\.dense)", "all")
    assert [(item.module, item.layer) for item in found] == [
        ("bert.encoder.layer.1.attention.self.query", 1),
        ("bert.pooler.dense", -1),
    ]


def test_shipped_dimensions_have_all_seven_maps_of_a_llama_like_decoder() -> None:
    settings = Settings(data_root=None, models_root=None)
    model, head = meta_model("mistral-7b", "generation", 1, settings)
    found = select_modules(model, "q,k,v,o,up,down,gate", "all")
    assert len(found) == 224
    assert head == ()
    assert {item.shape for item in found} == {(4096, 4096), (1024, 4096), (14336, 4096), (4096, 14336)}
