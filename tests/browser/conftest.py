"""A real browser, and sites in it. Whatever test runs: no error on the console, no request that leaves the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_support import ARGUMENTS, chromium
from report_support import fill_example, fill_hostile

from benchmarks._generated import Shape, generate
from harness.store import open_store
from reports.claims import ClaimLine
from reports.site import build_site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HERE = Path(__file__).parent
SHAPE = Shape(suites=1, methods=9, tasks=4, seeds=3)
CLAIM = ClaimLine("a", "LoRA", "Hu et al. 2021", "2", "A is above B", "partly", "A - B = +1.0")

OpenPage = Callable[..., "Page"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a browser; plain `pytest` leaves it out."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sites by name: the example of the report tests, hostile names, a full table of made-up runs, nothing at all."""
    folder = tmp_path_factory.mktemp("sites")
    generate(folder / "table.db", SHAPE)
    with open_store(str(folder / "example.db")) as store:
        fill_example(store)
    with open_store(str(folder / "hostile.db")) as store:
        fill_hostile(store)
    names = ("table", "example", "hostile", "empty")
    for name in names:
        with open_store(str(folder / f"{name}.db")) as store:
            build_site(store, folder / name, [CLAIM] if name == "example" else [])
    return {name: folder / name for name in names}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser for all tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """open_page(file, query="", **context): a page from disk, in a context of its own. Complaints fail the test."""
    complaints: list[str] = []
    contexts = []

    def opened(file: Path, query: str = "", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, "locale": "en-GB", **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{page.url}: {message.type} {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on("dialog", lambda dialog: complaints.append(f"{page.url}: a dialog says {dialog.message}"))
        context.on("request", lambda request: complaints.extend(_outside(request.url)))
        page.goto(file.as_uri() + query)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints


def _outside(url: str) -> list[str]:
    return [] if url.startswith(("file:", "data:")) else [f"asked for {url}"]
