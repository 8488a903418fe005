"""The pages of all runs: those that are new or stand elsewhere now, made beside the suites if there are many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from harness.store import open_store
from reports.folder import Folder
from reports.inventory import Inventory, Stored, digest
from reports.names import run_file
from reports.rendering import Renderer
from reports.runs import run_pages

if TYPE_CHECKING:
    from harness.store import Store

MANY = 2000
"""From so many pages on they are made in a process of their own: less take less time than its start."""

Wanted = Sequence[tuple[Stored, str]]
"""Runs with the digest of what their page is made from."""


@contextmanager
def all_runs(store: Store, inventory: Inventory, out: Folder, render: Renderer) -> Iterator[None]:
    """Make the pages while the body of the `with` runs; on leaving it, all are there."""
    titles = {suite.name: suite.title for suite in store.suites()}
    named = digest(sorted(titles.items()))
    wanted = []
    for run_id, inputs in inventory.runs.items():
        inputs = digest(inputs, named)
        if not out.current(run_file(run_id), inputs):
            wanted.append((inventory.stored[run_id], inputs))
    if len(wanted) < MANY:
        yield
        _write(store, wanted, titles, out, render)
        return
    out.begin()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        arguments = (store.database.url, out.path, render.has_claims, render.base_url, wanted, titles)
        sizes = pool.submit(_write_apart, *arguments)
        yield
        for stored, inputs in wanted:
            name = run_file(stored.id)
            out.adopt(name, inputs, sizes.result()[name])


def _write(store: Store, wanted: Wanted, titles: Mapping[str, str], out: Folder, render: Renderer) -> None:
    inputs = {stored.id: key for stored, key in wanted}
    for page in run_pages(store, [stored for stored, _ in wanted], titles):
        out.write(page.file, inputs[page.id], render("run.html", page.file, here="", run=page))


def _write_apart(
    url: str, folder: Path, has_claims: bool, base_url: str, wanted: Wanted, titles: Mapping[str, str]
) -> dict[str, int]:
    """In a process of its own; bytes by file name."""
    out = Folder(folder, "")
    with open_store(url, create=False) as store:
        _write(store, wanted, titles, out, Renderer(has_claims, base_url))
    return out.sizes
