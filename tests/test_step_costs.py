"""FLOPs per step are counted once for all processes, and anew for whatever may differ."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from pack_support import make_trial

from harness import bench, costs
from harness.plugins import make_method
from harness.settings import Settings
from harness.trial import Trial

EXAMPLE = Path(__file__).parent / "example_plugin" / "peft_harness_example.py"


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods whose steps were counted."""
    found: list[str] = []
    really = costs._count

    def count(prepared: bench.Bench, stage: bench.Stage) -> costs.StepCosts:
        found.append(prepared.trial.method)
        return really(prepared, stage)

    monkeypatch.setattr(costs, "_count", count)
    return found


@pytest.fixture(autouse=True)
def another_process(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Forgets what this process has counted."""

    def forget() -> None:
        monkeypatch.setattr(costs, "_CACHE", {})

    forget()
    return forget


def step_costs(trial: Trial, settings: Settings, **attached: Any) -> costs.StepCosts:
    """As the trial's run would know them, or with the method's parameters other than the trial says."""
    prepared = bench.prepare(trial, settings)
    if attached:
        prepared = dataclasses.replace(prepared, method=make_method(type(prepared.method), attached))
    stage = bench.load(prepared, torch.device("cpu"))
    bench.attach(prepared, stage, bench.Started())
    meter = costs.Meter()
    meter.count(prepared, stage)
    assert meter.steps is not None
    return meter.steps


def test_what_one_process_has_counted_the_next_one_reads(
    toys: Settings, counts: list[str], another_process: Any
) -> None:
    first = [step_costs(make_trial(toys, method), toys) for method in ("lora", "dora", "head_only", "warmup_only")]
    another_process()
    later = [
        step_costs(make_trial(toys, method, seed=1, train_size=16, learning_rate=1.0), toys)
        for method in ("lora", "dora", "head_only", "warmup_only")
    ]
    assert later == first
    assert counts == ["lora", "dora", "head_only", "warmup_only"]
    assert len({repr(steps) for steps in first}) == 4
    assert first[3].train is None


def test_a_method_whose_sources_the_project_does_not_have_is_counted_by_every_process(
    toys: Settings, counts: list[str], another_process: Any
) -> None:
    own = dataclasses.replace(toys, plugin_files=(*toys.plugin_files, EXAMPLE))
    trial = make_trial(own, "example_gain")
    first = step_costs(trial, own)
    another_process()
    assert step_costs(trial, own) == first
    assert counts == ["example_gain"] * 2


def test_other_shapes_under_one_configuration_are_told_apart(toys: Settings, counts: list[str]) -> None:
    """A rank may be read off weights or rows, which the trial does not tell."""
    trial = make_trial(toys, parameters={"r": 2})
    small, large = (step_costs(trial, toys, r=rank) for rank in (2, 4))
    assert small.train is not None
    assert large.train is not None
    assert small.train.flops(1, 8) < large.train.flops(1, 8)
    assert counts == ["lora", "lora"]


def test_processes_that_share_a_model_do_not_read_what_others_counted(toys: Settings) -> None:
    """One that found it and one that did not would wait for each other without end."""
    whole = bench.prepare(make_trial(toys), toys)
    assert costs._may_share(whole)
    assert not costs._may_share(bench.prepare(make_trial(toys, shards=2), toys))
