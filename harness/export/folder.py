"""Writing an export: into a folder that appears whole, once what was written has been loaded and compared."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harness import backbones, data, loop
from harness.errors import UserError
from harness.export.loading import BASE, RECORD, fingerprint, load_adapter
from harness.export.peft_format import as_peft_model
from harness.export.trained import Trained

Format = Literal["peft", "merged"]
_ROWS = 32
"""Test rows on which the written model is compared with the trained one."""
_TOLERANCE = 1e-4
"""Largest difference of logits, relative to the largest logit, that counts as rounding."""


@dataclass(frozen=True)
class Exported:
    """What was written, and how near it is to the model that was trained."""

    folder: Path
    record: dict[str, Any]
    difference: float
    """Largest absolute difference of logits between the trained and the loaded model, over some test rows."""
    largest: float
    """Largest absolute logit of the trained model on them."""


def check_target(folder: Path) -> None:
    """Raise UserError unless `folder` is new or empty and can be written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already; name a new or empty folder.")
    parent = folder.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK):
        raise UserError(f"{parent} cannot be written.")


Card = Callable[[dict[str, Any]], str]
"""The model card, from what the export says of itself."""


def write(trained: Trained, folder: Path, form: Format, card: Card, with_base: bool = False) -> Exported:
    """Write and verify. The trained model is taken apart on the way.

    with_base: put the backbone into the folder too; always done where a warm-up made it.
    """
    check_target(folder)
    temporary = folder.absolute().with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        batch = _sample(trained)
        expected = _logits(trained.stage.model, batch)
        record = _record(trained, form)
        if form == "peft":
            _write_peft(trained, temporary, record, with_base or trained.wanted.trial.start.kind != "pretrained")
        else:
            _write_merged(trained, temporary)
        trained.stage.loaded.tokenizer.save_pretrained(temporary)
        (temporary / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
        (temporary / "README.md").write_text(card(record), encoding="utf-8")
        seen = _logits(_load(temporary, trained, form).to(trained.stage.device), batch)
        exported = Exported(folder, record, float((seen - expected).abs().max()), float(expected.abs().max()))
        if not exported.difference <= _TOLERANCE * max(1.0, exported.largest):
            off = f"{exported.difference:.2g} (largest logit {exported.largest:.2g})"
            raise UserError(f"the written model's logits differ from the trained one's by {off}; nothing was kept.")
        if folder.is_dir():
            folder.rmdir()
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return exported


def _write_peft(trained: Trained, folder: Path, record: dict[str, Any], with_base: bool) -> None:
    wrapped: Any = as_peft_model(trained)
    backbone = wrapped.base_model.model
    with warnings.catch_warnings():
        # PEFT takes the bias of a lora_B for a shard of a matrix
        warnings.filterwarnings("ignore", message=".*LoRA tensor.* invalid shape", category=UserWarning)
        wrapped.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    wrapped.unload()
    record["base"]["fingerprint"] = fingerprint(backbone, trained.stage.loaded.head)
    record["carries_base"] = with_base
    if with_base:
        backbone.save_pretrained(str(folder / BASE))
        trained.stage.loaded.tokenizer.save_pretrained(folder / BASE)


def _write_merged(trained: Trained, folder: Path) -> None:
    trained.attachment.merge()
    plain: Any = trained.bench.method.plain(trained.stage.model)
    plain.save_pretrained(str(folder))


def _record(trained: Trained, form: Format) -> dict[str, Any]:
    """What the export says of itself; the base's fingerprint is added when the method is off."""
    trial = trained.wanted.trial
    config: Any = trained.stage.model.config
    generates = trained.bench.task.kind == "generation"
    options = {} if generates else {"num_labels": config.num_labels, "problem_type": config.problem_type}
    return {
        "format": form,
        "task_type": "CAUSAL_LM" if generates else "SEQ_CLS",
        "configuration": {**options, "pad_token_id": config.pad_token_id},
        "head": list(trained.stage.loaded.head),
        "base": {"name": trial.backbone.name, "revision": trial.backbone.revision, "start": str(trial.start)},
        "run": trained.wanted.run_id,
        "trial": {"id": trial.id, **dataclasses.asdict(trial)},
        "epoch": trained.wanted.epoch,
        "agreement": trained.agreement,
        "retrained": not trained.kept,
    }


def _load(folder: Path, trained: Trained, form: Format) -> nn.Module:
    if form == "peft":
        adapted: nn.Module = load_adapter(folder, settings=trained.bench.settings)
        return adapted
    auto = backbones.auto_class(trained.bench.task.kind)
    loaded: nn.Module = auto.from_pretrained(str(folder), dtype=torch.float32)
    return loaded


def _sample(trained: Trained) -> loop.Batch:
    """The first test rows as one padded batch."""
    frame = trained.bench.splits[trained.bench.task.tests[0]].head(_ROWS)
    tokenizer = trained.stage.loaded.tokenizer
    encoded = data.encode(trained.bench.task, frame, tokenizer, trained.wanted.trial.recipe.max_length)
    return data.collate(encoded, list(range(len(frame))), tokenizer.pad_token_id)


def _logits(model: nn.Module, batch: loop.Batch) -> Tensor:
    """Logits at real positions, in float32."""
    device = next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in batch.items() if name != "labels"}
    with loop.evaluating(model):
        logits: Tensor = model(**inputs).logits.float().cpu()
    return logits if logits.ndim == 2 else logits[batch["attention_mask"].bool()]
