"""Worker processes: each runs one trial at a time, and one that dies costs its trial, not the others."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from harness.clocks import Began
from harness.errors import Stop, UserError
from harness.executors import (
    Calculation,
    Listener,
    UnderWay,
    available_cores,
    interrupts_deferred,
    interrupts_ignored,
    unfinished,
    why,
)
from harness.pack.plan import Pack
from harness.processes import cause_of_death, end_with_the_parent
from harness.records import RunRecord
from harness.redaction import install
from harness.retrying import AGAIN
from harness.settings import Settings
from harness.trial import Trial

READY = "ready"
"""What a worker says when its libraries are loaded: from here on a trial's time counts."""


@dataclass(frozen=True)
class _Order:
    """What a worker is to do, and how often that was tried before."""

    pack: Pack
    tries: int = 0
    not_before: float = 0.0
    """time.monotonic, in seconds."""


@dataclass
class _Worker:
    """One process, the pipe to it, and the trials that it has been given and not handed back."""

    process: Any
    pipe: Connection
    order: _Order | None = None
    left: dict[str, Trial] = field(default_factory=dict)
    ready: float | None = None
    """time.monotonic when it began with its order; None before."""
    heard: float = 0.0
    """When it last said something."""
    overran: bool = False

    def deadline(self, timeout: float) -> float:
        """When its time is up: a lone trial has `timeout` seconds; a pack as many for each of its trials, and may not
        be silent for longer than one of them."""
        if not timeout or self.ready is None or self.order is None:
            return math.inf
        trials = len(self.order.pack)
        silent = math.inf if trials == 1 else self.heard + timeout
        return min(self.ready + timeout * trials, silent)


