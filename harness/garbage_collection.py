"""How often Python's garbage collector looks for cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

RARELY = 70_000
"""New objects after which it looks; Python's own 700 are for programs that run long."""


def collect_rarely() -> None:
    """From now on it hardly ever looks: for what reads and reports, where nearly all that is made lives on.

    Not for training: a cycle may hold a device's memory.
    """
    gc.set_threshold(RARELY, *gc.get_threshold()[1:])


@contextmanager
def rarely_collected() -> Iterator[None]:
    """`collect_rarely`, inside of this."""
    before = gc.get_threshold()
    collect_rarely()
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def never_collected() -> Iterator[None]:
    """Without the garbage collector, which would look through millions of new tuples again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
