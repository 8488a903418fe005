"""The static site: database -> rows -> views -> pages. Same database, same bytes, built anew or on top of a build.

Style and scripts lie beside the pages (`reports.assets`), and a page's Content-Security-Policy forbids all that is not
the site's own. All text from the database and from plugins is escaped by Jinja.

Suites are built one after the other, so that memory does not grow with their number; what the pages about several
suites need of each is its summary. A file whose inputs have not changed since the last build is left as it is
(`reports.inventory` tells, `reports.folder` remembers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.protocols import PROTOCOLS
from reports import wide
from reports.assets import asset_files
from reports.claims import ClaimLine, by_paper
from reports.definitions import definitions, paragraphs
from reports.folder import Folder
from reports.inventory import Inventory, code_digest, digest, take_inventory
from reports.plots import engine
from reports.rendering import ERRORS, Renderer
from reports.run_files import RunFiles
from reports.second_process import Begun, SecondProcess, second_process
from reports.summaries import SuiteSummary, from_plain, to_plain

if TYPE_CHECKING:
    from harness.store import Store


SEARCH = ".search"
"""Ends the name of the suite that holds a suite's tuning search."""
MOST_ADDRESSES = 50_000
"""A sitemap may hold no more; without the runs' pages it holds fewer."""


@dataclass(frozen=True)
class ClaimSource:
    """The claims of the page of claims, judged only if one of the suites that they name has changed."""

    suites: frozenset[str]
    """Names, without changes in brackets."""
    judge: Callable[[Store], Sequence[ClaimLine]]
    """A module's function: for a large site it is called in another process."""


@dataclass(frozen=True)
class Site:
    """A built site."""

    files: tuple[str, ...]
    """Names within its folder, sorted."""
    written: int
    """How many were made anew."""


@dataclass(frozen=True)
class _Build:
    """What all parts of a build need."""

    store: Store
    inventory: Inventory
    out: Folder
    render: Renderer


def build_site(store: Store, folder: Path, claims: ClaimSource | Sequence[ClaimLine] = (), base_url: str = "") -> Site:
    """Write the site of a database into `folder`.

    `claims` get a page of their own, if there are any. `base_url`: where the site will be, for canonical links.
    Files of an earlier build that this one does not make are removed; other files are left alone. UserError if the
    folder cannot be written.
    """
    with engine.ahead():
        inventory = take_inventory(store)
        has_claims = isinstance(claims, ClaimSource) or bool(claims)
        out = Folder(folder, digest(code_digest(), has_claims, base_url))
        kept = _kept(inventory, out)
        if None not in kept.values():
            engine.dismiss()
        _write(_Build(store, inventory, out, Renderer(has_claims, base_url)), kept, claims)
    _for_hosts(out, base_url)
    return Site(tuple(out.finish()), out.written)


def _write(build: _Build, kept: Mapping[str, SuiteSummary | None], claims: ClaimSource | Sequence[ClaimLine]) -> None:
    """All pages, style and scripts. kept: the suites' summaries, None for suites to be built."""
    store, inventory, out, render = build.store, build.inventory, build.out, build.render
    for name, content in asset_files().items():
        if not out.current(name, inputs := digest(content)):
            out.write(name, inputs, content)
    runs = RunFiles(store, inventory, out, render)
    with second_process(store, runs.many) as second:
        judged = _begin_claims(build, claims, second)
        runs.begin(second)
        summaries = [known or _suite(build, name) for name, known in kept.items()]
        if judged is not None:
            inputs, lines = judged
            context: dict[str, Any] = {"here": "claims", "claims": by_paper(list(lines.result()))}
            out.write("claims.html", inputs, render("claims.html", "claims.html", **context))
        for page in wide.pages(store, inventory, summaries):
            if not out.current(page.path, page.inputs):
                out.write(page.path, page.inputs, render(page.template, page.path, **page.context))
        runs.finish()
    if not out.current("about.html", "about"):
        out.write("about.html", "about", render("about.html", "about.html", here="about", **definitions()))


def _for_hosts(out: Folder, base_url: str) -> None:
    """What hosts of static sites look for: no building of pages by them, and the addresses of all pages."""
    if not out.current(".nojekyll", ""):
        out.write(".nojekyll", "", "")
    if not base_url:
        return
    pages = sorted(name for name in out.sizes if name.endswith(".html") and name != ERRORS)
    if len(pages) > MOST_ADDRESSES:
        pages = [name for name in pages if not name.startswith("runs/")]
    lines = "".join(f"<url><loc>{escape(base_url.rstrip('/'))}/{name}</loc></url>\n" for name in pages)
    space = "http://www.sitemaps.org/schemas/sitemap/0.9"
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="{space}">\n{lines}</urlset>\n'
    if not out.current("sitemap.xml", inputs := digest(text)):
        out.write("sitemap.xml", inputs, text)


def _kept(inventory: Inventory, out: Folder) -> dict[str, SuiteSummary | None]:
    """The summaries of the suites whose files stay as they are, None for those of which something has changed."""
    found: dict[str, SuiteSummary | None] = {}
    for name in inventory.suites:
        noted, inputs = out.note(_note(name)), _inputs(inventory, name)
        same = noted is not None and noted["inputs"] == inputs
        found[name] = from_plain(noted["summary"]) if same and _all_current(noted["files"], inputs, out) else None
    return found


def _all_current(files: Sequence[str], inputs: str, out: Folder) -> bool:
    return all(out.current(file, inputs) for file in files)


def _suite(build: _Build, name: str) -> SuiteSummary:
    """Build a suite's files. Its summary."""
    from reports import suites  # brings NumPy and SciPy, which an unchanged site can do without

    notes = {protocol: paragraphs(choose)[0] for protocol, choose in PROTOCOLS.items()}
    suite = suites.load(build.store, name, notes, _search(build.inventory, name))
    files, inputs = [], _inputs(build.inventory, name)
    for path, content in suites.files(suite, build.render):
        files.append(path)
        build.out.write(path, inputs, content)
    build.out.set_note(_note(name), {"inputs": inputs, "files": files, "summary": to_plain(suite.summary)})
    return suite.summary


def _note(suite: str) -> str:
    return f"suite {suite}"


def _inputs(inventory: Inventory, suite: str) -> str:
    return digest(inventory.suites[suite], inventory.suites.get(_search(inventory, suite) or ""))


def _search(inventory: Inventory, suite: str) -> str | None:
    return suite + SEARCH if suite + SEARCH in inventory.suites else None


def _begin_claims(
    build: _Build, claims: ClaimSource | Sequence[ClaimLine], second: SecondProcess
) -> tuple[str, Begun[Sequence[ClaimLine]]] | None:
    """What the page of claims is made from: its digest, and the claims; None if it stays as it is, or is not wanted."""
    if not isinstance(claims, ClaimSource):
        inputs, lines = digest(list(claims)), Begun(lambda: claims, None)
        return (inputs, lines) if claims and not build.out.current("claims.html", inputs) else None
    used = [(name, key) for name, key in build.inventory.suites.items() if name.partition("[")[0] in claims.suites]
    if build.out.current("claims.html", inputs := digest(used)):
        return None
    return inputs, second.begin(claims.judge)
