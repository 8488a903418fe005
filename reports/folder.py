"""The site's folder, with what it knows of its last build: what has not changed is not made again.

`data/files.txt` names all files, so that the next build can remove what it no longer makes. A cache beside
the folder holds a digest of what each file was made from, and what the pages about several suites need of each; without
it everything is made anew, into the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.errors import UserError

MANIFEST = "data/files.txt"


class Folder:
    """Write with `write`, keep with `current`, end with `finish`. Any OSError is a UserError that names the folder."""

    def __init__(self, path: Path, code: str) -> None:
        """code: digest of all that pages are made with; a cache of another one is not used."""
        self.path = path
        self._code = code
        whole = path.absolute()
        self._cache = whole.with_name(f".{whole.name}.build.json")
        cache = self._read_cache()
        self._old: dict[str, list[Any]] = cache.get("files", {})
        self._old_notes: dict[str, Any] = cache.get("notes", {})
        self._files: dict[str, list[Any]] = {}
        self._notes: dict[str, Any] = {}
        self._started = False
        self._parents: set[str] = set()
        self.written = 0
        """Files made anew."""

    def current(self, name: str, inputs: str) -> bool:
        """Whether the file was made from these inputs and is still there; it is then kept as it is."""
        known = self._old.get(name)
        if known is None or known[0] != inputs:
            return False
        try:
            there: bool = os.stat(f"{self.path}/{name}").st_size == known[1]  # there may be many thousands
        except OSError:
            there = False
        if there:
            self._files[name] = known
        return there

    def begin(self) -> None:
        """Forget the cache: from the first file written on, the folder is between two builds."""
        if not self._started:
            try:
                self._cache.unlink(missing_ok=True)
            except OSError as error:
                raise self._explained(error) from error
            self._started = True

    def write(self, name: str, inputs: str, content: str | bytes) -> None:
        """Write a file that was made from these inputs."""
        self.begin()
        data = content if isinstance(content, bytes) else content.encode()
        try:
            parent = name.rpartition("/")[0]
            if parent not in self._parents:
                (self.path / parent).mkdir(parents=True, exist_ok=True)
                self._parents.add(parent)
            with open(f"{self.path}/{name}", "wb", buffering=0) as file:
                file.write(data)
        except OSError as error:
            raise self._explained(error) from error
        self.adopt(name, inputs, len(data))

    def adopt(self, name: str, inputs: str, size: int) -> None:
        """Take note of a file that another process has written."""
        self._files[name] = [inputs, size]
        self.written += 1

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file that was written or kept."""
        return {name: size for name, (_, size) in self._files.items()}

    def note(self, name: str) -> Any:
        """What the last build noted under this name, None without; it stays noted."""
        if name in self._old_notes:
            self._notes[name] = self._old_notes[name]
        return self._old_notes.get(name)

    def set_note(self, name: str, value: Any) -> None:
        """Note something for the next build: plain data for JSON."""
        self._notes[name] = value

    def finish(self) -> list[str]:
        """Remove files of the last build that this one has not, and write manifest and cache. The files' names."""
        manifest = self.path / MANIFEST
        names = sorted(self._files)
        try:
            old = manifest.read_text(encoding="utf-8").splitlines() if manifest.is_file() else []
            self._remove(set(old) - set(names))
            text = "".join(f"{name}\n" for name in names)
            manifest.parent.mkdir(parents=True, exist_ok=True)
            manifest.write_bytes(text.encode())
        except OSError as error:
            raise self._explained(error) from error
        cache = {"code": self._code, "files": self._files, "notes": self._notes}
        with suppress(OSError):  # where it cannot be kept, the next build takes longer
            self._cache.write_text(json.dumps(cache, separators=(",", ":"), sort_keys=True), encoding="utf-8")
        return names

    def _remove(self, names: Iterable[str]) -> None:
        inside = self.path.resolve()
        for name in names:
            stale = (self.path / name).resolve()
            if stale.is_relative_to(inside):
                stale.unlink(missing_ok=True)

    def _read_cache(self) -> dict[str, Any]:
        try:
            cache = json.loads(self._cache.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return cache if isinstance(cache, dict) and cache.get("code") == self._code else {}

    def _explained(self, error: OSError) -> UserError:
        reason = error.strerror or error
        return UserError(f"cannot write the site to {self.path}: {reason}; choose another folder with --out.")
