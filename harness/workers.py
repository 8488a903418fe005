"""Worker processes: each runs one trial at a time, and one that dies costs its trial, not the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from typing import Any

from harness.errors import UserError
from harness.executors import STOPPED, Calculation, Listener, UnderWay, available_cores, interrupts_ignored, unfinished
from harness.pack.plan import Pack
from harness.records import RunRecord
from harness.redaction import install
from harness.settings import Settings
from harness.trial import Trial


@dataclass
class _Worker:
    """One process, the pipe to it, and the trials that it has been given and not handed back."""

    process: Any
    pipe: Connection
    left: dict[str, Trial] = field(default_factory=dict)
    given: int = 0
    """How many they were."""


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

    def run(self, packs: Sequence[Pack], listener: Listener) -> None:
        self._waiting = list(reversed(packs))
        self._under_way = UnderWay(listener)
        self._open()
        try:
            while self._waiting or self._busy():
                for worker in self._workers:
                    if not worker.left and self._waiting:
                        self._assign(worker, self._waiting.pop())
                self._listen()
        except KeyboardInterrupt:
            with interrupts_ignored():
                for worker in self._busy():
                    worker.process.terminate()
                    worker.left.clear()
                self._under_way.end("interrupted", STOPPED)
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
        return [worker for worker in self._workers if worker.left]

    def _assign(self, worker: _Worker, pack: Pack) -> None:
        worker.left, worker.given = {trial.id: trial for trial in pack}, len(pack)
        if len(pack) == 1:
            self._under_way.started(pack[0])
        try:
            worker.pipe.send(("pack", pack, None))
        except OSError:
            self._bury(worker)

    def _listen(self) -> None:
        """Wait until a worker says something, or dies, and act on it."""
        busy = {worker.pipe: worker for worker in self._busy()}
        for pipe in wait(list(busy)):
            worker = busy[pipe]  # type: ignore[index]
            try:
                kind, content = worker.pipe.recv()
            except (EOFError, OSError):
                self._bury(worker)
                continue
            if kind == "started":
                self._under_way.started(content)
            elif kind == "progress":
                self._under_way.progress(*content)
            elif kind == "record":
                worker.left.pop(content.trial.id, None)
                self._under_way.finished(content)

    def _bury(self, worker: _Worker) -> None:
        """Put a new worker in the place of a dead one, and its trials back in smaller packs; a lone one has failed."""
        worker.process.join(timeout=5)
        worker.pipe.close()
        self._workers[self._workers.index(worker)] = self._start()
        left = tuple(worker.left.values())
        if worker.given == 1:
            self._under_way.end("failed", f"the worker process died: {_cause_of_death(worker.process)}", left)
        else:
            half = -(-len(left) // 2)
            self._waiting += [pack for pack in (left[half:], left[:half]) if pack]


def _cause_of_death(process: Any) -> str:
    code = process.exitcode
    if code is None or code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (" (out of memory is the usual cause)" if name == "SIGKILL" else "")


def _serve(pipe: Connection, settings: Settings) -> None:
    """Life of a worker: take an order, answer it, until the pipe closes."""
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)  # before torch is imported
    install()  # logs of this process too
    while True:
        try:
            kind, order, argument = pipe.recv()
        except EOFError:
            return
        if kind == "pack":
            _run_here(order, settings, _Piped(pipe))
        else:
            pipe.send(_call_here(order, argument, settings))


def _call_here(function: Calculation, argument: Any, settings: Settings) -> tuple[str, Any]:
    try:
        return "result", function(argument, settings)
    except UserError as error:
        return "error", UserError(str(error))
    except Exception:
        return "error", RuntimeError(traceback.format_exc())


class _Piped:
    """A worker's listener: tells the process that drives, and keeps which trials have not ended."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.ended: set[str] = set()

    def started(self, trial: Trial) -> None:
        self._pipe.send(("started", trial))

    def progress(self, trial: Trial, done: int, total: int) -> None:
        self._pipe.send(("progress", (trial, done, total)))

    def finished(self, record: RunRecord) -> None:
        self.ended.add(record.trial.id)
        self._pipe.send(("record", record))


def _run_here(pack: Pack, settings: Settings, piped: _Piped) -> None:
    started = datetime.now(UTC)
    listener = UnderWay(piped)
    try:
        from harness.pack.run import run_trials

        run_trials(pack, settings, listener)
    except Exception as error:  # the runner itself failed: its trials are lost, the worker is not
        for trial in pack:
            if trial.id not in piped.ended:
                record = unfinished(trial, started, "failed", f"{type(error).__name__}: {error}".split("\n")[0])
                listener.finished(replace(record, traceback=traceback.format_exc()))
