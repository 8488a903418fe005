"""Tensors in safetensors files that are whole or not there: written at once, checked by a hash when read."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

_HASH = "sha256"


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """The tensors and the metadata that `write_tensors` wrote; None if there is no such file, or it is not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            metadata: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError, ValueError):
        return None
    return (tensors, metadata) if metadata.get(_HASH) == _checksum(tensors) else None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write all or nothing: readers see the old file or the whole new one, whichever process writes first.

    What cannot be written (no space, a read-only folder) is left out: a cache costs time, never a trial.
    """
    content = save(dict(tensors), metadata={**metadata, _HASH: _checksum(tensors)})
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            temporary = file.name
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def raw_bytes(tensor: Tensor) -> bytes:
    """The tensor's numbers as they lie in memory; the tensor is contiguous and on the CPU."""
    flat = tensor.reshape(-1)  # a column [m, 1] may count as contiguous with any last stride; a flat one may not
    return flat.view(torch.uint8).numpy().tobytes()


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode() + raw_bytes(tensor))
    return digest.hexdigest()
