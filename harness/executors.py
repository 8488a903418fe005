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
from functools import partial
from importlib.metadata import version
from typing import Any, Protocol

from harness.clocks import Began
from harness.errors import DeviceLost, Stop, UserError
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

        On KeyboardInterrupt or Stop what is under way ends and is handed over as `interrupted`.
        """
        ...

    def close(self) -> None:
        """Release processes."""
        ...


class Machines(Protocol):
    """Where executors run their trials."""

    def jobs(self, asked: int) -> int:
        """Trials at a time; asked: 0 for as many as there is room for."""
        ...

    def executor(self, jobs: int) -> Executor:
        """One that runs so many trials at a time."""
        ...

    def close(self) -> None:
        """Let go of them."""
        ...


class ThisMachine:
    """The machine that the driver runs on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def jobs(self, asked: int) -> int:
        return asked or automatic_jobs(self._settings)

    def executor(self, jobs: int) -> Executor:
        return make_executor(jobs, self._settings)

    def close(self) -> None:
        """Nothing to let go of."""


def make_executor(jobs: int, settings: Settings) -> Executor:
    """One job runs in this process, several in as many worker processes that share the cores.

    A time limit takes a worker process even for one job: what hangs can only be stopped from outside. So does an
    accelerator that an error may take from a process until that ends.
    """
    from harness.workers import Workers  # which builds on this module

    here = jobs == 1 and not settings.timeout and not _on_cuda(settings)
    return InProcess(settings) if here else Workers(jobs, settings)


def automatic_jobs(settings: Settings) -> int:
    """One job where there is one accelerator to share; else one per core, at most four."""
    if settings.device not in ("auto", "cpu") or (settings.device == "auto" and _accelerator_likely()):
        return 1
    return min(MOST_AUTOMATIC_JOBS, available_cores())


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _on_cuda(settings: Settings) -> bool:
    """Whether trials will run on a CUDA device, as far as that can be told without importing torch."""
    if settings.device == "auto":
        return platform.system() != "Darwin" and _accelerator_likely()
    return settings.device.startswith("cuda")


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


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Ctrl-C and SIGTERM take effect at the end of this block (only the main thread can say so)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, lambda number, frame: caught.append(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if caught:
            signal.raise_signal(caught[0])


def unfinished(trial: Trial, began: Began, status: Status, reason: str) -> RunRecord:
    """The record of a trial that did not come to its own end."""
    return RunRecord(trial, status, began.at, began.now(), reason=reason)


def why(end: BaseException) -> str:
    """The reason of trials that are stopped at the end of a plan."""
    return end.reason if isinstance(end, Stop) else STOPPED


class UnderWay:
    """Passes on what it hears, and knows which trials have begun and not ended."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._begun: dict[str, tuple[Trial, Began]] = {}
        self._reports: dict[str, Throttled] = {}

    def started(self, trial: Trial) -> None:
        """A trial that begins anew (alone, after its pack could not go on) is not announced again."""
        if trial.id not in self._begun:
            self._begun[trial.id] = (trial, Began())
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
        for trial, began in list(self._begun.values()):
            if chosen is None or trial.id in chosen:
                self.finished(unfinished(trial, began, status, reason))


class InProcess:
    """Runs one pack after the other here. An error that takes the device from this process ends the plan."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def call(self, function: Calculation, argument: Any) -> Any:
        return function(argument, self._settings)

    def run(self, packs: Iterable[Pack], listener: Listener) -> None:
        under_way = UnderWay(listener)
        try:
            for pack in packs:
                self._run(pack, under_way)
        except (KeyboardInterrupt, Stop) as end:
            with interrupts_ignored():
                under_way.end("interrupted", why(end))
            raise

    def _run(self, pack: Pack, under_way: UnderWay) -> None:
        from harness.pack.run import run_trials

        try:
            run_trials(pack, self._settings, under_way)
        except DeviceLost as lost:
            if lost.record is not None:
                under_way.finished(lost.record)
            advice = UserError(f"{lost}; the same command goes on with what is missing.")
            raise Stop("stopped: another trial cost the process its device", advice) from lost

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
