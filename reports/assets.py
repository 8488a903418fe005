"""The files beside the pages: style and scripts, one copy for the whole site, and the policy that allows no others."""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "static"
FOLDER = "assets"
"""Where they lie in the site."""

STYLES = ("site.css", "pages.css", "charts.css")
SCRIPTS = ("sortable.min.js", "page-state.js", "table-text.js", "tables.js", "charts.js")
"""What every page loads, in this order; the rest of `static/` is there for pages that name it."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)
"""Content-Security-Policy of every page: its own files only, nothing inline, no network."""


def asset_files() -> dict[str, bytes]:
    """Every file of `static/` by its place in the site, licences among them."""
    found = sorted(path for path in STATIC.rglob("*") if path.is_file() and path.name != "README.md")
    return {f"{FOLDER}/{path.relative_to(STATIC).as_posix()}": path.read_bytes() for path in found}
