"""Worker processes: each runs one trial at a time, and one that dies costs its trial, not the others."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from typing import Any

from harness.errors import UserError
from harness.executors import Calculation, Listener, Throttled, available_cores, interrupts_ignored, unfinished
from harness.records import RunRecord
from harness.settings import Settings
from harness.trial import Trial


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
            with interrupts_ignored():
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
        with interrupts_ignored():  # inherited: Ctrl-C is the driver's to handle
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
    for number in itertools.count():
        if number == 2:
            # libraries and plugins are loaded by now: the collections before each trial need not walk them again
            gc.collect()
            gc.freeze()
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

        return "record", run_trial(trial, settings, Throttled(lambda *steps: pipe.send(("progress", steps))))
    except Exception as error:  # the runner itself failed: the trial is lost, the worker is not
        record = unfinished(trial, started, "failed", f"{type(error).__name__}: {error}".split("\n")[0])
        return "record", replace(record, traceback=traceback.format_exc())
