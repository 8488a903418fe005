"""Life and death of child processes."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from typing import Any

_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def end_with_the_parent(at_once: bool = False) -> None:
    """From now on this process ends when the one that started it does: nobody would hear of its work.

    at_once: on Linux by the kernel, even if it hangs in C code; only for what is started by a thread that outlives it.
    """
    if at_once:
        with contextlib.suppress(OSError, AttributeError, TypeError):  # another system
            ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    threading.Thread(target=_wait_for_the_parent, daemon=True).start()


def _wait_for_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def cause_of_death(process: Any) -> str:
    """How a child process ended, in words."""
    code = process.exitcode
    if code is None or code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (" (out of memory is the usual cause)" if name == "SIGKILL" else "")
