"""A picture of a page of the site; `make documents` takes it.

PYTHONPATH=.:tests python tests/browser/picture.py site/index.html docs/pictures/site.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from browser_support import ARGUMENTS, chromium
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1200, 900


def main(page: Path, picture: Path) -> None:
    """Open the page from disk and keep what a reader sees first."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, locale="en-GB")
        tab.goto(page.resolve().as_uri())
        picture.parent.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
