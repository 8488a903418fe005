"""Batches made ready before a step asks for them: a thread beside the device, in the very same order."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch
from torch import Tensor

AHEAD = 4
"""Batches that may lie ready: enough for one slow one among quick ones, few enough for memory."""

Wanted = TypeVar("Wanted")
Made = TypeVar("Made")


class Prepared(Generic[Wanted, Made]):
    """`make(item)` for each item of `wanted`, in order, each made once and not kept.

    With `ahead` > 0 a thread makes that many in advance; an exception in it is raised where its result was due.
    Without, each is made when it is asked for: on a CPU the thread would take the cores from the step.
    """

    def __init__(self, make: Callable[[Wanted], Made], wanted: Sequence[Wanted], ahead: int = 0) -> None:
        self._make, self._wanted, self._ahead = make, wanted, ahead

    def __len__(self) -> int:
        """How many there are."""
        return len(self._wanted)

    def after(self, done: int) -> Prepared[Wanted, Made]:
        """What comes after the first `done` items. Those are not made: what takes note of making would be misled."""
        return Prepared(self._make, self._wanted[done:], self._ahead)

    def __iter__(self) -> Iterator[Made]:
        if not self._ahead:
            yield from map(self._make, self._wanted)
            return
        pending: deque[Future[Made]] = deque()
        pool = ThreadPoolExecutor(1, "batches")
        try:
            for item in self._wanted:
                pending.append(pool.submit(self._make, item))
                if len(pending) > self._ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def opened(items: Iterable[Made]) -> Iterator[Iterator[Made]]:
    """An iterator over the items that is closed, and its thread with it, whatever happens inside."""
    iterator = iter(items)
    try:
        yield iterator
    finally:
        if hasattr(iterator, "close"):
            iterator.close()


def ahead_for(device: torch.device) -> int:
    """How many batches to make in advance for this device: none on the CPU, whose cores the step needs."""
    return AHEAD if device.type == "cuda" else 0


def pinned(batch: Mapping[str, Tensor], device: torch.device) -> Mapping[str, Tensor]:
    """The batch in page-locked memory, from which a copy to a CUDA device does not wait; else as it is."""
    if device.type != "cuda":
        return batch
    return {name: value.pin_memory() for name, value in batch.items()}


def sent(value: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; the host does not wait for what the device is still doing."""
    ready = value.pin_memory() if device.type == "cuda" else value
    return ready.to(device, non_blocking=True)
