"""A second process that does, while this one is at something else, what a build needs later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Generic, TypeVar

from harness.garbage_collection import collect_rarely
from harness.store import open_store

if TYPE_CHECKING:
    from harness.store import Store

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


class SecondProcess:
    """Does what it is given in that order; it reads the same database."""

    def __init__(self, store: Store, pool: ProcessPoolExecutor | None) -> None:
        self._store = store
        self._pool = pool

    def begin(self, function: Callable[..., Result], *arguments: object) -> Begun[Result]:
        """Begin `function(store, *arguments)`: a module's function, with arguments that can be pickled."""
        here = partial(function, self._store, *arguments)
        if self._pool is None:
            return Begun(here, None)
        return Begun(here, self._pool.submit(_with_store, self._store.database.url, function, *arguments))


@contextmanager
def second_process(store: Store, wanted: bool) -> Iterator[SecondProcess]:
    """The second process, or a stand-in that leaves all to this one. What is not begun in the end never will be."""
    if not wanted:
        yield SecondProcess(store, None)
        return
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=collect_rarely) as pool:
        try:
            yield SecondProcess(store, pool)
        finally:
            pool.shutdown(cancel_futures=True)


def _with_store(url: str, function: Callable[..., Result], *arguments: object) -> Result:
    with open_store(url, create=False) as store:
        return function(store, *arguments)
