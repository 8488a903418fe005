"""Files that are whole or not there: written under another name, and given their own when all is in them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """The file to write in place of `path`, whose name it takes when the `with` is left.

    Readers see the old file or the whole new one, whichever process writes first. If anything is raised, no part of the
    new one is left. With `durable` it is on the disk before it takes the name, so that a power cut leaves the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".tmp")
    os.close(descriptor)
    try:
        yield Path(name)
        if durable:
            _sync(name)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def tell_damage(path: Path) -> None:
    """Note on standard error that a file of the cache is not what was written."""
    print(f"{path} is damaged: it is left out and made anew", file=sys.stderr)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
