"""Where checkpoints lie, and when they go. Knows no torch: the process that drives removes them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.records import RunRecord


def checkpoint_file(cache_root: Path, name: str) -> Path:
    """The file of one training: a trial's id, or `start-` and the key of a start."""
    return cache_root / "checkpoints" / f"{name}.safetensors"


def forget_ended(cache_root: Path, record: RunRecord) -> None:
    """Remove the checkpoint of a trial whose run is stored, unless the run was cut short: then it is gone on with.

    Cut short: interrupted, out of time, or its process died (which leaves no traceback).
    """
    if record.status in ("interrupted", "timeout") or (record.status == "failed" and not record.traceback):
        return
    remove(checkpoint_file(cache_root, record.trial.id))


def forget_finished(cache_root: Path, trial_ids: Iterable[str]) -> None:
    """Remove the checkpoints that drivers left which were killed between storing a run and this."""
    if (cache_root / "checkpoints").is_dir():
        for trial_id in trial_ids:
            remove(checkpoint_file(cache_root, trial_id))


def remove(file: Path) -> None:
    """Take a checkpoint away, and what writers that were killed left beside it."""
    for path in (file, *file.parent.glob(f"{file.stem}.*.tmp")):
        path.unlink(missing_ok=True)
