"""Trials in one model are what they are alone, whatever goes on beside them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from pack_support import LINEAR, Heard, assert_as_alone, make_trial, together

from harness import backbones
from harness.pack import batches, trainer, width
from harness.pack.run import run_trials
from harness.plugins import discover
from harness.settings import Settings
from harness.trial import Start


def test_every_linear_method_in_one_pack_is_what_it_is_alone(toys: Settings) -> None:
    trials = [make_trial(toys, method) for method in (*LINEAR, "head_only")]
    trials += [make_trial(toys, method, seed=1) for method in ("lora", "dora", "qr_lora")]
    records = together(trials, toys)
    assert {record.costs.pack_trials for record in records.values()} == {len(trials)}
    for trial in trials:
        assert_as_alone(records[trial.id], toys)


def test_recipes_ranks_and_biases_mix(toys: Settings) -> None:
    trials = [
        make_trial(toys),
        make_trial(toys, learning_rate=1e-3, weight_decay=0.3, schedule="cosine"),
        make_trial(toys, parameters={"r": 4, "targets": "q,v,o,up,down"}),
        make_trial(toys, parameters={"bias": True, "targets": "q,up"}),
        make_trial(toys, "dora", parameters={"bias": True}),
        make_trial(toys, clip=0.0, warmup_ratio=0.5, train_size=21),
        make_trial(toys, head_learning_rate=5e-3),  # one rate for all
    ]
    records = together(trials, toys)
    for trial in trials:
        assert_as_alone(records[trial.id], toys)


def test_accumulated_steps_are_those_of_the_trial_alone(toys: Settings) -> None:
    trials = [make_trial(toys, seed=seed, accumulation=3, train_size=size) for seed, size in ((0, 20), (1, 17))]
    records = together(trials, toys)
    for trial in trials:
        assert_as_alone(records[trial.id], toys)


@pytest.mark.parametrize("task", ["paraphrase", "similarity", "arithmetic"])
def test_starter_tasks_give_the_same_predictions(task: str, settings: Settings) -> None:
    changes = {"max_length": 64, "train_size": 48, "select_rows": 20, "learning_rate": 2e-3, "batch_size": 16}
    trials = [make_trial(settings, method, task, **changes) for method in ("lora", "qr_lora")]
    records = together([*trials, dataclasses.replace(trials[0], seed=1)], settings)
    for trial in trials:
        assert_as_alone(records[trial.id], settings)


def test_a_pack_stands_on_a_shared_warm_up(toys: Settings) -> None:
    start = Start("warmup", epochs=1, learning_rate=1e-3)
    trials = [make_trial(toys, method, start=start) for method in ("lora", "qr_lora", "head_only")]
    records = together(trials, toys)
    for trial in trials:
        assert_as_alone(records[trial.id], toys)
        assert records[trial.id].costs.start_seconds is not None


def test_waiting_trials_enter_when_others_have_ended(toys: Settings) -> None:
    sizes = [(1, 16), (3, 30), (2, 24), (1, 30), (2, 9)]
    trials = [make_trial(toys, epochs=epochs, train_size=size) for epochs, size in sizes]
    records = together(trials, toys, width=2)
    assert [records[trial.id].costs.pack_trials for trial in trials] == [2, 2, 2, 2, 1]
    for trial in trials:
        assert_as_alone(records[trial.id], toys)


def test_what_is_no_number_in_one_trial_leaves_the_others_bits(toys: Settings) -> None:
    sound = [make_trial(toys, method, seed=1) for method in ("lora", "lora_xs")]
    wild, tame = make_trial(toys, learning_rate=1e38, clip=0.0), make_trial(toys)
    beside = together([sound[0], wild, sound[1]], toys)
    normal = together([sound[0], tame, sound[1]], toys)
    assert (beside[wild.id].status, normal[tame.id].status) == ("diverged", "ok")
    for trial in sound:
        assert beside[trial.id].losses == normal[trial.id].losses
        assert beside[trial.id].scores == normal[trial.id].scores


def test_too_little_memory_halves_a_pack_and_loses_nothing(toys: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    step, widths = trainer.PackTrainer._step, []

    def narrow(self: Any, stack: Any) -> Any:
        widths.append(len(stack.slots))
        if len(stack.slots) > 2 and len(widths) > 3:
            torch.empty(10**15)  # the allocator of the CPU raises a plain RuntimeError
        return step(self, stack)

    monkeypatch.setattr(trainer.PackTrainer, "_step", narrow)
    trials = [make_trial(toys, seed=seed) for seed in range(5)]
    records = together(trials, toys)
    assert widths[:5] == [5, 5, 5, 5, 2]
    for trial in trials:
        assert_as_alone(records[trial.id], toys)


def test_a_pack_that_cannot_go_on_is_finished_one_by_one(
    toys: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fault(self: Any, stack: Any) -> Any:
        raise RuntimeError("planned fault")

    monkeypatch.setattr(trainer.PackTrainer, "_step", fault)
    trials = [make_trial(toys, seed=seed) for seed in range(2)]
    records = together(trials, toys)
    assert [(records[trial.id].status, records[trial.id].costs.pack_trials) for trial in trials] == [("ok", None)] * 2
    assert "planned fault" in capsys.readouterr().err


def test_a_trial_that_cannot_be_attached_ends_alone(toys: Settings) -> None:
    broken = make_trial(toys, parameters={"targets": "gate"})
    sound = make_trial(toys)
    records = together([broken, sound], toys)
    assert (records[broken.id].status, records[sound.id].status) == ("failed", "ok")
    assert "gate" in records[broken.id].reason


def test_a_method_that_trains_more_than_it_said_runs_alone(toys: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = discover(toys.plugin_files).methods
    monkeypatch.setattr(methods["ft"], "packable", True)
    trials = [make_trial(toys, "ft"), make_trial(toys)]
    records = together(trials, toys)
    assert [records[trial.id].costs.pack_trials for trial in trials] == [None, 1]
    assert_as_alone(records[trials[0].id], toys)


def test_a_packed_run_measures_everything_alone(toys: Settings) -> None:
    trials = [make_trial(toys, seed=seed) for seed in range(3)]
    for record in together(trials, toys).values():
        costs = dataclasses.asdict(record.costs)
        assert {name for name, value in costs.items() if value is None} == {"start_seconds"}
        assert 0 < costs["pack_share_seconds"] < costs["pack_seconds"]
        assert costs["train_seconds"] == pytest.approx(costs["step_seconds"] * 10)


def test_the_head_drawn_into_a_loaded_model_is_the_one_that_loading_draws(settings: Settings) -> None:
    task = discover().tasks["paraphrase"]
    backbone = backbones.resolve("starter-encoder", settings)
    loaded, other = (backbones.load(backbone, task, seed, settings) for seed in (1, 2))
    backbones.draw_head(loaded, task, 2)
    mine, theirs = (model.model.get_submodule(loaded.head[0]).state_dict() for model in (loaded, other))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_the_same_pack_gives_the_same_bits_with_dropout(toys: Settings) -> None:
    trials = [make_trial(toys, seed=seed, backbone_dropout=0.2) for seed in range(2)]
    first, second = together(trials, toys), together(trials, toys)
    assert [first[trial.id].losses for trial in trials] == [second[trial.id].losses for trial in trials]


@pytest.mark.parametrize(("fault", "packed"), [(False, 2), (True, None)])
def test_verify_runs_trials_alone_where_a_pack_differs(
    fault: bool,
    packed: int | None,
    toys: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if fault:
        losses = batches.trial_losses
        monkeypatch.setattr(trainer, "trial_losses", lambda *given: 1.5 * losses(*given))
    monkeypatch.setattr(width, "paying_width", lambda *given: 1)  # verify packs all the same
    heard, trials = Heard(), [make_trial(toys, seed=seed, backbone_dropout=0.1) for seed in range(2)]
    run_trials(trials, dataclasses.replace(toys, pack="verify"), heard)
    assert [heard.records[trial.id].costs.pack_trials for trial in trials] == [packed] * 2
    assert all(("pack_check" in record.provenance) is not fault for record in heard.records.values())
    assert ("differs from its trials alone" in capsys.readouterr().err) is fault


def test_kept_adapters_of_a_pack_are_those_of_the_trials_alone(toys: Settings) -> None:
    from harness.kept import KeptTensors
    from harness.runner import run_trial

    keeping = dataclasses.replace(toys, keep_adapters=True)
    trial = make_trial(toys, "pissa")
    together([trial, make_trial(toys, seed=1)], keeping)
    packed = KeptTensors(toys.cache_root, trial.id).load(2)
    run_trial(trial, keeping)
    alone = KeptTensors(toys.cache_root, trial.id).load(2)
    assert packed is not None
    assert alone is not None
    assert packed.keys() == alone.keys()
    for name, value in packed.items():
        torch.testing.assert_close(value, alone[name], rtol=1e-3, atol=1e-5)
