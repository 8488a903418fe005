"""Which pages the browser tests open, and how they read a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SUITE = "suites/suite000.html"
KINDS = (
    "index.html",
    "about.html",
    "claims.html",
    "failures.html",
    "methods.html",
    "methods/*.html",
    "runs/*.html",
    "stacks.html",
    "suites.html",
    "suites/*.html",
    "suites/*/*.html",
    "suites/*/compare/*.html",
    "tasks.html",
    "tasks/*.html",
)
"""Every kind of page, as globs."""


def one_of_each(site: Path) -> list[Path]:
    """A page of each kind; of suites, all."""
    found: list[Path] = []
    for kind in KINDS:
        files = sorted(site.glob(kind))
        assert files, f"the site has no {kind}"
        found += files if kind == "suites/*.html" else files[-1:]
    return found


def opened(page: Page, site: Path, name: str = SUITE, query: str = "") -> Page:
    """The page, gone to a page of the site."""
    page.goto((site / name).as_uri() + query)
    return page


def table_of(page: Page) -> Locator:
    """The first table that is to be seen."""
    return page.locator("table.board:visible").first


def column(table: Locator, title: str) -> list[str]:
    """The texts of a column's visible cells, controls left out; by the header's first words."""
    headers = [text.strip() for text in table.locator("thead tr > *").all_inner_texts()]
    place = next(index for index, text in enumerate(headers) if text.startswith(title))
    rows = table.locator("tbody:not(.group):not(.controls) tr:visible")
    return [" ".join(row.locator("> *").nth(place).inner_text().split()) for row in rows.all()]


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))
