"""Workers on the nodes of a Ray cluster.

A keeper (a Ray actor, which holds the CPUs and GPUs) sits on a node and keeps one worker process there, the same that
runs trials without Ray. So a trial that ends its process costs no more than that, its cause of death is known, and all
that can befall the keeper is the loss of its node. Keepers end with the driver, processes with their keepers.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from harness.cluster import node_check
from harness.cluster.machines import wanted
from harness.cluster.node_check import Expected
from harness.links import Gone, ProcessLink, Refused, start_process
from harness.redaction import install
from harness.serving import Call, Message, Training
from harness.settings import Settings

UP, GONE = "up", "gone"
GATHER_SECONDS = 0.002
"""How long a keeper waits for more after its process has said something: an answer costs the driver a millisecond."""


class Keeper:
    """Keeps one worker process on the node that it is placed on. Its methods run in threads of their own."""

    def __init__(self, settings: Settings, expected: Expected, folder: Path) -> None:
        """folder: where the driver was started; relative paths are taken from there if the node has it."""
        install()
        self._settings = settings
        self._problem = node_check.problem(expected)
        if folder.is_dir():
            os.chdir(folder)
        self._link: ProcessLink | None = None
        self._doomed = False
        """Whether the process was told to end."""
        if self._problem is None:
            self._process()

    def hello(self) -> tuple[str, str | None]:
        """The node's name, and why it cannot be used (None if it can)."""
        return node_name(), self._problem

    def exchange(self, order: Training | Call | None) -> list[Message]:
        """Hand the process an order, if there is one, and wait until it says something, or is gone."""
        link, heard = self._process(), list[Message]()
        try:
            if order is not None:
                link.send(order)
            heard.append(link.receive())
            while link.pipe.poll(GATHER_SECONDS):
                heard.append(link.receive())
        except Gone as gone:
            link.close()
            self._link = None
            heard.append((GONE, (gone.cause, gone.killed)))
        return heard

    def kill(self) -> None:
        """End the process; whoever waits for it hears that it is gone."""
        if self._link is not None:
            self._doomed = True
            self._link.kill()

    def _process(self) -> ProcessLink:
        if self._link is not None and self._doomed:
            self._link.close()
            self._link = None
        if self._link is None:
            self._doomed = False
            with _no_main_module():
                self._link = start_process(self._settings)
        return self._link


@contextmanager
def _no_main_module() -> Iterator[None]:
    """A process that is started in here does not load what Ray's workers were started with."""
    main: Any = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    main.__file__ = None
    try:
        yield
    finally:
        main.__file__ = file


class RayLink:
    """A keeper, and what its process has said."""

    def __init__(self, keeper: Any) -> None:
        self.keeper = keeper
        self.up = False
        self.node = ""
        self.awaited: Any = keeper.hello.remote()
        """What Ray will answer next; None if nothing was asked."""
        self._heard: deque[Message] = deque()
        self._killing: Any = None

    def send(self, order: Training | Call) -> None:
        self.awaited = self.keeper.exchange.remote(order)

    def receive(self) -> Message:
        while not self._heard:
            self._fetch()
        kind, content = self._heard.popleft()
        if kind == GONE:
            raise Gone(*content)
        if kind == UP:
            self.up = True
        return kind, content

    def kill(self) -> None:
        self._killing = self.keeper.kill.remote()

    def close(self) -> None:
        with contextlib.suppress(RayError):
            ray.kill(self.keeper)

    @property
    def spoken(self) -> bool:
        """Whether there is something to receive without asking."""
        return bool(self._heard)

    def ask(self) -> Any:
        """What Ray will answer when the worker says something more."""
        if self.awaited is None:
            self.awaited = self.keeper.exchange.remote(None)
        return self.awaited

    def settle(self) -> None:
        """Wait until the process that was to be killed is dead: an order that is sent now goes to another one."""
        if self._killing is not None:
            with contextlib.suppress(RayError):
                ray.get(self._killing, timeout=30)
            self._killing = None

    def _fetch(self) -> None:
        try:
            answer = ray.get(self.ask())
        except RayError as error:
            raise Gone(f"its node {self.node} was lost, or Ray's process there", lost=True) from error
        self.awaited = None
        if self.up:
            self._heard.extend(answer)
            return
        self.node, problem = answer
        if problem is not None:
            raise Refused(f"node {self.node} {problem}.")
        self._heard.append((UP, None))


class RayTransport:
    """Keepers on whatever nodes have room for them."""

    def __init__(self, settings: Settings, cpus: int, gpus: float) -> None:
        self.place = f"a node with {wanted(cpus, gpus)} to spare"
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_concurrency": 4, "scheduling_strategy": "SPREAD"}
        self._keepers = ray.remote(Keeper).options(**options)
        self._arguments = (settings, node_check.expected(settings), Path.cwd())

    def start(self) -> RayLink:
        return RayLink(self._keepers.remote(*self._arguments))

    def replace(self, link: RayLink) -> RayLink:
        """The same keeper with a new process, unless it is gone itself."""
        link.settle()
        try:
            ray.get(link.keeper.hello.remote(), timeout=10)
        except RayError:
            link.close()
            return self.start()
        fresh = RayLink(link.keeper)
        fresh.node = link.node
        return fresh

    def wait(self, links: Sequence[RayLink], seconds: float | None) -> Sequence[RayLink]:
        if not links:
            time.sleep(seconds or 0.0)
            return []
        spoken = [link for link in links if link.spoken]
        if spoken:
            return spoken
        asked = {link.ask(): link for link in links}
        answered, _ = ray.wait(list(asked), timeout=seconds)
        if answered:  # all that have, or the first ones would always be served first
            answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=0)
        return [asked[answer] for answer in answered]


def node_name() -> str:
    """The name of this node, for people."""
    return f"{platform.node()} ({ray.util.get_node_ip_address()})"
