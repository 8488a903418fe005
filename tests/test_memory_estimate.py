"""The estimate of training memory against what autograd really keeps, and against the paper's own example."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_runner import good, make, numbers

from harness import bench, memory_estimate
from harness.counts import Counts
from harness.measure import total_parameters, trainable_parameters
from harness.memory_estimate import activation_bytes, training_bytes
from harness.settings import Settings
from harness.trial import Recipe


def kept_bytes(stage: bench.Stage, rows: int) -> int:
    """Bytes that autograd keeps for backward of one batch, each storage once, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in stage.model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batches = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        batches.append(stage.model(**stage.batch(range(rows))).loss)
    return sum(kept.values())


def test_activations_are_about_what_autograd_keeps(settings: Settings) -> None:
    trial = make("ft", settings)
    stage = bench.load(bench.prepare(trial, settings), torch.device("cpu"))
    stage.model.requires_grad_(True)
    stage.model.train()
    length = stage.batch(range(32))["input_ids"].shape[1]
    recipe = dataclasses.replace(trial.recipe, batch_size=32, max_length=length)
    estimated = activation_bytes(stage.model.config, recipe)
    assert estimated == pytest.approx(kept_bytes(stage, 32), rel=0.35)


def test_the_sizes_of_the_paper_s_largest_model() -> None:
    """One trillion parameters: 128 layers, h = 25,600, s = 2,048, one row: 34 s b h per layer, 16 bit."""
    configuration = SimpleNamespace(hidden_size=25_600, num_hidden_layers=128)
    recipe = Recipe(batch_size=1, max_length=2048, precision="bf16")
    assert activation_bytes(configuration, recipe) == 34 * 2048 * 25_600 * 128
    less = dataclasses.replace(recipe, gradient_checkpointing=True)
    assert activation_bytes(configuration, less) == (2 * 128 + 34) * 2048 * 25_600
    halved = dataclasses.replace(recipe, batch_size=2, accumulation=2)
    assert activation_bytes(configuration, halved) == activation_bytes(configuration, recipe)


def test_trained_scalars_cost_gradient_and_moments_and_unknown_ones_an_unknown_amount() -> None:
    configuration = SimpleNamespace(hidden_size=8, num_hidden_layers=1)
    recipe = Recipe(batch_size=1, max_length=4)
    known = training_bytes(Counts(100, 20, 1000), configuration, recipe)
    assert known == 4 * 1000 + 12 * 120 + activation_bytes(configuration, recipe)
    assert training_bytes(Counts(None, 20, None), configuration, recipe) is None


def test_processes_that_share_a_model_hold_a_part_of_it_two_layers_and_their_own_rows() -> None:
    configuration = SimpleNamespace(hidden_size=8, num_hidden_layers=10)
    recipe = Recipe(batch_size=6, max_length=4, shards=4)
    rows = dataclasses.replace(recipe, batch_size=2, shards=1)  # the most that one of the four computes
    held = (4 * 1000 + 12 * 120) // 4 + 2 * 4 * 1000 // 10
    assert training_bytes(Counts(100, 20, 1000), configuration, recipe) == held + activation_bytes(configuration, rows)


def staged(settings: Settings, **changes: Any) -> tuple[bench.Bench, bench.Stage]:
    prepared = bench.prepare(make("lora", settings, **changes), settings)
    stage = bench.load(prepared, torch.device("cpu"))
    bench.attach(prepared, stage, bench.Started())
    return prepared, stage


def test_checkpointing_is_chosen_where_memory_is_estimated_not_to_suffice(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, stage = staged(settings)
    assert not bench.checkpoints(prepared, stage)  # the memory of a CPU is not asked for
    model, recipe = stage.model, prepared.trial.recipe
    counts = Counts(trainable_parameters(model, ()), 0, total_parameters(model))
    needed = training_bytes(counts, model.config, recipe)
    assert needed is not None
    for there, chosen in ((needed, False), (needed - 1, True)):
        monkeypatch.setattr(memory_estimate, "device_memory", lambda device, there=there: there)
        assert bench.checkpoints(prepared, stage) is chosen
    by_recipe = dataclasses.replace(prepared, settings=dataclasses.replace(settings, checkpointing="recipe"))
    assert not bench.checkpoints(by_recipe, stage)


def test_a_run_that_was_checkpointed_by_memory_is_the_same_run_and_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make("lora", settings, train_size=32)
    plain = good(trial, settings)
    monkeypatch.setattr(memory_estimate, "device_memory", lambda device: 1)
    checkpointed = good(trial, settings)
    assert checkpointed.provenance["gradient_checkpointing"] == "chosen by memory"
    assert "gradient_checkpointing" not in plain.provenance
    assert numbers(checkpointed) == numbers(plain)
