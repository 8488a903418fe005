"""Growth of memory over a stretch of work: a CUDA device's, or this process's resident memory.

The latter is exact on Linux, elsewhere sometimes unknown.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import torch

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Written to clear_refs, it sets the recorded peak (VmHWM) back to what is resident now; see proc(5)."""
_SLACK = 4 * 2**20
"""Bytes by which the kernel's two counters may differ though they mean the same."""


@dataclass(frozen=True)
class Before:
    """Readings at the beginning of the stretch, in bytes; None: the system does not tell."""

    resident: int
    peak: int | None
    """Largest resident memory so far: about `resident` where it could be reset."""


def begin() -> Before:
    """Start a stretch. Memory that was freed goes back to the system first, so that its reuse counts as growth."""
    gc.collect()
    _trim()
    with contextlib.suppress(OSError):  # not Linux, or a container that forbids it: the old peak stays
        _CLEAR_REFS.write_text(_RESET_PEAK)
    return Before(_resident(), _peak())


def growth(before: Before) -> int | None:
    """Bytes by which the peak since `begin` exceeds what was resident then; None if that cannot be known.

    It cannot where the old peak could not be reset and no higher one was reached.
    """
    peak = _peak()
    if peak is None or before.peak is None:
        return None
    was_reset = before.peak <= before.resident + _SLACK
    if not was_reset and peak <= before.peak:
        return None
    return max(0, peak - before.resident)


class MemoryGrowth:
    """Context manager; `bytes` is how much memory grew at most inside it, None if that cannot be known.

    What nobody holds any more is freed first: if that happened inside, growth would seem smaller by it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> Self:
        import torch

        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.reset_peak_memory_stats(self.device)
            self._held = torch.cuda.memory_allocated(self.device)
        elif self.device.type == "cpu":
            self._before = begin()
        return self

    def __exit__(self, *exception: object) -> None:
        import torch

        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._held
        elif self.device.type == "cpu":
            self.bytes = growth(self._before)


def _trim() -> None:
    """Ask glibc to return free memory to the system; other C libraries have no such call."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _resident() -> int:
    value = _status("VmRSS")
    if value is None:
        import psutil

        value = int(psutil.Process().memory_info().rss)
    return value


def _peak() -> int | None:
    value = _status("VmHWM")
    if value is not None:
        return value
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(field: str) -> int | None:
    """A field of /proc/self/status in bytes, None if there is none."""
    try:
        found = re.search(rf"^{field}:\s*(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
