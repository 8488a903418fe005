"""Loading an exported adapter, on the weights that it was trained on and on no others."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from harness import backbones
from harness.errors import UserError
from harness.settings import Settings

if TYPE_CHECKING:
    from peft import PeftModel

RECORD = "run.json"
"""What an export says of itself, beside the library's own files."""
BASE = "base"
"""Folder of the backbone inside an export that carries it."""


def fingerprint(model: nn.Module, head: tuple[str, ...]) -> str:
    """sha256 over names and float32 values of all tensors below the head."""
    digest = hashlib.sha256()
    prefixes = tuple(f"{name}." for name in head)
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith(prefixes or ("\0",)):
            digest.update(name.encode())
            digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_record(folder: Path) -> dict[str, Any]:
    """The export's own account. UserError if the folder is no export."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        raise UserError(f"{folder} is no export of this harness: it has no readable {RECORD}.") from None
    return record


def load_base(folder: Path, settings: Settings | None = None) -> nn.Module:
    """The backbone under an exported adapter, with a head of the right size: the one inside the export, or by name."""
    record = read_record(folder)
    base, options = record["base"], dict(record["configuration"])
    auto = backbones.auto_class("generation" if record["task_type"] == "CAUSAL_LM" else "classification")
    inside = folder / BASE
    found = inside if inside.is_dir() else backbones.find_folder(base["name"], settings or Settings())
    revision = None if found or base["revision"].startswith("sha256:") else base["revision"]
    try:
        with backbones.quiet():
            model: nn.Module = auto.from_pretrained(
                str(found or base["name"]), revision=revision, dtype=torch.float32, use_safetensors=True, **options
            )
    except OSError as error:
        line = str(error).split("\n")[0]
        raise UserError(f"the backbone '{base['name']}' of {folder} cannot be read: {line}") from error
    return model


def load_adapter(folder: str | Path, base: nn.Module | None = None, settings: Settings | None = None) -> PeftModel:
    """An exported PEFT adapter on its backbone, ready to predict.

    base: a loaded backbone to take instead of the one that the export names or carries.
    Raises UserError if the base's weights are not those that the adapter was trained on: what a method adds means
    nothing on others, and PEFT itself would not notice.
    """
    from peft import PeftModel

    place = Path(folder)
    record = read_record(place)
    if record["format"] != "peft":
        raise UserError(f"{place} is a whole checkpoint: load it with transformers.")
    model: Any = load_base(place, settings) if base is None else base
    found, expected = fingerprint(model, tuple(record["head"])), record["base"]["fingerprint"]
    if found != expected:
        weights = f"weights {expected[:16]} (backbone '{record['base']['name']}', start {record['base']['start']})"
        raise UserError(f"{place} was trained on {weights}; this base has {found[:16]}.")
    with backbones.quiet():
        loaded: PeftModel = PeftModel.from_pretrained(model, str(place)).eval()
    return loaded
