"""What a packed run is said to cost is what its trial costs alone, and a pack leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pack_support import make_trial, together

from harness import bench, costs, measure, memory
from harness.pack import solo
from harness.settings import Settings
from harness.trial import Trial


@pytest.fixture(autouse=True)
def nothing_measured_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solo, "_CACHE", {})
    monkeypatch.setattr(costs, "_CACHE", {})


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
