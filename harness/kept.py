"""Trained tensors of runs, kept in the cache on request, so that an export need not train again."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor


class KeptTensors:
    """`<cache root>/adapters/<trial id>/epoch-N.safetensors`: the last run of a trial overwrites an earlier one."""

    def __init__(self, cache_root: Path, trial_id: str) -> None:
        self.folder = cache_root / "adapters" / trial_id

    def save(self, epoch: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep the stored tensors of an attachment after `epoch`; the file is there whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self._file(epoch).with_suffix(f".{os.getpid()}.tmp")
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, temporary)
        os.replace(temporary, self._file(epoch))

    def load(self, epoch: int) -> dict[str, Tensor] | None:
        """What was kept after `epoch`, on the CPU; None if nothing was."""
        return load_file(self._file(epoch)) if self._file(epoch).is_file() else None

    def drop_all_but(self, epochs: Collection[int]) -> None:
        """Remove the files of other epochs."""
        keep = {self._file(epoch) for epoch in epochs}
        for file in self.folder.glob("epoch-*.safetensors"):
            if file not in keep:
                file.unlink()

    def _file(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.safetensors"
