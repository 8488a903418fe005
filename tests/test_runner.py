"""A trial from start to end on the bundled backbones: repeatable, paired, and never ending in silence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import starts
from harness.api import parameters_of
from harness.backbones import resolve
from harness.plugins import discover, make_method
from harness.records import SELECT, RunRecord
from harness.runner import run_trial
from harness.settings import Settings
from harness.trial import Recipe, Start, Trial

PLUGINS = discover()
WARMUP = Start("warmup", epochs=1, learning_rate=1e-3)
EXAMPLE = Path(__file__).parent / "example_plugin" / "peft_harness_example.py"


def make(method: str, settings: Settings, task: str = "paraphrase", **changes: Any) -> Trial:
    plugins = discover(settings.plugin_files)
    backbone = "starter-decoder" if task == "arithmetic" else "starter-encoder"
    trial = Trial(
        backbone=resolve(backbone, settings),
        task=task,
        task_version=plugins.tasks[task].version,
        method=method,
        parameters=parameters_of(make_method(plugins.methods[method], {})),
        recipe=Recipe(epochs=2, batch_size=16, learning_rate=2e-3, head_learning_rate=2e-3, select_rows=40),
        seed=0,
        train_size=64,
    )
    return dataclasses.replace(trial, **changes)


def good(trial: Trial, settings: Settings) -> RunRecord:
    record = run_trial(trial, settings)
    assert record.status == "ok", record.traceback
    return record


def numbers(record: RunRecord) -> tuple[object, ...]:
    return record.scores, record.losses, record.predictions


def test_the_same_trial_gives_the_same_bits_and_another_seed_others(settings: Settings) -> None:
    trial = make("lora", settings)
    first = good(trial, settings)
    assert numbers(first) == numbers(good(trial, settings))
    assert first.losses != good(dataclasses.replace(trial, seed=1), settings).losses


def test_a_run_measures_everything(settings: Settings) -> None:
    record = good(make("lora", settings), settings)
    unmeasured = {name for name, value in dataclasses.asdict(record.costs).items() if value is None}
    shared = {"step_seconds_spread", "pack_trials", "pack_seconds", "pack_share_seconds"}
    assert unmeasured == {"start_seconds", *shared}  # the pretrained start takes none, and it ran alone
    assert record.parameters is not None
    assert record.parameters.adapter == 4 * 2 * 8 * (128 + 128)
    assert record.parameters.head == 128 * 128 + 128 + 2 * 128 + 2
    assert {(score.epoch, score.split) for score in record.scores} == {
        (epoch, split) for epoch in (1, 2) for split in (SELECT, "test")
    }
    assert [len(item.values) for item in record.predictions if item.epoch == 2] == [400]
    assert record.provenance["backbone_sha256"].startswith(record.trial.backbone.revision.removeprefix("sha256:"))
    assert {"commit", "dirty", "stack", "data_sha256"} <= record.provenance.keys()


def test_methods_under_one_seed_share_head_order_and_dropout(settings: Settings) -> None:
    """LoRA starts as the plain backbone, so its first loss is that of training the head alone."""
    recipe = Recipe(epochs=1, batch_size=32, select_rows=20)
    first = [good(make(name, settings, recipe=recipe), settings).losses[0] for name in ("lora", "head_only", "ft")]
    assert first[0] == pytest.approx(first[1], rel=1e-6)
    assert first[0] == pytest.approx(first[2], rel=1e-6)


def test_training_sizes_are_nested_and_select_is_never_trained_on(settings: Settings) -> None:
    from harness.api import DataRoot
    from harness.data import load_task, subset

    rows = load_task(PLUGINS.tasks["paraphrase"], DataRoot())
    small, large = (set(subset(rows.train, size, 0, "paraphrase")["id"]) for size in (64, 512))
    assert small < large
    assert not large & set(rows.select["id"])


def test_a_warm_up_is_trained_once_and_shared(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    save = starts.StartCache.save

    def counted(*given: Any) -> Any:
        saved.append(1)
        return save(*given)

    monkeypatch.setattr(starts.StartCache, "save", counted)
    only = good(make("warmup_only", settings, start=WARMUP), settings)
    adapted = good(make("qr_lora", settings, start=WARMUP), settings)
    assert saved == [1]
    assert only.parameters is not None
    assert (only.parameters.adapter, only.parameters.head) == (0, 0)
    assert {score.epoch for score in only.scores} == {0}
    assert only.costs.start_seconds == adapted.costs.start_seconds
    assert adapted.losses[0][1] != good(make("qr_lora", settings), settings).losses[0][1]  # it began elsewhere


def test_a_generation_task_runs_and_its_head_counts_apart(settings: Settings) -> None:
    lora = good(make("lora", settings, task="arithmetic"), settings)
    head = good(make("head_only", settings, task="arithmetic"), settings)
    assert lora.parameters is not None
    assert head.parameters is not None
    assert lora.parameters.adapter > 0
    assert (lora.parameters.head, head.parameters.adapter) == (0, 0)
    assert head.parameters.head > 0
    assert {score.metric for score in lora.scores} == {"exact_match"}


def test_a_constant_baseline_needs_no_model(settings: Settings) -> None:
    for task in ("paraphrase", "similarity", "arithmetic"):
        record = good(make("majority", settings, task=task), settings)
        values = next(item.values for item in record.predictions if item.split == "test")
        assert len(set(values)) == 1
        assert record.parameters is not None
        assert record.parameters.total == 0


def test_a_diverging_trial_says_so(settings: Settings) -> None:
    recipe = Recipe(epochs=1, batch_size=16, learning_rate=1e18, clip=0.0, warmup_ratio=0.0, select_rows=20)
    record = run_trial(make("ft", settings, recipe=recipe), settings)
    assert record.status == "diverged"
    assert "loss was" in record.reason


def test_a_plugin_that_raises_leaves_a_failed_run_with_its_traceback(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    source = EXAMPLE.read_text().replace("return y + (x @ p.W.T) * p.g", "raise RuntimeError('no luck')")
    file.write_text(source.replace("example_", "bad_"))
    own = dataclasses.replace(settings, plugin_files=(file,))
    record = run_trial(make("bad_gain", own), own)
    assert (record.status, record.reason) == ("failed", "RuntimeError: no luck")
    assert "bad.py" in record.traceback


def test_a_method_and_a_task_from_outside_run(settings: Settings) -> None:
    own = dataclasses.replace(settings, plugin_files=(EXAMPLE,))
    recipe = Recipe(epochs=6, batch_size=8, learning_rate=1e-2, head_learning_rate=5e-3)
    record = good(make("example_gain", own, task="example_greeting", train_size=0, recipe=recipe), own)
    last = next(score.value for score in record.scores if score.epoch == 6 and score.split == "test")
    assert last > 0.8


def test_accumulation_changes_memory_not_the_result(settings: Settings) -> None:
    whole = make("lora", settings, recipe=Recipe(epochs=1, batch_size=16, select_rows=20, backbone_dropout=0.0))
    parts = dataclasses.replace(whole, recipe=dataclasses.replace(whole.recipe, accumulation=4))
    for (_, expected), (_, got) in zip(good(whole, settings).losses, good(parts, settings).losses, strict=True):
        assert got == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_model_that_is_broken_after_its_last_step_has_diverged(
    kind: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No loss is computed after the last update: only the predictions show it."""
    task = "paraphrase" if kind == "classification" else "similarity"
    trial = make("lora", settings, task=task, train_size=8, recipe=Recipe(epochs=1, batch_size=8, select_rows=8))
    step = torch.optim.AdamW.step

    def breaking(self: torch.optim.AdamW, *given: Any) -> Any:
        found = step(self, *given)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.fill_(float("nan"))
        return found

    monkeypatch.setattr(torch.optim.AdamW, "step", breaking)
    record = run_trial(trial, settings)
    assert record.status == "diverged"
    assert record.reason is not None
    assert "was not finite after epoch 1" in record.reason
