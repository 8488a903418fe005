"""Files that are whole or not there: written under another name, and given their own when all is in them."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UserError


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """The file to write in place of `path`, whose name it takes when the `with` is left.

    Readers see the old file or the whole new one, whichever process writes first. If anything is raised, no part of the
    new one is left. With `durable` it is on the disk before it takes the name, so that a power cut leaves the old one.
    Others may read it as far as the umask lets them: a cache may be shared.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.{secrets.token_hex(8)}.tmp")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL, 0o666))
    mode = temporary.stat().st_mode
    try:
        yield temporary
        os.chmod(temporary, mode)  # libraries put a file of their owner's alone in its place
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_new(path: Path) -> None:
    """Raise UserError unless a file can be made there, none being there yet."""
    if path.exists():
        raise UserError(f"{path} exists already; name another file.")
    if not path.absolute().parent.is_dir():
        raise UserError(f"the folder of {path} does not exist; create it or name another file.")


def tell_damage(path: Path) -> None:
    """Note on standard error that a file of the cache is not what was written."""
    print(f"{path} is damaged: it is left out and made anew", file=sys.stderr)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
