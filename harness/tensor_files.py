"""Tensors in safetensors files that are whole or not there: written at once, checked by a hash when read."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.whole_files import replacing, tell_damage

_HASH = "sha256"


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """The tensors and the metadata that `write_tensors` wrote; None if there is no such file, or it is not whole.

    A file that is not whole is taken away, with a note on standard error: it will be made anew.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            metadata: dict[str, str] = file.metadata() or {}
        if metadata.get(_HASH) == _checksum(tensors, metadata):
            return tensors, metadata
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, ValueError):
        pass
    tell_damage(path)
    with contextlib.suppress(OSError):  # in a folder that cannot be written it is passed over every time
        path.unlink()
    return None


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], durable: bool = False
) -> bool:
    """Write all or nothing: readers see the old file or the whole new one, whichever process writes first.

    What cannot be written (no space, a read-only folder) is left out, and False returned: a cache costs time, never a
    trial. With `durable` the file is on the disk before it takes its name, so that a power cut leaves the old one.
    """
    try:
        with replacing(path, durable) as temporary:
            save_file(dict(tensors), temporary, metadata={**metadata, _HASH: _checksum(tensors, metadata)})
    except (OSError, SafetensorError):
        return False
    return True


def raw_bytes(tensor: Tensor) -> bytes:
    """The tensor's numbers as they lie in memory; the tensor is contiguous and on the CPU."""
    flat = tensor.reshape(-1)  # a column [m, 1] may count as contiguous with any last stride; a flat one may not
    return flat.view(torch.uint8).numpy().tobytes()


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode() + raw_bytes(tensor))
    for name, text in sorted(metadata.items()):
        if name != _HASH:
            digest.update(f"{name} {text}".encode())
    return digest.hexdigest()
