"""Where a process reads, caches and computes. Nothing in here changes what a trial means."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


def _environment_path(name: str) -> Path | None:
    value = os.environ.get(name, "")
    return Path(value).expanduser() if value else None


def default_cache_root() -> Path:
    """`HARNESS_CACHE`, else `peft-harness` in the user's cache folder."""
    fallback = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "peft-harness"
    return _environment_path("HARNESS_CACHE") or fallback


@dataclass(frozen=True)
class Settings:
    """Places and devices of this process; picklable, handed to every worker."""

    data_root: Path | None = field(default_factory=lambda: _environment_path("HARNESS_DATA"))
    """Local mirror of the tasks' data (parquet); None reads from the hub."""
    models_root: Path | None = field(default_factory=lambda: _environment_path("HARNESS_MODELS"))
    """Folder of local backbones; searched before the hub."""
    cache_root: Path = field(default_factory=default_cache_root)
    device: str = "auto"
    """"auto" (CUDA, else MPS if it works, else CPU), or a torch device name."""
    threads: int = 0
    """Torch's intra-op threads per process; 0 leaves torch's default."""
    plugin_files: tuple[Path, ...] = ()
    """Files given with --plugin, loaded beside the two folders and the entry points."""
    pack: str = "auto"
    """How many trials share the steps of one model: "auto" (as many as pay and fit), a number, "off", or "verify":
    as auto, but at least two, and some of them run alone too and are compared."""
    timeout: float = 0.0
    """Seconds that a trial may take; one that takes longer is stopped with its process. 0: no limit."""
    checkpoint_steps: int = 0
    """Save a trial's training every so many optimizer steps; 0: not by steps."""
    checkpoint_seconds: float = 0.0
    """Save a trial's training every so many seconds; 0: not by time."""
    keep_adapters: bool = False
    """Keep the trained tensors of runs below the cache root, for `export`."""
    split_batches: bool = True
    """Compute a batch in parts of similar length where that saves time (CPU): the same gradient, less padding."""
    checkpointing: Literal["auto", "recipe"] = "auto"
    """"auto" keeps no activations inside layers where a GPU's memory is estimated not to suffice, or the recipe wants
    it so; "recipe" only where the recipe does. The same losses."""
    compile: Literal["off", "auto"] = "off"
    """"auto" measures training steps through torch.compile and keeps them where they are quicker; see
    `harness.compiling`."""

    @property
    def checkpointed(self) -> bool:
        """Whether trials save their training while it goes on."""
        return self.checkpoint_steps > 0 or self.checkpoint_seconds > 0
