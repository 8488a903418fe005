"""Where trials run: in this process, or in worker processes beside it.

The process that drives stays light: it never imports torch when workers do the training. It alone writes to the
store, one transaction per run; a worker only hands back a record.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any, Protocol

from harness.records import RunRecord, Status
from harness.settings import Settings
from harness.trial import Trial

PROGRESS_SECONDS = 0.2
"""A worker reports its steps at most this often."""

MOST_AUTOMATIC_JOBS = 4

Calculation = Callable[[Any, Settings], Any]


class Listener(Protocol):
    """What hears of the trials while they run."""

    def started(self, trial: Trial) -> None: ...

    def progress(self, trial: Trial, done: int, total: int) -> None: ...

    def finished(self, record: RunRecord) -> None: ...


class Executor(Protocol):
    """Runs trials and hands each record to a listener, in whatever order they end."""

    def call(self, function: Calculation, argument: Any) -> Any:
        """`function(argument, settings)` computed where trials run; a UserError in it is raised here."""
        ...

    def run(self, trials: Sequence[Trial], listener: Listener) -> None:
        """Run all trials. On KeyboardInterrupt what is under way is stopped and handed over as `interrupted`."""
        ...

    def close(self) -> None:
        """Release processes."""
        ...


def make_executor(jobs: int, settings: Settings) -> Executor:
    """One job runs in this process, several in as many worker processes that share the cores."""
    from harness.workers import Workers  # which builds on this module

    return InProcess(settings) if jobs == 1 else Workers(jobs, settings)


def automatic_jobs(settings: Settings) -> int:
    """One job where there is one accelerator to share; else one per core, at most four."""
    if settings.device not in ("auto", "cpu") or (settings.device == "auto" and _accelerator_likely()):
        return 1
    return min(MOST_AUTOMATIC_JOBS, available_cores())


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _accelerator_likely() -> bool:
    """Whether torch will find a GPU, guessed without importing it."""
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    return shutil.which("nvidia-smi") is not None and not version("torch").endswith("+cpu")


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Ctrl-C does nothing in here, nor in a process that is started in here (only the main thread can say so)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def unfinished(trial: Trial, started: datetime, status: Status, reason: str) -> RunRecord:
    """The record of a trial that did not come to its own end."""
    return RunRecord(trial, status, started, datetime.now(UTC), reason=reason)


class InProcess:
    """Runs one trial after the other here."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def call(self, function: Calculation, argument: Any) -> Any:
        return function(argument, self._settings)

    def run(self, trials: Sequence[Trial], listener: Listener) -> None:
        from harness.runner import run_trial

        for trial in trials:
            started = datetime.now(UTC)
            listener.started(trial)
            report = Throttled(partial(listener.progress, trial))
            try:
                record = run_trial(trial, self._settings, report)
            except KeyboardInterrupt:
                with interrupts_ignored():
                    listener.finished(unfinished(trial, started, "interrupted", "stopped by the user"))
                raise
            listener.finished(record)

    def close(self) -> None:
        """Nothing to release."""


class Throttled:
    """Passes progress on, but not more often than worth looking at."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self._report = report
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS or done == total:
            self._last = now
            self._report(done, total)
