"""The loss from labelled positions is transformers' own, with its gradients, and no logits are kept whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from harness import language_loss, loop
from harness.language_loss import LABELLED, labelled_loss, located, loss_function
from harness.trial import Recipe

VOCABULARY = 97
SMALL = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def llama(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SMALL, intermediate_size=24, num_key_value_heads=1, **changes))


def models() -> dict[str, nn.Module]:
    """Of each, whether the model is its inner model and an output embedding."""
    torch.manual_seed(0)
    return {
        "llama": llama(),
        "llama tied": llama(tie_word_embeddings=True),
        "gpt2": GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=1, n_head=2)),
        "opt": OPTForCausalLM(OPTConfig(**SMALL, ffn_dim=24, word_embed_proj_dim=16)),
    }


def batch() -> dict[str, Tensor]:
    """Three padded rows with 4, 1 and 7 labelled tokens."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, VOCABULARY, (3, 11), generator=generator)
    mask, labels = torch.ones_like(ids), ids.clone()
    for row, (length, answer) in enumerate([(11, 4), (6, 1), (9, 7)]):
        mask[row, length:] = 0
        labels[row, : length - answer] = -100
        labels[row, length:] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (3 * loss).backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("frozen", [False, True], ids=["all trained", "output embedding frozen"])
@pytest.mark.parametrize("name", models())
def test_loss_and_gradients_are_those_of_transformers(name: str, frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models()[name]
    model.get_output_embeddings().requires_grad_(not frozen)  # type: ignore[operator]
    monkeypatch.setattr(language_loss, "CHUNK_BYTES", 5 * 4 * VOCABULARY)  # 12 labels in chunks of 5, 5 and 2
    model.eval()
    plain, ours = model(**batch()).loss, labelled_loss(model, batch())
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=0)
    expected, found = gradients(model, plain), gradients(model, ours)
    assert expected.keys() == found.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-7)


def test_no_logits_are_kept_and_no_more_than_a_chunk_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    monkeypatch.setattr(language_loss, "CHUNK_BYTES", 5 * 4 * VOCABULARY)
    kept: list[torch.Size] = []
    made: list[torch.Size] = []
    model.get_submodule("lm_head").register_forward_hook(lambda module, inputs, output: made.append(output.shape))

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = labelled_loss(model.train(), batch())
    loss.backward()
    assert made == [(5, VOCABULARY), (5, VOCABULARY), (2, VOCABULARY)]
    weight = model.get_parameter("lm_head.weight").numel()
    assert not [shape for shape in kept if VOCABULARY in shape and 5 * VOCABULARY < shape.numel() != weight]


def test_labels_that_were_located_on_the_host_are_not_asked_for_on_the_device() -> None:
    """On the meta device, which knows no values to wait for."""
    model = llama().to("meta")
    told = located({name: value for name, value in batch().items() if name != "attention_mask"})
    labelled_loss(model, {name: value.to("meta") for name, value in told.items()}).backward()
    assert model.get_parameter("lm_head.weight").grad is not None


def test_located_labels_change_no_bit() -> None:
    """Of loss and gradients, against the same computed from masks."""
    model = llama()
    found = labelled_loss(model, located(batch()))
    mine = gradients(model, found)
    carries = batch()["labels"][:, 1:] != -100
    inputs = {name: value for name, value in batch().items() if name != "labels"}
    hidden, head = model.get_submodule("model")(**inputs).last_hidden_state, model.get_submodule("lm_head")
    targets = batch()["labels"][:, 1:][carries]
    total = language_loss._ChunkedLoss.apply(hidden[:, :-1][carries], targets, head, 10**6, *head.parameters())
    assert torch.equal(found, total / carries.sum())
    for name, value in gradients(model, total / carries.sum()).items():
        assert torch.equal(mine[name], value)


def test_a_model_with_a_loss_of_its_own_is_not_told_where_labels_are() -> None:
    from peft import PromptTuningConfig, get_peft_model

    prompted = get_peft_model(llama(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    assert torch.equal(loss_function(prompted, batch())(located(batch())), prompted(**batch()).loss)


def test_training_locates_labels_before_a_batch_goes_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    plain = labelled_loss

    def watched(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        told.append(LABELLED in batch)
        return plain(model, batch)

    monkeypatch.setattr(language_loss, "labelled_loss", watched)
    model, recipe = llama(), Recipe()
    parameters = list(model.parameters())
    hooks = loop.Hooks(lambda epoch: None)
    trainer = loop.Trainer(model, [{"params": parameters}], parameters, recipe, 1, loop.Progress(), hooks)
    trainer.step([batch(), batch()])
    assert told == [True, True]


def test_nothing_is_differentiated_where_nothing_is_wanted() -> None:
    model = llama()
    with torch.no_grad():
        loss = labelled_loss(model, batch())
    assert not loss.requires_grad
    model.requires_grad_(False)
    assert not labelled_loss(model, batch()).requires_grad


def chosen(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the model's loss is computed from labelled positions."""
    used: list[bool] = []
    monkeypatch.setattr(language_loss, "labelled_loss", lambda *_: used.append(True))
    loss_function(model, batch())(batch())
    return bool(used)


@pytest.mark.parametrize("name", models())
def test_plain_language_models_are_recognised(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models()[name].train()
    assert chosen(model, monkeypatch)
    assert model.training


def test_a_model_that_does_more_to_its_logits_computes_its_own_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    capped = Gemma2ForCausalLM(
        Gemma2Config(**SMALL, intermediate_size=24, num_key_value_heads=1, head_dim=8, final_logit_softcapping=30.0)
    )
    assert not chosen(capped, monkeypatch)


def test_a_model_that_changes_its_inputs_first_computes_its_own_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PromptTuningConfig, get_peft_model

    prompted = get_peft_model(llama(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    assert not chosen(prompted, monkeypatch)


def test_a_classifier_computes_its_own_loss() -> None:
    class Classifier(nn.Module):
        def forward(self, labels: Tensor) -> Any:
            return type("Output", (), {"loss": labels.sum()})

    labels = torch.tensor([1, 2])
    assert loss_function(Classifier(), {"labels": labels})({"labels": labels}) == 3
