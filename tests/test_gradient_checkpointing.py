"""Gradient checkpointing: the same losses from fewer kept activations, and the same identity where it is off."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from test_runner import good, make, numbers
from torch import Tensor, nn

from harness import activations, backbones
from harness.errors import UserError
from harness.plugins import discover
from harness.settings import Settings
from harness.trial import Backbone, Recipe, Start, trial_from_json

RECIPE = Recipe(epochs=1, batch_size=16, learning_rate=2e-3, head_learning_rate=2e-3, select_rows=20)


@pytest.mark.parametrize(
    ("method", "task", "start"),
    [
        ("lora", "arithmetic", Start()),
        ("lora_sb", "paraphrase", Start("warmup", epochs=1, learning_rate=1e-3)),
    ],
)
def test_losses_scores_and_predictions_do_not_change(method: str, task: str, start: Start, settings: Settings) -> None:
    recipe = dataclasses.replace(RECIPE, backbone_dropout=0.1)
    plain = make(method, settings, task, recipe=recipe, start=start, train_size=32)
    recomputed = dataclasses.replace(plain, recipe=dataclasses.replace(recipe, gradient_checkpointing=True))
    first = good(plain, settings)
    second = good(recomputed, dataclasses.replace(settings, cache_root=settings.cache_root / "other"))
    assert first.losses
    assert numbers(first) == numbers(second)
    assert first.costs.train_flops == second.costs.train_flops


def kept_bytes(model: nn.Module, batch: dict[str, Tensor], wanted: bool) -> int:
    """Bytes that autograd keeps between forward and backward, each storage once."""
    kept: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with activations.checkpointing(model, wanted), torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        loss = model.train()(**batch).loss
    held = sum(kept.values())
    loss.backward()
    return held


def test_fewer_activations_are_kept(settings: Settings) -> None:
    task = discover().tasks["arithmetic"]
    resolved: Backbone = backbones.resolve("starter-decoder", settings)
    model = backbones.load(resolved, task, 0, settings).model
    ids = torch.arange(4 * 48).reshape(4, 48) % 90 + 5
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    assert kept_bytes(model, batch, wanted=True) < 0.5 * kept_bytes(model, batch, wanted=False)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients


def test_a_model_without_it_is_refused() -> None:
    with (
        pytest.raises(UserError, match="Linear knows no gradient checkpointing"),
        activations.checkpointing(nn.Linear(2, 2), True),
    ):
        pass


def test_trials_of_before_keep_their_id(settings: Settings) -> None:
    trial = make("lora", settings, recipe=RECIPE)
    assert "gradient_checkpointing" not in trial.canonical
    on = dataclasses.replace(trial, recipe=dataclasses.replace(RECIPE, gradient_checkpointing=True))
    assert on.id != trial.id
    assert trial_from_json(on.canonical) == on
