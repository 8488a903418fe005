"""The static site: database -> rows -> views -> pages. Same database, same bytes.

Style and scripts lie beside the pages (`reports.assets`), and a page's Content-Security-Policy forbids all that is not
the site's own. All text from the database and from plugins is escaped by Jinja.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from harness import __version__
from harness.errors import UserError
from reports import formats
from reports.assets import POLICY, SCRIPTS, STYLES, asset_files
from reports.claims import ClaimLine, by_paper
from reports.commands import run_again
from reports.pages import SuitePage, suite_page
from reports.ranks import RANKS_SAY, row_standings, suite_standings
from reports.rows import load_suites, rows_as_csv, rows_as_json
from reports.views import suite_view

if TYPE_CHECKING:
    from harness.store import Store

HERE = Path(__file__).parent
MANIFEST = "data/files.txt"
"""Names of the files of the last build, so that the next one can remove what it no longer makes."""


@dataclass(frozen=True)
class Definition:
    """A term of the page of definitions."""

    title: str
    anchor: str
    paragraphs: list[str]


def build_site(store: Store, folder: Path, claims: Sequence[ClaimLine] = ()) -> list[Path]:
    """Write the site of a database into `folder` and return the files, index.html first.

    `claims` get a page of their own, if there are any. Files of an earlier build that this one does not make are
    removed; other files are left alone. UserError if the folder cannot be written.
    """
    from harness.scoring import PROTOCOLS

    notes = {name: _paragraphs(choose)[0] for name, choose in PROTOCOLS.items()}
    views = [suite_view(suite) for suite in load_suites(store)]
    pages = [suite_page(view, notes, suite_standings(store, view)) for view in views]
    files = _render(pages, claims)
    for page in pages:
        first = {section.grid: page.standings[section.grid, page.view.rank_by] for section in page.view.sections}
        standings = row_standings(page.view, first)
        files[page.json_file] = rows_as_json(page.view.rows, standings)
        files[page.csv_file] = rows_as_csv(page.view.rows, standings)
    return _write(files, folder)


def _render(pages: list[SuitePage], claims: Sequence[ClaimLine]) -> dict[str, str | bytes]:
    """All pages by file name."""
    environment = _environment()
    environment.globals["has_claims"] = bool(claims)
    render = partial(_page, environment)
    files: dict[str, str | bytes] = {**asset_files()}
    files |= {"index.html": render("index.html", root="", here=None, pages=pages)}
    for page in pages:
        context = {"pages": pages, "here": page.view.name}
        files[page.file] = render("suite.html", root="../", page=page.at("../"), **context)
        for label, groups in page.row_groups.items():
            files[page.row_file(label)] = render(
                "row.html",
                root="../../",
                page=page.at("../../"),
                label=label,
                row_title=groups[0].rows[0].title,
                notes=page.notes_on(label),
                groups=groups,
                **context,
            )
    if claims:
        files["claims.html"] = render("claims.html", root="", here=" claims", pages=pages, claims=by_paper(claims))
    files["about.html"] = render("about.html", root="", here="", pages=pages, **_definitions())
    return files


def _page(environment: jinja2.Environment, template: str, **context: Any) -> str:
    return environment.get_template(template).render(**context)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        score=formats.score,
        interval=formats.interval,
        rank=formats.rank,
        spread=formats.spread,
        count=formats.count,
        span=formats.span,
        tasks_scored=formats.tasks_scored,
        quantity=formats.quantity,
        seconds=formats.seconds,
        perplexity=formats.perplexity,
        plural=formats.plural,
        size=formats.train_size,
        command=run_again,
    )
    environment.globals.update(ranks_say=RANKS_SAY, policy=POLICY, styles=STYLES, scripts=SCRIPTS, version=__version__)
    return environment


def _definitions() -> dict[str, Any]:
    """The texts of the definitions' page, from the docstrings of what computes each number."""
    from harness import scoring
    from harness.measure import DEFINITIONS

    return {
        "scores": _paragraphs(scoring)[1:],
        "protocols": [Definition(name, name, _paragraphs(choose)) for name, choose in scoring.PROTOCOLS.items()],
        "quantities": [Definition(name, name, _paragraphs(function)) for name, function in DEFINITIONS.items()],
    }


def _paragraphs(documented: object) -> list[str]:
    """The paragraphs of a docstring as plain text."""
    text = re.sub(r"[`*](\S[^`*]*)[`*]", r"\1", inspect.getdoc(documented) or "")  # `code`, *emphasis*
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _write(files: dict[str, str | bytes], folder: Path) -> list[Path]:
    """Write all files, then remove those of the last build that are not among them."""
    manifest = folder / MANIFEST
    try:
        old = manifest.read_text(encoding="utf-8").splitlines() if manifest.is_file() else []
        for name, text in {**files, MANIFEST: "".join(f"{name}\n" for name in sorted(files))}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        for name in set(old) - set(files):
            stale = (folder / name).resolve()
            if stale.is_relative_to(folder.resolve()):
                stale.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write the site to {folder}: {reason}; choose another folder with --out.") from error
    return [folder / name for name in sorted(files, key=lambda name: name != "index.html")]
