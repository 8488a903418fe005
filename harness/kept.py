"""Trained tensors of runs, kept in the cache on request, so that an export need not train again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from harness.tensor_files import read_tensors, write_tensors


class KeptTensors:
    """`<cache root>/adapters/<trial id>/epoch-N.safetensors`: the last run of a trial overwrites an earlier one."""

    def __init__(self, cache_root: Path, trial_id: str) -> None:
        self.folder = cache_root / "adapters" / trial_id

    def save(self, epoch: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep the stored tensors of an attachment after `epoch`; the file is there whole or not at all."""
        write_tensors(self._file(epoch), {name: value.cpu().contiguous() for name, value in tensors.items()}, {})

    def load(self, epoch: int) -> dict[str, Tensor] | None:
        """What was kept after `epoch`, on the CPU; None if nothing was, or it is not whole any more."""
        found = read_tensors(self._file(epoch))
        return None if found is None else found[0]

    def drop_all_but(self, epochs: Collection[int]) -> None:
        """Remove the files of other epochs."""
        keep = {self._file(epoch) for epoch in epochs}
        for file in self.folder.glob("epoch-*.safetensors"):
            if file not in keep:
                file.unlink()

    def _file(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.safetensors"
