"""What `export` writes: PEFT and transformers themselves load it, and it computes what was trained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_runner import make
from torch import Tensor, nn

from harness import backbones, bench
from harness.api import parameters_of
from harness.errors import UserError
from harness.evaluation import selected_epoch
from harness.export import folder as export_folder
from harness.export.loading import load_adapter, load_base, read_record
from harness.export.trained import Wanted, rebuild
from harness.plugins import discover, make_method
from harness.records import RunRecord
from harness.runner import run_trial
from harness.settings import Settings
from harness.trial import Recipe, Start, Trial

RECIPE = Recipe(epochs=1, batch_size=16, learning_rate=2e-2, head_learning_rate=2e-3, select_rows=40)
LOW_RANK: dict[str, tuple[str, dict[str, Any], int]] = {
    # variant -> method, parameters, rank of the exported LoRA (0: by module)
    "lora": ("lora", {"r": 4}, 4),
    "lora with biases": ("lora", {"r": 4, "bias": True}, 4),
    "rslora": ("rslora", {"r": 4}, 4),
    "lora_plus": ("lora_plus", {"r": 4}, 4),
    "pissa": ("pissa", {"r": 4}, 8),
    "olora": ("olora", {"r": 4}, 8),
    "svd_lora": ("svd_lora", {}, 2),
    "svd_lora residual": ("svd_lora", {"residual": True}, 4),
    "lora_xs": ("lora_xs", {"r": 6}, 6),
    "lora_sb": ("lora_sb", {"r": 6}, 6),
    "vera": ("vera", {"r": 16}, 16),
    "qr_lora": ("qr_lora", {"layers": "last:2"}, 0),
}


def trial_of(settings: Settings, method: str, parameters: dict[str, Any], **changes: Any) -> Trial:
    complete = parameters_of(make_method(discover().methods[method], parameters))
    return make(method, settings, recipe=RECIPE, parameters=complete, **changes)


def run_of(trial: Trial, settings: Settings) -> RunRecord:
    record = run_trial(trial, settings)
    assert record.status == "ok", record.traceback
    return record


def wanted_of(record: RunRecord) -> Wanted:
    epoch = selected_epoch(record.scores, discover().tasks[record.trial.task].metrics[0])
    return Wanted("0123456789ab", record, epoch, [item for item in record.predictions if item.epoch == epoch])


@dataclasses.dataclass
class Export:
    """What was trained, as logits of some rows, before it was written."""

    batch: dict[str, Tensor]
    expected: Tensor


def exported(trial: Trial, settings: Settings, place: Path, form: export_folder.Format = "peft") -> Export:
    settings = dataclasses.replace(settings, keep_adapters=True)
    trained = rebuild(wanted_of(run_of(trial, settings)), settings)
    assert trained.agreement == 1.0
    batch = dict(trained.stage.batch(range(24)))
    batch.pop("labels")
    expected = logits(trained.stage.model, batch)
    export_folder.write(trained, place, form, str)
    return Export(batch, expected)


def logits(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(**batch).logits
    return found


@pytest.mark.parametrize("variant", LOW_RANK)
def test_peft_loads_the_adapter_and_computes_the_same(variant: str, settings: Settings, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    method, parameters, rank = LOW_RANK[variant]
    done = exported(trial_of(settings, method, parameters), settings, tmp_path / "out")
    base: Any = AutoModelForSequenceClassification.from_pretrained(
        str(backbones.BUNDLED / "starter-encoder"), num_labels=2
    )
    before = logits(base, done.batch)
    loaded: Any = PeftModel.from_pretrained(base, str(tmp_path / "out"))
    torch.testing.assert_close(logits(loaded, done.batch), done.expected, rtol=0, atol=1e-5)
    assert float((done.expected - before).abs().max()) > 1e-2
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    ranks = {config["r"], *config["rank_pattern"].values()}
    assert ranks == {rank} if rank else len(ranks) > 1


@pytest.mark.parametrize("method", ["lora", "pissa", "dora", "ft", "bitfit", "head_only", "peft:LOHA"])
def test_a_merged_export_is_a_plain_checkpoint(method: str, settings: Settings, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    done = exported(trial_of(settings, method, {}), settings, tmp_path / "out", "merged")
    loaded = AutoModelForSequenceClassification.from_pretrained(str(tmp_path / "out"))
    assert not any("adapter" in name or "lora" in name for name, _ in loaded.named_modules())
    torch.testing.assert_close(logits(loaded, done.batch), done.expected, rtol=0, atol=1e-5)


def test_a_decoder_s_adapter_computes_the_same(settings: Settings, tmp_path: Path) -> None:
    settings = dataclasses.replace(settings, split_batches=False)
    trial = trial_of(settings, "lora_xs", {"r": 4}, task="arithmetic", train_size=32)
    done = exported(trial, settings, tmp_path / "out")
    loaded = load_adapter(tmp_path / "out", settings=settings)
    assert read_record(tmp_path / "out")["task_type"] == "CAUSAL_LM"
    real = done.batch["attention_mask"].bool()
    rounding = 2e-6 * float(done.expected[real].abs().max())
    torch.testing.assert_close(logits(loaded, done.batch)[real], done.expected[real], rtol=0, atol=max(1e-5, rounding))


def test_after_a_warm_up_the_base_travels_with_the_adapter(settings: Settings, tmp_path: Path) -> None:
    start = Start("warmup", epochs=1, learning_rate=1e-3)
    done = exported(trial_of(settings, "qr_lora", {}, start=start), settings, tmp_path / "out")
    torch.testing.assert_close(logits(load_adapter(tmp_path / "out"), done.batch), done.expected, rtol=0, atol=1e-5)
    base: Any = load_base(tmp_path / "out")
    untouched = base.from_pretrained(str(backbones.BUNDLED / "starter-encoder"), num_labels=2)
    with pytest.raises(UserError, match=r"was trained on weights .*warmup.*this base has"):
        load_adapter(tmp_path / "out", base=untouched)


@pytest.mark.parametrize("method", ["pissa", "olora"])
def test_after_a_transfer_of_the_adapter_the_initial_factors_are_still_the_method_s(
    method: str, settings: Settings, tmp_path: Path
) -> None:
    version = discover().tasks["acceptability"].version
    start = Start("transfer", 1, 2e-2, "acceptability", version, "adapter", 32)
    done = exported(trial_of(settings, method, {"r": 4}, start=start), settings, tmp_path / "out")
    loaded = load_adapter(tmp_path / "out", settings=settings)
    torch.testing.assert_close(logits(loaded, done.batch), done.expected, rtol=0, atol=1e-5)


def test_what_was_not_kept_is_trained_again_and_held_against_the_run(settings: Settings, tmp_path: Path) -> None:
    trial = trial_of(settings, "lora", {})
    record = run_of(trial, settings)
    trained = rebuild(wanted_of(record), settings)
    assert not trained.kept
    assert trained.agreement == 1.0
    flipped = [dataclasses.replace(item, values=[1 - value for value in item.values]) for item in record.predictions]
    other = rebuild(wanted_of(dataclasses.replace(record, predictions=flipped)), settings)
    assert other.agreement == 0.0


def test_kept_tensors_of_the_kept_epochs_spare_the_training(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(settings, keep_adapters=True)
    recipe = dataclasses.replace(RECIPE, epochs=3)
    record = run_of(dataclasses.replace(trial_of(settings, "lora", {}), recipe=recipe), settings)
    files = sorted(path.name for path in (settings.cache_root / "adapters" / record.trial.id).iterdir())
    epochs = {item.epoch for item in record.predictions}
    assert files == [f"epoch-{epoch}.safetensors" for epoch in sorted(epochs)]

    def untrained(*_: object) -> None:
        raise AssertionError("it trained")

    monkeypatch.setattr(bench, "train", untrained)
    assert rebuild(wanted_of(record), settings).kept


@pytest.mark.parametrize("method", ["dora", "ft", "bitfit", "head_only", "peft:LOHA"])
def test_what_is_no_lora_says_what_can_be_done(method: str, settings: Settings, tmp_path: Path) -> None:
    settings = dataclasses.replace(settings, keep_adapters=True)
    trained = rebuild(wanted_of(run_of(trial_of(settings, method, {}), settings)), settings)
    with pytest.raises(UserError, match=r"--format merged"):
        export_folder.write(trained, tmp_path / "out", "peft", str)
    assert not list(tmp_path.glob("*out*"))


def test_a_run_without_a_model_cannot_be_exported(settings: Settings) -> None:
    record = run_of(trial_of(settings, "majority", {}), settings)
    with pytest.raises(UserError, match="has no model"):
        rebuild(wanted_of(record), settings)


def test_a_full_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="new or empty"):
        export_folder.check_target(tmp_path)


def test_other_rows_than_the_run_s_are_refused(settings: Settings) -> None:
    record = run_of(trial_of(settings, "lora", {}), settings)
    stale = dataclasses.replace(record, provenance={**record.provenance, "data_sha256": "0" * 64})
    with pytest.raises(UserError, match="rows of task 'paraphrase' are not those of run"):
        rebuild(wanted_of(stale), settings)


def test_the_command_writes_an_adapter_with_its_card(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from harness.cli import app

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(
            app, [*arguments, "--cache-root", str(tmp_path / "cache"), "--db", str(tmp_path / "a.db")]
        )

    narrow = ["--method", "qr_lora", "--task", "paraphrase", "--seed", "0", "--set", "epochs=1"]
    size = ["--set", "select_rows=20", "--set", "layers=last:1"]
    ran = invoke("run", "--all", *narrow, *size, "--jobs", "1", "--json", "--keep-adapters")
    run_id = json.loads(ran.stdout)["run_ids"][0]
    done = invoke("export", run_id[:6], str(tmp_path / "out"), "--with-base", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["agreement"], said["retrained"], said["run"]) == (1.0, False, run_id)
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"run `{run_id}`" in card
    assert "python -m harness run --suite starter --set epochs=1" in card
    written = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert {"adapter_config.json", "adapter_model.safetensors", "run.json", "base/config.json"} <= written
    texts = [path.read_text() for path in (tmp_path / "out").rglob("*.json")]
    assert not any(str(backbones.BUNDLED) in text for text in [*texts, card])
    again = invoke("export", run_id, str(tmp_path / "out"))
    assert (again.exit_code, "new or empty" in again.output) == (2, True)
