"""The processes of a sharded trial: started together, ended together, whatever happens to one of them.

The process that starts them computes nothing itself and waits: so that a trial ends if one of its processes dies, and
none outlives it. Importing this module does not import torch, which the processes import with their own threads set.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from harness.errors import TrialFailure, UserError
from harness.executors import interrupts_ignored
from harness.processes import cause_of_death, end_with_the_parent
from harness.redaction import install

GRACE = 2.0
"""Seconds in which the others may say or show what has really happened, once one process is in trouble."""
FAREWELL = 10.0
"""Seconds in which processes that are done may end by themselves."""

SAID = "said"

Say = Callable[..., None]


@dataclass(frozen=True)
class Place:
    """Which of the processes of one trial this is, and where they meet."""

    rank: int
    ranks: int
    meeting: Path
    """A file that does not exist yet, the same for all."""
    threads: int = 1
    """Torch's threads in each of them."""


Work = Callable[[Any, Place, Say], Any]
"""What each of the processes does: a function of a module, for they import it. It is given its argument, its place and
how to say something, which is heard at once; what it gives in the first process is the result."""


@dataclass(frozen=True)
class Trouble:
    """The error that ended a process, in a form that always travels."""

    at: float
    """time.monotonic: the first of several is the cause of the others."""
    kind: str
    """"trial", "user", "memory", "main memory", "system" or "other"."""
    arguments: tuple[Any, ...]
    """Of the error that is raised for it."""
    text: str
    """The traceback there."""

    @classmethod
    def of(cls, error: BaseException) -> Trouble:
        """Of an error in this process."""
        import traceback

        message = str(error)
        kind: str = "other"
        arguments: tuple[Any, ...] = (type(error).__name__, message)
        if isinstance(error, TrialFailure):
            kind, arguments = "trial", (error.status, error.reason)
        elif isinstance(error, UserError):
            kind, arguments = "user", (message,)
        elif "torch" in sys.modules and _no_memory(error):  # what it could raise is raised where it was imported
            kind, arguments = "memory", (message,)
        elif isinstance(error, MemoryError):
            kind, arguments = "main memory", (message,)
        elif isinstance(error, OSError) and error.errno is not None:
            kind, arguments = "system", (error.errno, error.strerror)
        return cls(time.monotonic(), kind, arguments, "".join(traceback.format_exception(error)))

    def error(self) -> Exception:
        """As near to the error itself as what started the process needs."""
        import torch

        makers: dict[str, Callable[..., Exception]] = {
            "trial": TrialFailure,
            "user": UserError,
            "memory": torch.OutOfMemoryError,
            "main memory": MemoryError,
            "system": OSError,
        }
        error = makers.get(self.kind, _error_named)(*self.arguments)
        error.add_note(f"In the process where it was raised:\n{self.text}")
        return error


def _no_memory(error: BaseException) -> bool:
    from harness.torch_errors import out_of_memory

    return out_of_memory(error)


def _error_named(name: str, message: str) -> Exception:
    """An error that is called like one whose class may not exist in this process."""
    made: Exception = type(name, (Exception,), {})(message)
    return made


def together(work: Work, argument: Any, ranks: int, threads: int, hear: Say = lambda *said: None) -> Any:
    """What `work` gives in the first of `ranks` processes.

    An error in one of them ends all, and is raised here; so does the death of one, as TrialFailure("failed"). None of
    the processes is there any more when this returns or raises.
    """
    with tempfile.TemporaryDirectory(prefix="peft-harness-") as folder:
        places = [Place(rank, ranks, Path(folder) / "meeting", threads) for rank in range(ranks)]
        processes: list[_Process] = []
        try:
            for place in places:
                processes.append(_start(place))
            for process in processes:
                process.hand_over(work, argument)
            return _result(processes, hear)
        finally:
            with interrupts_ignored():  # a second Ctrl-C would leave some of them
                _end(processes)


@dataclass
class _Process:
    """One process and what is known of it."""

    process: Any
    pipe: Connection
    end: Literal["", "well", "trouble", "dead"] = ""
    """How it ended; empty while it has not."""
    said: Any = None
    """Its last words: the result, or the trouble."""

    def hand_over(self, work: Work, argument: Any) -> None:
        """Tell it what to do; one that is dead already is found so soon."""
        with contextlib.suppress(OSError):
            self.pipe.send((work, argument))

    def listen(self, hear: Say) -> None:
        """Take in what it says next."""
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError):
            self.end = "dead"
            return
        if kind == SAID:
            hear(*content)
        else:
            self.end, self.said = kind, content


def _start(place: Place) -> _Process:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_live, args=(there, place), daemon=True)
    with interrupts_ignored(), _allowed_children():  # Ctrl-C is for the process that waits
        process.start()
    there.close()
    return _Process(process, here)


@contextlib.contextmanager
def _allowed_children() -> Iterator[None]:
    """A worker process is one that may have no children, lest they outlive it: these end with it by themselves."""
    current = multiprocessing.current_process()
    daemon = current.daemon
    if not daemon:
        yield
        return
    current.daemon = False
    try:
        yield
    finally:
        current.daemon = daemon


def _result(processes: Sequence[_Process], hear: Say) -> Any:
    """The first one's result. Once one is in trouble, waits a while for what its cause may be, and raises that."""
    until = math.inf
    while processes[0].end != "well":
        under_way = {process.pipe: process for process in processes if not process.end}
        left = until - time.monotonic()
        if not under_way or left <= 0:
            raise _cause(processes)
        for pipe in wait(list(under_way), None if math.isinf(left) else left):
            under_way[pipe].listen(hear)  # type: ignore[index]
        if math.isinf(until) and any(process.end in ("trouble", "dead") for process in processes):
            until = time.monotonic() + GRACE
    return processes[0].said


def _cause(processes: Sequence[_Process]) -> Exception:
    """The error that came first; where a process died without a word, those of the others are mere consequences."""
    for number, process in enumerate(processes, start=1):
        if process.end == "dead":
            process.process.join(FAREWELL)
            death = cause_of_death(process.process)
            who = f"process {number} of the {len(processes)} that share the model"
            return TrialFailure("failed", f"{who} died: {death}")
    first: Trouble = min((process.said for process in processes if process.end == "trouble"), key=lambda said: said.at)
    return first.error()


def _end(processes: Sequence[_Process]) -> None:
    """Let those go by themselves whose trial went well, end the others."""
    well = bool(processes) and processes[0].end == "well"
    deadline = time.monotonic() + (FAREWELL if well else 0.0)
    for process in processes:
        process.process.join(max(0.0, deadline - time.monotonic()))
        process.process.kill()
    for process in processes:
        process.process.join()
        process.pipe.close()


def _live(pipe: Connection, place: Place) -> None:
    """Life of one process: what it is handed over, once."""
    end_with_the_parent(at_once=True)
    os.environ["OMP_NUM_THREADS"] = str(place.threads)  # before torch is imported, with what it is to do
    install()
    work, argument = pipe.recv()
    with contextlib.redirect_stdout(sys.stderr):  # standard output belongs to the commands
        try:
            result = work(argument, place, lambda *said: pipe.send((SAID, said)))
        except (Exception, SystemExit) as error:  # a plugin may raise anything
            pipe.send(("trouble", Trouble.of(error)))
        else:
            pipe.send(("well", result))