class Workers:
    """Runs trials in processes of their own. One that dies costs its trial, not the others.

    A process that was killed (by the system, for memory; by an operator) is no fault of its trial, which is tried
    again after a while; a process that ended otherwise is.
    """

    def __init__(self, jobs: int, settings: Settings) -> None:
        self._settings = replace(settings, threads=settings.threads or max(1, available_cores() // jobs))
        self._context = multiprocessing.get_context("spawn")
        self._jobs = jobs
        self._workers: list[_Worker] = []
        self._again: list[_Order] = []
        """What was put back."""

    def call(self, function: Calculation, argument: Any) -> Any:
        self._open()
        for _ in range(1 + len(AGAIN)):
            worker = self._workers[0]
            try:
                worker.pipe.send(("call", function, argument))
                kind, result = worker.pipe.recv()
            except (EOFError, OSError):
                self._bury(worker)
                if worker.process.exitcode != -signal.SIGKILL:
                    break
                continue
            if kind == "error":
                raise result
            return result
        raise UserError(f"a worker process died at the start: {cause_of_death(worker.process)}.")

    def run(self, packs: Iterable[Pack], listener: Listener) -> None:
        self._packs, self._again = iter(packs), []
        self._under_way = UnderWay(listener)
        self._open()
        try:
            while self._assigned() or self._again:
                self._listen()
        except (KeyboardInterrupt, Stop) as end:
            with interrupts_ignored():
                for worker in self._busy():
                    worker.process.terminate()
                    worker.order = None
                self._under_way.end("interrupted", why(end))
            raise

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
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
        return [worker for worker in self._workers if worker.order is not None]

    def _assigned(self) -> bool:
        """Give every idle worker something to do, as far as there is something; whether any is at work then."""
        for worker in self._workers:
            if worker.order is None and (order := self._next_order()) is not None:
                self._assign(worker, order)
        return bool(self._busy())

    def _next_order(self) -> _Order | None:
        """What was put back and is due, else the next pack, which is drawn only now that a worker is free for it."""
        now = time.monotonic()
        due = next((order for order in self._again if order.not_before <= now), None)
        if due is not None:
            self._again.remove(due)
            return due
        pack = next(self._packs, None)
        return None if pack is None else _Order(pack)

    def _assign(self, worker: _Worker, order: _Order) -> None:
        worker.order, worker.left, worker.ready = order, {trial.id: trial for trial in order.pack}, None
        if len(order.pack) == 1:
            self._under_way.started(order.pack[0])
        try:
            worker.pipe.send(("pack", order.pack, None))
        except OSError:
            self._bury(worker)

    def _listen(self) -> None:
        """Wait until a worker says something, dies or overruns its time, or an order is due, and act on it."""
        busy = {worker.pipe: worker for worker in self._busy()}
        for pipe in wait(list(busy), self._patience()):
            with interrupts_deferred():  # what is read from the pipe is stored, or Ctrl-C would lose it
                self._hear(busy[pipe])  # type: ignore[index]
        now = time.monotonic()
        for worker in self._busy():
            if not worker.overran and worker.deadline(self._settings.timeout) <= now:
                worker.overran = True
                worker.process.kill()  # what it had said before is still in the pipe, and heard before its end

    def _patience(self) -> float | None:
        """Seconds until there is something to do if nobody says anything."""
        due = [worker.deadline(self._settings.timeout) for worker in self._busy() if not worker.overran]
        if len(self._busy()) < len(self._workers):
            due += [order.not_before for order in self._again]
        nearest = min(due, default=math.inf)
        return None if math.isinf(nearest) else max(0.0, nearest - time.monotonic())

    def _hear(self, worker: _Worker) -> None:
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        worker.heard = time.monotonic()
        if kind == READY:
            worker.ready = worker.heard
        elif kind == "started":
            self._under_way.started(content)
        elif kind == "progress":
            self._under_way.progress(*content)
        elif kind == "record":
            worker.left.pop(content.trial.id, None)
            if not worker.left:
                worker.order = None
                if worker.overran:  # it was done just in time, and ended all the same: nobody is to be given to it
                    self._bury(worker)
            self._under_way.finished(content)

    def _bury(self, worker: _Worker) -> None:
        """Put a new worker in the place of a dead one, and its trials back in smaller packs; a lone one has ended."""
        worker.process.join(timeout=5)
        worker.pipe.close()
        self._workers[self._workers.index(worker)] = self._start()
        left, order = tuple(worker.left.values()), worker.order
        if order is None or not left:
            return
        if len(order.pack) > 1:
            half = -(-len(left) // 2)
            self._again += [_Order(pack) for pack in (left[:half], left[half:]) if pack]
        elif worker.overran:
            reason = f"it took longer than {self._settings.timeout:g} s, the limit that was set"
            self._under_way.end("timeout", reason, left)
        elif worker.process.exitcode == -signal.SIGKILL and order.tries < len(AGAIN):
            due = time.monotonic() + AGAIN[order.tries]
            self._again.append(_Order(order.pack, order.tries + 1, due))
        else:
            tried = f" (tried {order.tries + 1} times)" if order.tries else ""
            self._under_way.end("failed", f"the worker process died: {cause_of_death(worker.process)}{tried}", left)


def _serve(pipe: Connection, settings: Settings) -> None:
    """Life of a worker: take an order, answer it, until the pipe closes."""
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)  # before torch is imported
    install()  # logs of this process too
    end_with_the_parent()
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

    def ready(self) -> None:
        self._pipe.send((READY, None))

    def started(self, trial: Trial) -> None:
        self._pipe.send(("started", trial))

    def progress(self, trial: Trial, done: int, total: int) -> None:
        self._pipe.send(("progress", (trial, done, total)))

    def finished(self, record: RunRecord) -> None:
        self.ended.add(record.trial.id)
        self._pipe.send(("record", record))


def _run_here(pack: Pack, settings: Settings, piped: _Piped) -> None:
    began = Began()
    listener = UnderWay(piped)
    try:
        from harness.pack.run import run_trials

        piped.ready()
        run_trials(pack, settings, listener)
    except (Exception, SystemExit) as error:  # the runner itself failed: its trials are lost, the worker is not
        for trial in pack:
            if trial.id not in piped.ended:
                record = unfinished(trial, began, "failed", f"{type(error).__name__}: {error}".split("\n")[0])
                listener.finished(replace(record, traceback=traceback.format_exc()))
