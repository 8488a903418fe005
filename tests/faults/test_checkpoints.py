"""A training that is cut short goes on bit for bit where it was saved, and a saved one that is damaged is left out."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pack_support import make_trial
from safetensors import safe_open

from harness import loop
from harness.checkpoint_files import checkpoint_file, forget_ended, forget_finished
from harness.checkpoints import Checkpoints
from harness.records import RunRecord
from harness.runner import run_trial
from harness.settings import Settings
from harness.trial import Start, Trial


class PowerCut(BaseException):
    """Nothing catches it: like a kill."""


def cut_at(step: int, trial: Trial, settings: Settings) -> None:
    """Run the trial until so many steps are done, and not a moment longer."""

    def progress(done: int, total: int) -> None:
        if done == step:
            raise PowerCut

    with pytest.raises(PowerCut):
        run_trial(trial, settings, progress)


def outcome(record: RunRecord) -> dict[str, Any]:
    """Everything of a run but times and provenance."""
    assert record.status == "ok", record.traceback
    parts = dataclasses.asdict(record)
    for name in ("started_at", "finished_at", "costs", "provenance"):
        parts.pop(name)
    return {**parts, "flops": record.costs.train_flops, "padding": record.costs.padding_share}


@pytest.fixture
def saved(toys: Settings) -> Settings:
    return dataclasses.replace(toys, checkpoint_steps=2)


LONG: dict[str, Any] = {"epochs": 3, "backbone_dropout": 0.2, "schedule": "cosine", "accumulation": 2}
"""Five steps in each of three epochs, with dropout."""


@pytest.mark.parametrize(("method", "step"), [("lora", 3), ("lora", 6), ("ft", 11), ("dora", 15), ("lora_plus", 8)])
def test_a_cut_training_goes_on_bit_for_bit(method: str, step: int, saved: Settings) -> None:
    trial = make_trial(saved, method, **LONG)
    whole = outcome(run_trial(trial, dataclasses.replace(saved, checkpoint_steps=0)))
    cut_at(step, trial, saved)
    assert checkpoint_file(saved.cache_root, trial.id).is_file()
    torch.rand(7)  # the process has gone on with other work
    resumed = run_trial(trial, saved)
    assert outcome(resumed) == whole
    assert resumed.provenance["resumed_at_steps"] == [step - 1 if step % 2 else step - 2]


def test_a_cut_training_with_cached_lower_layers_goes_on_with_the_states_that_it_has_computed(saved: Settings) -> None:
    """The rows of steps that are passed over on the way back have no states yet."""
    trial = make_trial(saved, "head_only", **{**LONG, "backbone_dropout": 0.0, "cache_prefix": True})
    whole = outcome(run_trial(trial, dataclasses.replace(saved, checkpoint_steps=0)))
    cut_at(5, trial, saved)
    resumed = outcome(run_trial(trial, saved))
    assert [loss for _, loss in resumed["losses"]] == pytest.approx([loss for _, loss in whole["losses"]], rel=1e-5)
    assert resumed["scores"] == whole["scores"]


def test_parameters_and_optimizer_are_the_same_bits(saved: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = make_trial(saved, "lora", **LONG)
    ends: list[list[torch.Tensor]] = []

    class Watched(loop.Trainer):
        def run(self, *given: Any) -> bool:
            ended = super().run(*given)
            states = [self.optimizer.state[parameter] for parameter in self.parameters]
            moments = [state[name] for state in states for name in ("step", "exp_avg", "exp_avg_sq")]
            ends.append([value.clone() for value in (*self.parameters, *moments)])
            return ended

    monkeypatch.setattr(loop, "Trainer", Watched)
    run_trial(trial, dataclasses.replace(saved, checkpoint_steps=0))
    whole = ends[-1]
    cut_at(9, trial, saved)
    run_trial(trial, saved)
    assert len(whole) == len(ends[-1])
    assert all(torch.equal(*pair) for pair in zip(whole, ends[-1], strict=True))


def test_a_training_may_be_cut_again_and_again(saved: Settings) -> None:
    trial = make_trial(saved, "lora", **LONG)
    whole = outcome(run_trial(trial, dataclasses.replace(saved, checkpoint_steps=0)))
    for step in (3, 7, 8, 14):
        cut_at(step, trial, saved)
    resumed = run_trial(trial, saved)
    assert outcome(resumed) == whole
    assert resumed.provenance["resumed_at_steps"] == [2, 6, 6, 12] or resumed.provenance["resumed_at_steps"] == [
        2,
        6,
        12,
    ]


def test_a_warm_up_goes_on_too_and_is_forgotten_when_it_is_in_the_cache(
    saved: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make_trial(saved, "lora", start=Start("warmup", epochs=2, learning_rate=1e-3), backbone_dropout=0.2)
    whole = outcome(run_trial(trial, dataclasses.replace(saved, checkpoint_steps=0, cache_root=saved.cache_root / "a")))
    save = Checkpoints.save

    def dying(self: Checkpoints, trainer: loop.Trainer, evaluated: int) -> None:
        save(self, trainer, evaluated)
        if trainer.progress.steps == 6:
            raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", dying)
        with pytest.raises(PowerCut):
            run_trial(trial, saved)
    assert [file.name[:6] for file in (saved.cache_root / "checkpoints").iterdir()] == ["start-"]
    assert outcome(run_trial(trial, saved)) == whole
    assert [file.stem for file in (saved.cache_root / "checkpoints").iterdir()] == [trial.id]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_checkpoint_is_found_by_its_hash_and_left_out(
    damage: str, saved: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = make_trial(saved, "lora", **LONG)
    cut_at(9, trial, saved)
    file = checkpoint_file(saved.cache_root, trial.id)
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[-3] ^= 1
    file.write_bytes(bytes({"flip": content, "cut": content[: len(content) // 2], "empty": b""}[damage]))
    record = run_trial(trial, saved)
    assert record.status == "ok"
    assert "resumed_at_steps" not in record.provenance
    assert "is damaged" in capsys.readouterr().err


def test_a_checkpoint_of_other_software_is_left_out_with_a_note(
    saved: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = make_trial(saved, "lora", **LONG)
    cut_at(9, trial, saved)
    other = dataclasses.replace(saved, split_batches=False)
    record = run_trial(trial, other)
    assert "resumed_at_steps" not in record.provenance
    assert re.search("made with another way of computing: the training begins anew", capsys.readouterr().err)


def test_a_checkpoint_is_tensors_and_json(saved: Settings) -> None:
    trial = make_trial(saved, "lora", **LONG)
    cut_at(9, trial, saved)
    with safe_open(checkpoint_file(saved.cache_root, trial.id), "pt") as file:
        state = json.loads(file.metadata()["state"])
        names = set(file.keys())
    assert (state["evaluated"], state["progress"]["steps"]) == (1, 8)
    assert {"parameter.0", "optimizer.0.exp_avg", "random.cpu", "losses.pending"} - names <= {"losses.pending"}


def test_no_room_for_a_checkpoint_costs_no_trial(
    saved: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*given: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.tensor_files.save_file", full)
    assert run_trial(make_trial(saved, "lora"), saved).status == "ok"
    assert "no checkpoint could be written" in capsys.readouterr().err


def test_methods_with_a_state_of_their_own_begin_anew(saved: Settings) -> None:
    run_trial(make_trial(saved, "peft:ADALORA"), saved)
    assert not (saved.cache_root / "checkpoints").exists()


def test_a_checkpoint_goes_when_its_run_is_stored_unless_it_was_cut_short(tmp_path: Path, toys: Settings) -> None:
    record = run_trial(make_trial(toys, "majority"), toys)
    file = checkpoint_file(tmp_path, record.trial.id)
    file.parent.mkdir()
    endings = [("interrupted", ""), ("timeout", ""), ("failed", ""), ("ok", ""), ("failed", "trace"), ("diverged", "")]
    left = []
    for status, trace in endings:
        file.touch()
        file.with_name(f"{file.stem}.abc.tmp").touch()
        forget_ended(tmp_path, dataclasses.replace(record, status=status, traceback=trace))  # type: ignore[arg-type]
        left.append(len(list(file.parent.iterdir())))
    assert left == [2, 2, 2, 0, 0, 0]


def test_what_a_driver_left_that_was_killed_after_storing_is_swept_by_the_next_plan(tmp_path: Path) -> None:
    done, under_way = (checkpoint_file(tmp_path, name) for name in ("done", "under-way"))
    forget_finished(tmp_path, ["done"])  # no folder yet
    done.parent.mkdir()
    done.touch()
    under_way.touch()
    forget_finished(tmp_path, ["done", "unknown"])
    assert list(done.parent.iterdir()) == [under_way]
