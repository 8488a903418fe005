"""How the driver speaks with its workers: by pipes to processes of this machine, or otherwise: `cluster.ray_links`."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar

from harness.executors import interrupts_ignored
from harness.processes import cause_of_death
from harness.serving import Call, Message, Training, serve
from harness.settings import Settings


class Gone(Exception):
    """A worker has ended, or never began."""

    def __init__(self, cause: str, killed: bool = False, lost: bool = False) -> None:
        super().__init__(cause)
        self.cause = cause
        self.killed = killed
        """From outside (for memory, by an operator): no fault of its trial, as far as is known."""
        self.lost = lost
        """Together with its machine, or with the program that kept it there: no fault of its trial."""


class Refused(Gone):
    """The machine where a worker should begin cannot carry it; another one there would fare no better."""


class Link(Protocol):
    """One worker, as the driver sees it."""

    @property
    def up(self) -> bool:
        """Whether there is somebody to take orders; what is not up yet says "up" when it is."""
        ...

    def send(self, order: Training | Call) -> None:
        """Give an order. Raises Gone."""
        ...

    def receive(self) -> Message:
        """What the worker says next, waited for. Raises Gone when it has said all."""
        ...

    def kill(self) -> None:
        """End the worker; what it has said before is received first."""
        ...

    def close(self) -> None:
        """End the worker for good."""
        ...


AnyLink = TypeVar("AnyLink", bound=Link)


class Transport(Protocol[AnyLink]):
    """Where workers come from."""

    place: str
    """What a worker must wait for before it is up, for people."""

    def start(self) -> AnyLink:
        """A new worker."""
        ...

    def replace(self, link: AnyLink) -> AnyLink:
        """A worker in the place of one that is gone."""
        ...

    def wait(self, links: Sequence[AnyLink], seconds: float | None) -> Sequence[AnyLink]:
        """Those whose worker has said something, or is gone; none if there were none for so long (None: no limit)."""
        ...


class ProcessLink:
    """A process of this machine, and the pipe to it."""

    up = True

    def __init__(self, process: Any, pipe: Connection) -> None:
        self.process = process
        self.pipe = pipe

    def send(self, order: Training | Call) -> None:
        try:
            self.pipe.send(order)
        except OSError:
            raise self._end() from None

    def receive(self) -> Message:
        try:
            message: Message = self.pipe.recv()
        except (EOFError, OSError):
            raise self._end() from None
        return message

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def _end(self) -> Gone:
        self.process.join(timeout=5)
        return Gone(cause_of_death(self.process), killed=self.process.exitcode == -signal.SIGKILL)


class Processes:
    """Workers as processes of this machine."""

    place = "this machine"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def start(self) -> ProcessLink:
        return start_process(self._settings)

    def replace(self, link: ProcessLink) -> ProcessLink:
        link.close()
        return self.start()

    def wait(self, links: Sequence[ProcessLink], seconds: float | None) -> Sequence[ProcessLink]:
        pipes = {link.pipe: link for link in links}
        return [pipes[pipe] for pipe in wait(list(pipes), seconds)]  # type: ignore[index]


def start_process(settings: Settings) -> ProcessLink:
    """A worker process that ends with this one."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, settings), daemon=True)
    with interrupts_ignored():  # inherited: Ctrl-C is the driver's to handle
        process.start()
    there.close()
    return ProcessLink(process, here)
