"""Counts that follow from the sources alone, kept on disk: what one process has counted, the next one reads."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from harness.provenance import COMPUTING, library_versions, sources_sha256
from harness.whole_files import replacing, tell_damage


class KnownCounts:
    """Files below `<cache root>/counts`, one for each count (a JSON value) by what it is of.

    What was made with other sources or other versions of the libraries that compute is not found. Safe under several
    processes: files appear whole, and all would write the same.
    """

    def __init__(self, cache_root: Path) -> None:
        self._folder = cache_root / "counts"

    def get(self, *what: Any) -> Any | None:
        """The count of what these describe (`repr`), None if it is not known."""
        path = self._path(what)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["sha256"] == _checksum(found["count"]):
                return found["count"]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            pass
        tell_damage(path)
        return None

    def add(self, count: Any, *what: Any) -> None:
        """Keep a count that JSON can hold. Where nothing can be written it is made anew the next time."""
        content = {"sha256": _checksum(count), "count": count}
        with contextlib.suppress(OSError), replacing(self._path(what)) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")

    def _path(self, what: tuple[Any, ...]) -> Path:
        name = hashlib.sha256(f"{_made_with()} {what!r}".encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"


@functools.cache
def _made_with() -> str:
    return f"{sources_sha256()} {[library_versions()[name] for name in COMPUTING]}"


def _checksum(count: Any) -> str:
    return hashlib.sha256(json.dumps(count).encode()).hexdigest()
