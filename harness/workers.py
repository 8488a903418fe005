"""Workers beside the process that drives: each runs one pack at a time; one that dies costs its trial, not the others.

What is done when is decided here; `links` (processes of this machine) and `cluster.ray_links` say how workers are
spoken with.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from harness.errors import Stop, UserError
from harness.executors import (
    Calculation,
    Listener,
    UnderWay,
    available_cores,
    interrupts_deferred,
    interrupts_ignored,
    why,
)
from harness.links import Gone, Processes, Refused, Transport
from harness.pack.plan import Pack
from harness.records import RunRecord
from harness.retrying import AGAIN
from harness.serving import LOST, READY, Call, Runner, Training
from harness.settings import Settings
from harness.trial import Trial

PATIENCE_SECONDS = 15.0
"""Without any worker for so long, the driver says what it waits for."""


@dataclass(frozen=True)
class _Order:
    """What a worker is to do, and how often that was tried before."""

    pack: Pack
    tries: int = 0
    not_before: float = 0.0
    """time.monotonic, in seconds."""


@dataclass
class _Worker:
    """One worker, and the trials that it has been given and not handed back."""

    link: Any
    order: _Order | None = None
    left: dict[str, Trial] = field(default_factory=dict)
    ready: float | None = None
    """time.monotonic when it began with its order; None before."""
    heard: float = 0.0
    """When it last said something."""
    overran: bool = False
    vain: int = 0
    """How many before it in its place were gone before they were up."""

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

    A process that was killed (by the system, for memory; by an operator) or was lost with its machine is no fault of
    its trial, which is tried again after a while; a process that ended otherwise is.
    """

    def __init__(self, jobs: int, settings: Settings, transport: Transport[Any] | None = None) -> None:
        """transport: where workers come from; None: `jobs` processes of this machine, which share its cores."""
        self._settings = settings
        if transport is None:
            shared = replace(settings, threads=settings.threads or max(1, available_cores() // jobs))
            transport = Processes(shared)
        self._transport = transport
        self._jobs = jobs
        self._workers: list[_Worker] = []
        self._again: list[_Order] = []
        """What was put back."""
        self._exhausted = False
        """Whether all packs have been drawn."""
        self._none_up_since, self._told = math.inf, False
        self.runner: Runner | None = None
        """Runs a pack in the worker in place of `harness.pack.run.run_trials`; benchmarks use it."""

    def call(self, function: Calculation, argument: Any) -> Any:
        self._open()
        cause = ""
        for _ in range(1 + len(AGAIN)):
            worker = self._first_up()
            try:
                worker.link.send(Call(function, argument))
                kind, result = worker.link.receive()
            except Gone as gone:
                cause = gone.cause
                self._bury(worker, gone)
                if not (gone.killed or gone.lost):
                    break
                continue
            if kind == "error":
                raise result
            return result
        raise UserError(f"a worker process died at the start: {cause}.")

    def run(self, packs: Iterable[Pack], listener: Listener) -> None:
        self._packs, self._again, self._exhausted = iter(packs), [], False
        self._under_way = UnderWay(listener)
        self._open()
        try:
            while self._assigned() or self._again or not self._exhausted:
                self._listen()
        except (KeyboardInterrupt, Stop, UserError) as end:
            with interrupts_ignored():
                for worker in self._busy():
                    worker.link.kill()
                    worker.order = None
                self._under_way.end("interrupted", str(end) if isinstance(end, UserError) else why(end))
            raise

    def close(self) -> None:
        for worker in self._workers:
            worker.link.kill()
        for worker in self._workers:
            worker.link.close()

    def _open(self) -> None:
        self._workers = self._workers or [_Worker(self._transport.start()) for _ in range(self._jobs)]

    def _first_up(self) -> _Worker:
        """A worker that takes orders, waited for."""
        while True:
            for worker in self._workers:
                if worker.link.up:
                    return worker
            for worker in self._speaking(None):
                self._hear(worker)

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.order is not None]

    def _assigned(self) -> bool:
        """Give every idle worker something to do, as far as there is something; whether any is at work then."""
        for worker in list(self._workers):
            if worker.link.up and worker.order is None and (order := self._next_order()) is not None:
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
        self._exhausted = pack is None
        return None if pack is None else _Order(pack)

    def _assign(self, worker: _Worker, order: _Order) -> None:
        worker.order, worker.left, worker.ready = order, {trial.id: trial for trial in order.pack}, None
        if len(order.pack) == 1:
            self._under_way.started(order.pack[0])
        try:
            worker.link.send(Training(order.pack, self.runner))
        except Gone as gone:
            self._bury(worker, gone)

    def _listen(self) -> None:
        """Wait until a worker says something, dies or overruns its time, or an order is due, and act on it."""
        for worker in self._speaking(self._patience()):
            with interrupts_deferred():  # what is received is stored, or Ctrl-C would lose it
                self._hear(worker)
        now = time.monotonic()
        for worker in self._busy():
            if not worker.overran and worker.deadline(self._settings.timeout) <= now:
                worker.overran = True
                worker.link.kill()  # what it had said before is still to be received, and heard before its end

    def _speaking(self, seconds: float | None) -> list[_Worker]:
        """Those of the workers of which something is awaited that have something to say."""
        awaited = [worker for worker in self._workers if worker.order is not None or not worker.link.up]
        links = self._transport.wait([worker.link for worker in awaited], self._told_patience(seconds))
        return [worker for worker in awaited if worker.link in links]

    def _told_patience(self, seconds: float | None) -> float | None:
        """So long, or less as long as no worker is up: that is told after a while."""
        now = time.monotonic()
        if any(worker.link.up for worker in self._workers):
            self._none_up_since = math.inf
            return seconds
        self._none_up_since = min(self._none_up_since, now)
        left = self._none_up_since + PATIENCE_SECONDS - now
        if left <= 0 and not self._told:
            print(f"waiting for {self._transport.place}", file=sys.stderr)
        self._told = left <= 0
        return seconds if self._told else min(left, math.inf if seconds is None else seconds)

    def _patience(self) -> float | None:
        """Seconds until there is something to do if nobody says anything."""
        due = [worker.deadline(self._settings.timeout) for worker in self._busy() if not worker.overran]
        if any(worker.link.up and worker.order is None for worker in self._workers):
            due += [order.not_before for order in self._again] + ([] if self._exhausted else [0.0])
        nearest = min(due, default=math.inf)
        return None if math.isinf(nearest) else max(0.0, nearest - time.monotonic())

    def _hear(self, worker: _Worker) -> None:
        try:
            kind, content = worker.link.receive()
        except Gone as gone:
            self._bury(worker, gone)
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
                    self._bury(worker, Gone("", killed=True))
            self._under_way.finished(content)
        elif kind == LOST:
            self._dismiss(worker, content)

    def _dismiss(self, worker: _Worker, record: RunRecord | None) -> None:
        """End a worker that has lost its device, whose trials left are put back; another one finds the device in order.

        `record` is of the trial that ended so, which is not tried again: its kernels failed, not the machine.
        """
        if record is not None:
            worker.left.pop(record.trial.id, None)
        worker.link.kill()
        self._bury(worker, Gone("it lost its device"))
        if record is not None:
            self._under_way.finished(record)

    def _bury(self, worker: _Worker, gone: Gone) -> None:
        """Put a new worker in the place of a dead one, and its trials back in smaller packs; a lone one has ended."""
        self._succeed(worker, gone)
        left, order = tuple(worker.left.values()), worker.order
        if order is None or not left:
            return
        again = order.tries < len(AGAIN) and not worker.overran
        if again and (gone.lost or (gone.killed and len(order.pack) == 1)):
            self._again.append(_Order(left, order.tries + 1, time.monotonic() + AGAIN[order.tries]))
        elif len(order.pack) > 1:
            half = -(-len(left) // 2)
            self._again += [_Order(pack) for pack in (left[:half], left[half:]) if pack]
        elif worker.overran:
            reason = f"it took longer than {self._settings.timeout:g} s, the limit that was set"
            self._under_way.end("timeout", reason, left)
        else:
            tried = f" (tried {order.tries + 1} times)" if order.tries else ""
            self._under_way.end("failed", f"the worker process died: {gone.cause}{tried}", left)

    def _succeed(self, worker: _Worker, gone: Gone) -> None:
        """Put another in the place of a worker that is gone; none where that has been of no use."""
        place = self._workers.index(worker)
        vain = 0 if worker.link.up else worker.vain + 1
        if not isinstance(gone, Refused) and vain <= len(AGAIN):
            self._workers[place] = _Worker(self._transport.replace(worker.link), vain=vain)
            return
        del self._workers[place]
        worker.link.close()
        if not self._workers:
            raise UserError(f"no worker can begin: {gone.cause}")
        print(f"a worker less: {gone.cause}", file=sys.stderr)
