"""The site's folder, with what it knows of its last build: what has not changed is not made again.

`data/files.txt` names all files, so that the next build can remove what it no longer makes. `.build.json` holds
a digest of what each file was made from, and what the pages about several suites need of each; without it everything is
made anew, into the same bytes. It is no part of what is published.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.errors import UserError

MANIFEST = "data/files.txt"
CACHE = ".build.json"


class Folder:
    """Write with `write`, keep with `current`, end with `finish`. Any OSError is a UserError that names the folder."""

    def __init__(self, path: Path, code: str) -> None:
        """code: digest of all that pages are made with; a cache of another one is not used."""
        self.path = path
        self._code = code
        cache = self._read_cache()
        self._old: dict[str, list[Any]] = cache.get("files", {})
        self._old_notes: dict[str, Any] = cache.get("notes", {})
        self._files: dict[str, list[Any]] = {}
        self._notes: dict[str, Any] = {}
        self._started = False
        self.written = 0
        """Files made anew."""

    def current(self, name: str, inputs: str) -> bool:
        """Whether the file was made from these inputs and is still there; it is then kept as it is."""
        known = self._old.get(name)
        if known is None or known[0] != inputs:
            return False
        try:
            there: bool = (self.path / name).stat().st_size == known[1]
        except OSError:
            there = False
        if there:
            self._files[name] = known
        return there

    def write(self, name: str, inputs: str, content: str | bytes) -> None:
        """Write a file that was made from these inputs."""
        data = content if isinstance(content, bytes) else content.encode()
        path = self.path / name
        try:
            if not self._started:  # from here on the folder is between two builds, and the cache says nothing of it
                (self.path / CACHE).unlink(missing_ok=True)
                self._started = True
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise self._explained(error) from error
        self._files[name] = [inputs, len(data)]
        self.written += 1

    def note(self, name: str) -> Any:
        """What the last build noted under this name, None without; it stays noted."""
        if name in self._old_notes:
            self._notes[name] = self._old_notes[name]
        return self._old_notes.get(name)

    def set_note(self, name: str, value: Any) -> None:
        """Note something for the next build: plain data for JSON."""
        self._notes[name] = value

    def finish(self) -> list[Path]:
        """Remove files of the last build that this one has not, and write manifest and cache. The files, by name."""
        manifest = self.path / MANIFEST
        names = sorted(self._files)
        try:
            old = manifest.read_text(encoding="utf-8").splitlines() if manifest.is_file() else []
            self._remove(set(old) - set(names))
            text = "".join(f"{name}\n" for name in names)
            manifest.parent.mkdir(parents=True, exist_ok=True)
            manifest.write_bytes(text.encode())
            cache = {"code": self._code, "files": dict(sorted(self._files.items())), "notes": self._notes}
            lean = json.dumps(cache, separators=(",", ":"), sort_keys=True)
            (self.path / CACHE).write_bytes(lean.encode())
        except OSError as error:
            raise self._explained(error) from error
        return [self.path / name for name in names]

    def _remove(self, names: Iterable[str]) -> None:
        inside = self.path.resolve()
        for name in names:
            stale = (self.path / name).resolve()
            if stale.is_relative_to(inside):
                stale.unlink(missing_ok=True)

    def _read_cache(self) -> dict[str, Any]:
        try:
            cache = json.loads((self.path / CACHE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return cache if isinstance(cache, dict) and cache.get("code") == self._code else {}

    def _explained(self, error: OSError) -> UserError:
        reason = error.strerror or error
        return UserError(f"cannot write the site to {self.path}: {reason}; choose another folder with --out.")
