"""Where trials run: in this process, or in worker processes beside it.

The process that drives stays light: it never imports torch when workers do the training. It alone writes to the
store, one transaction per run; a worker only hands back a record.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from harness.errors import UserError
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
def _interrupts_ignored() -> Iterator[None]:
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


# ------------------------------------------------------------------------------------ in this process


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
            report = _Throttled(partial(listener.progress, trial))
            try:
                record = run_trial(trial, self._settings, report)
            except KeyboardInterrupt:
                with _interrupts_ignored():
                    listener.finished(unfinished(trial, started, "interrupted", "stopped by the user"))
                raise
            listener.finished(record)

    def close(self) -> None:
        """Nothing to release."""


class _Throttled:
    """Passes progress on, but not more often than worth looking at."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self._report = report
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS or done == total:
            self._last = now
            self._report(done, total)


# --------------------------------------------------------------------------------- in worker processes


@dataclass
class _Worker:
    """One process, the pipe to it, and the trial that it works on."""

    process: Any
    pipe: Connection
    trial: Trial | None = None
    started: datetime | None = None


class Workers:
    """Runs trials in processes of their own. One that dies costs its trial, not the others."""

    def __init__(self, jobs: int, settings: Settings) -> None:
        self._settings = replace(settings, threads=settings.threads or max(1, available_cores() // jobs))
        self._context = multiprocessing.get_context("spawn")
        self._jobs = jobs
        self._workers: list[_Worker] = []

    def call(self, function: Calculation, argument: Any) -> Any:
        self._open()
        worker = self._workers[0]
        worker.pipe.send(("call", function, argument))
        try:
            kind, result = worker.pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"a worker process died at the start: {_cause_of_death(worker.process)}") from None
        if kind == "error":
            raise result
        return result

    def run(self, trials: Sequence[Trial], listener: Listener) -> None:
        waiting = list(reversed(trials))
        self._open()
        try:
            while waiting or self._busy():
                for worker in self._workers:
                    if worker.trial is None and waiting:
                        self._assign(worker, waiting.pop(), listener)
                self._listen(listener)
        except KeyboardInterrupt:
            with _interrupts_ignored():
                self._interrupt(listener)
            raise

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(timeout=5)
            worker.pipe.close()

    def _open(self) -> None:
        self._workers = self._workers or [self._start() for _ in range(self._jobs)]

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(there, self._settings), daemon=True)
        with _interrupts_ignored():  # inherited: Ctrl-C is the driver's to handle
            process.start()
        there.close()
        return _Worker(process, here)

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.trial is not None]

    def _assign(self, worker: _Worker, trial: Trial, listener: Listener) -> None:
        worker.trial, worker.started = trial, datetime.now(UTC)
        listener.started(trial)
        try:
            worker.pipe.send(("trial", trial, None))
        except OSError:
            self._bury(worker, listener)

    def _listen(self, listener: Listener) -> None:
        """Wait until a worker says something, or dies, and act on it."""
        busy = {worker.pipe: worker for worker in self._busy()}
        for pipe in wait(list(busy)):
            worker = busy[pipe]  # type: ignore[index]
            try:
                kind, content = worker.pipe.recv()
            except (EOFError, OSError):
                self._bury(worker, listener)
                continue
            if kind == "progress" and worker.trial is not None:
                listener.progress(worker.trial, *content)
            elif kind == "record":
                worker.trial = None
                listener.finished(content)

    def _bury(self, worker: _Worker, listener: Listener) -> None:
        """Record the trial of a dead worker as failed and put a new worker in its place."""
        worker.process.join(timeout=5)
        trial, started = worker.trial, worker.started
        worker.pipe.close()
        reason = f"the worker process died: {_cause_of_death(worker.process)}"
        self._workers[self._workers.index(worker)] = self._start()
        if trial is not None and started is not None:
            listener.finished(unfinished(trial, started, "failed", reason))

    def _interrupt(self, listener: Listener) -> None:
        for worker in self._busy():
            worker.process.terminate()
        for worker in self._busy():
            trial, started = worker.trial, worker.started
            worker.trial = None
            if trial is not None and started is not None:
                listener.finished(unfinished(trial, started, "interrupted", "stopped by the user"))


def _cause_of_death(process: Any) -> str:
    code = process.exitcode
    if code is None or code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (" (out of memory is the usual cause)" if name == "SIGKILL" else "")


def _serve(pipe: Connection, settings: Settings) -> None:
    """Life of a worker: take an order, answer it, until the pipe closes."""
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)  # before torch is imported
    while True:
        try:
            kind, order, argument = pipe.recv()
        except EOFError:
            return
        pipe.send(_run_here(order, settings, pipe) if kind == "trial" else _call_here(order, argument, settings))


def _call_here(function: Calculation, argument: Any, settings: Settings) -> tuple[str, Any]:
    try:
        return "result", function(argument, settings)
    except UserError as error:
        return "error", UserError(str(error))
    except Exception:
        return "error", RuntimeError(traceback.format_exc())


def _run_here(trial: Trial, settings: Settings, pipe: Connection) -> tuple[str, RunRecord]:
    started = datetime.now(UTC)
    try:
        from harness.runner import run_trial

        return "record", run_trial(trial, settings, _Throttled(lambda *steps: pipe.send(("progress", steps))))
    except Exception as error:  # the runner itself failed: the trial is lost, the worker is not
        record = unfinished(trial, started, "failed", f"{type(error).__name__}: {error}".split("\n")[0])
        return "record", replace(record, traceback=traceback.format_exc())
