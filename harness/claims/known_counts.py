"""Counts that were made before: with them claims are judged without torch and transformers, slow to import."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.provenance import sources_sha256
from harness.whole_files import replacing, tell_damage


class KnownCounts:
    """`<cache root>/counts.json`: counts by what they are of; none if made with other sources, another transformers."""

    def __init__(self, cache_root: Path) -> None:
        self._file = cache_root / "counts.json"
        self._made_with = f"{sources_sha256()} {importlib.metadata.version('transformers')}"
        self._counts = self._read()

    def get(self, *what: Any) -> int | None:
        """The count of what these describe (`repr`), None if it is not known."""
        return self._counts.get(_key(what))

    def add(self, count: int, *what: Any) -> None:
        """Keep a count. Where nothing can be written it is known to this process alone."""
        self._counts[_key(what)] = count
        with contextlib.suppress(OSError):
            self._write()

    def _read(self) -> dict[str, int]:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
            if found["made_with"] != self._made_with:
                return {}
            counts = {str(key): int(count) for key, count in found["counts"].items()}
            if found["sha256"] == _checksum(counts):
                return counts
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            pass
        tell_damage(self._file)
        return {}

    def _write(self) -> None:
        content = {"made_with": self._made_with, "sha256": _checksum(self._counts), "counts": self._counts}
        with replacing(self._file) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")


def _checksum(counts: Mapping[str, int]) -> str:
    return hashlib.sha256(repr(sorted(counts.items())).encode()).hexdigest()


def _key(what: tuple[Any, ...]) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]
