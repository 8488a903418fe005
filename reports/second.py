"""A second process, which has done by then some of what a build needs later. What it has not begun is done here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Generic, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Begun(Generic[Result]):
    """Something that may be under way."""

    here: Callable[[], Result]
    apart: Future[Result] | None
    """The same in the second process, if there is one."""

    def result(self) -> Result:
        """Waited for if the second process is at it, made here if it is not."""
        if self.apart is None or self.apart.cancel():
            return self.here()
        return self.apart.result()


class Second:
    """Takes what is to be done, in the order in which it is handed over."""

    def __init__(self, pool: ProcessPoolExecutor | None) -> None:
        self._pool = pool

    def begin(self, here: Callable[[], Result], apart: Callable[..., Result], *arguments: object) -> Begun[Result]:
        """`here` and `apart` come to the same; the latter is a module's function, and is called with `arguments`."""
        return Begun(here, None if self._pool is None else self._pool.submit(apart, *arguments))


@contextmanager
def second_process(wanted: bool) -> Iterator[Second]:
    """The second process, or none. What is not begun when the `with` is left never will be."""
    if not wanted:
        yield Second(None)
        return
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            yield Second(pool)
        finally:
            pool.shutdown(cancel_futures=True)
