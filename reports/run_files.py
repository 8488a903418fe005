"""The pages of all runs: those that are new or stand elsewhere now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reports.folder import Folder
from reports.inventory import Inventory, Stored
from reports.names import run_file
from reports.rendering import Renderer
from reports.runs import BATCH, run_pages
from reports.second_process import Begun, SecondProcess

if TYPE_CHECKING:
    from harness.store import Store

MANY = 2000
"""From so many pages on a second process pays: less take less time than its start."""


class RunFiles:
    """Begun with the build, and all there when `finish` is left."""

    def __init__(self, store: Store, inventory: Inventory, out: Folder, render: Renderer) -> None:
        self._out, self._render = out, render
        self._titles = {suite.name: suite.title for suite in store.suites()}
        self._inputs = {run: key for run, key in inventory.runs.items() if not out.current(run_file(run), key)}
        self._wanted = [inventory.stored[run_id] for run_id in self._inputs]
        self._parts: list[tuple[Sequence[Stored], Begun[dict[str, int]]]] = []

    @property
    def many(self) -> bool:
        """Whether a second process pays."""
        return len(self._wanted) >= MANY

    def begin(self, second: SecondProcess) -> None:
        """Hand the pages over, in parts."""
        if self._wanted:
            self._out.begin()
        for first in range(0, len(self._wanted), BATCH):
            part = self._wanted[first : first + BATCH]
            self._parts.append((part, second.begin(_write, self._out.path, self._render, self._titles, part)))

    def finish(self) -> None:
        """See that all pages are there; the last parts are made here, while the second process makes the first."""
        for part, made in reversed(self._parts):
            sizes = made.result()
            for stored in part:
                name = run_file(stored.id)
                self._out.adopt(name, self._inputs[stored.id], sizes[name])


def _write(
    store: Store, folder: Path, render: Renderer, titles: Mapping[str, str], wanted: Sequence[Stored]
) -> dict[str, int]:
    """Bytes by file name."""
    out = Folder(folder, "")
    for page in run_pages(store, wanted, titles):
        out.write(page.file, "", render("run.html", page.file, here="", run=page))
    return out.sizes
