"""Life of a worker process: it takes orders through a pipe, and tells how they go."""

from __future__ import annotations

import contextlib
import importlib
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from harness.clocks import Began
from harness.errors import DeviceLost, UserError
from harness.executors import Calculation, Listener, UnderWay, unfinished
from harness.pack.plan import Pack
from harness.processes import end_with_the_parent
from harness.records import RunRecord
from harness.redaction import install
from harness.settings import Settings
from harness.trial import Trial

LOST = "lost"
"""A worker's last word when its device is lost to it, with the record of the trial that did it, if that is known."""
READY = "ready"
"""What a worker says when its libraries are loaded: from here on a trial's time counts."""

LIBRARIES = ("transformers.models.auto.modeling_auto", "transformers.modeling_layers", "harness.metric_modules")
"""What the runner's modules import only when a model is loaded or a prediction is scored."""
IDLE_SECONDS = 0.1
"""Who has no order so soon after its start will train later."""

Runner = Callable[[Sequence[Trial], Settings, Listener], None]
"""Runs the trials of a pack to their ends, as `harness.pack.run.run_trials` does."""
Message = tuple[str, Any]
"""What a worker says: a kind (ready, started, progress, record, lost; result, error), and what belongs to it."""


@dataclass(frozen=True)
class Training:
    """Run a pack."""

    pack: Pack
    runner: Runner | None = None
    """None: `harness.pack.run.run_trials`."""


@dataclass(frozen=True)
class Call:
    """Compute `function(argument, settings)`."""

    function: Calculation
    argument: Any


def serve(pipe: Connection, settings: Settings) -> None:
    """Take an order, answer it, until the pipe closes or the device is lost."""
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)  # before torch is imported
    install()  # logs of this process too
    end_with_the_parent()
    if not pipe.poll(IDLE_SECONDS):
        with contextlib.suppress(Exception):  # which the first order meets again
            _ordinary_runner()  # another worker checks the plan meanwhile: what trials need is loaded when they come
    while True:
        try:
            order: Training | Call = pipe.recv()
        except EOFError:
            return
        if isinstance(order, Training):
            try:
                _run(order, settings, _Piped(pipe))
            except DeviceLost as lost:
                pipe.send((LOST, lost.record))
                return
        else:
            pipe.send(_answer(order, settings))


def _answer(call: Call, settings: Settings) -> Message:
    try:
        return "result", call.function(call.argument, settings)
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


def _run(order: Training, settings: Settings, piped: _Piped) -> None:
    began = Began()
    listener = UnderWay(piped)
    try:
        runner = order.runner or _ordinary_runner()
        piped.ready()
        runner(order.pack, settings, listener)
    except (Exception, SystemExit) as error:  # the runner itself failed: its trials are lost, the worker is not
        for trial in order.pack:
            if trial.id not in piped.ended:
                record = unfinished(trial, began, "failed", f"{type(error).__name__}: {error}".split("\n")[0])
                listener.finished(replace(record, traceback=traceback.format_exc()))


def _ordinary_runner() -> Runner:
    """Loads all that training and scoring import, which takes a while: no trial's time is to be spent on it."""
    for name in LIBRARIES:
        importlib.import_module(name)
    from harness.pack.run import run_trials

    return run_trials
