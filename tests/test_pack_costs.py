"""What a packed run is said to cost is what its trial costs alone, and a pack leaves nothing behind."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pack_support import make_trial, together

from harness import bench, costs, measure, memory, memory_estimate
from harness.counts import Counts
from harness.pack import solo, trainer
from harness.runner import run_trial
from harness.settings import Settings
from harness.trial import Trial


@pytest.fixture(autouse=True)
def nothing_measured_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solo, "_CACHE", {})
    monkeypatch.setattr(costs, "_CACHE", {})
    monkeypatch.setattr(costs, "_may_share", lambda bench: False)


def attached(trial: Trial, settings: Settings) -> tuple[bench.Stage, Any]:
    """The trial's model as it is trained alone, and the attachment."""
    prepared = bench.prepare(trial, settings)
    stage = bench.load(prepared, torch.device("cpu"))
    return stage, bench.attach(prepared, stage, bench.Started())[0]


def test_epochs_evaluated_together_count_beside_those_evaluated_alone(
    toys: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solo.SoloTimes, "eval_seconds", lambda self, sizes: 1000.0)
    short, long = (make_trial(toys, epochs=epochs, train_size=16) for epochs in (1, 3))
    records = together([short, long], toys)
    assert records[short.id].costs.eval_seconds == 1000
    assert 1000 < (records[long.id].costs.eval_seconds or 0) < 1100  # two more epochs, timed


def test_memory_counts_the_backbones_maps_beside_those_that_replace_them(
    toys: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "growth", lambda before: 0)  # what remains are the tensors that are held
    trials = [make_trial(toys, method, epochs=1, train_size=16) for method in ("pissa", "lora", "lora_xs")]
    trials.append(make_trial(toys, epochs=1, train_size=16, parameters={"bias": True, "targets": "q,up"}))
    records = together(trials, toys)
    for trial in trials:
        stage, attachment = attached(trial, toys)
        replaced = [value for original in attachment.originals.values() for value in original.parameters()]
        held = measure.tensor_bytes([*stage.model.parameters(), *stage.model.buffers(), *replaced])
        assert records[trial.id].costs.peak_memory_bytes == held


@pytest.fixture
def checkpointed(monkeypatch: pytest.MonkeyPatch) -> set[bool]:
    """Whether steps of packs were computed with gradient checkpointing."""
    seen: set[bool] = set()
    step = trainer.PackTrainer._step

    def watched(self: Any, stack: Any) -> Any:
        seen.add(any(getattr(module, "gradient_checkpointing", False) for module in stack.model.modules()))
        return step(self, stack)

    monkeypatch.setattr(trainer.PackTrainer, "_step", watched)
    return seen


@pytest.mark.parametrize("missing", [0, 1])
def test_a_pack_is_checkpointed_where_its_trials_would_be(
    missing: int, toys: Settings, checkpointed: set[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [make_trial(toys, seed=seed, epochs=1, train_size=16) for seed in range(2)]
    model = attached(trials[0], toys)[0].model
    counts = Counts(measure.trainable_parameters(model, ()), 0, measure.total_parameters(model))
    needed = memory_estimate.training_bytes(counts, model.config, trials[0].recipe) or 0
    monkeypatch.setattr(memory_estimate, "device_memory", lambda device: needed - missing)
    records = together(trials, toys)
    assert checkpointed == {bool(missing)}
    facts = [records[trial.id].provenance.get("gradient_checkpointing") for trial in trials]
    assert facts == ["chosen by memory" if missing else None] * 2


def test_who_enters_a_checkpointed_pack_is_counted_as_alone_and_leaves_it_checkpointed(
    toys: Settings, checkpointed: set[bool]
) -> None:
    plans = [("lora", 1), ("lora", 3), ("lora_sb", 1), ("dora", 1)]
    trials = [
        make_trial(toys, method, epochs=epochs, seed=number, train_size=16, gradient_checkpointing=True)
        for number, (method, epochs) in enumerate(plans)
    ]
    records = together(trials, toys, width=2)
    assert checkpointed == {True}
    costs._CACHE.clear()
    for trial in trials[2:]:
        assert records[trial.id].costs.train_flops == run_trial(trial, toys).costs.train_flops


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_pack_that_has_ended_gives_its_model_up_at_once(
    toys: Settings, monkeypatch: pytest.MonkeyPatch, no_collection: None
) -> None:
    models: list[weakref.ref[Any]] = []
    load = bench.load

    def watched(prepared: bench.Bench, device: torch.device) -> bench.Stage:
        stage = load(prepared, device)
        models.append(weakref.ref(stage.model))
        return stage

    monkeypatch.setattr(bench, "load", watched)
    together([make_trial(toys, seed=seed, epochs=1, train_size=16) for seed in range(2)], toys)
    assert [model() for model in models] == [None]


def test_a_pack_is_timed_from_one_epochs_end_to_the_next(toys: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[list[tuple[float, int]]] = []

    def kept(given: list[tuple[float, int]]) -> float:
        shares.append(given)
        return 0.0

    monkeypatch.setattr(measure, "pack_share_seconds", kept)
    together([make_trial(toys, train_size=size) for size in (16, 32)], toys)  # 2 and 4 steps in each of two epochs
    assert [[trials for _, trials in given] for given in shares] == [[2, 2], [2, 2, 1]]
    assert all(seconds > 0 for given in shares for seconds, _ in given)


def test_flops_counted_on_single_rows_are_not_those_of_larger_batches(toys: Settings) -> None:
    """DoRA computes the norms of the adapted weight once for a batch, however many rows there are."""

    def flops(batch_size: int, parts: int = 0) -> float:
        trial = make_trial(toys, "dora", batch_size=batch_size, train_size=16)
        prepared = bench.prepare(trial, toys, parts)
        meter = costs.Meter()
        meter.count(prepared, attached(trial, toys)[0])
        assert meter.steps is not None
        assert meter.steps.train is not None
        return meter.steps.train.flops(8, 12)

    fresh = flops(8)
    costs._CACHE.clear()
    flops(1)
    assert flops(8) == fresh
    costs._CACHE.clear()
    assert flops(3, parts=2) == fresh  # in micro-batches of two rows and one
