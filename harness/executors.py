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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import islice
from typing import Any, Protocol

from harness.pack.plan import Pack
from harness.records import RunRecord, Status
from harness.settings import Settings
from harness.trial import Trial

PROGRESS_SECONDS = 0.2
"""A worker reports its steps at most this often."""

MOST_AUTOMATIC_JOBS = 4

STOPPED = "stopped by the user"

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

    def run(self, packs: Iterable[Pack], listener: Listener) -> None:
        """Run all trials; a pack is drawn when there is room for it.

        On KeyboardInterrupt what is under way is stopped and handed over as `interrupted`.
        """
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


class Waiting:
    """Packs that no process has been given yet; true while there is one. The next one is drawn only to be given."""

    def __init__(self, packs: Iterable[Pack]) -> None:
        self._packs = iter(packs)
        self._drawn: list[Pack] = []

    def __bool__(self) -> bool:
        if not self._drawn:
            self._drawn += islice(self._packs, 1)
        return bool(self._drawn)

    def __iadd__(self, packs: Iterable[Pack]) -> Waiting:
        self._drawn += packs
        return self

    def pop(self) -> Pack:
        """The next pack: of those put back the last, else the next one drawn."""
        return self._drawn.pop() if self else next(self._packs)


class UnderWay:
    """Passes on what it hears, and knows which trials have begun and not ended."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._begun: dict[str, tuple[Trial, datetime]] = {}
        self._reports: dict[str, Throttled] = {}

    def started(self, trial: Trial) -> None:
        """A trial that begins anew (alone, after its pack could not go on) is not announced again."""
        if trial.id not in self._begun:
            self._begun[trial.id] = (trial, datetime.now(UTC))
            self._reports[trial.id] = Throttled(partial(self._listener.progress, trial))
            self._listener.started(trial)

    def progress(self, trial: Trial, done: int, total: int) -> None:
        self._reports[trial.id](done, total)

    def finished(self, record: RunRecord) -> None:
        self._begun.pop(record.trial.id, None)
        self._reports.pop(record.trial.id, None)
        self._listener.finished(record)

    def end(self, status: Status, reason: str, trials: Sequence[Trial] | None = None) -> None:
        """Hand over a record of each trial that is under way (of `trials`, if they are given)."""
        chosen = None if trials is None else {trial.id for trial in trials}
        for trial, started in list(self._begun.values()):
            if chosen is None or trial.id in chosen:
                self.finished(unfinished(trial, started, status, reason))


class InProcess:
    """Runs one pack after the other here."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def call(self, function: Calculation, argument: Any) -> Any:
        return function(argument, self._settings)

    def run(self, packs: Iterable[Pack], listener: Listener) -> None:
        from harness.pack.run import run_trials

        under_way = UnderWay(listener)
        try:
            for pack in packs:
                run_trials(pack, self._settings, under_way)
        except KeyboardInterrupt:
            with interrupts_ignored():
                under_way.end("interrupted", STOPPED)
            raise

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
