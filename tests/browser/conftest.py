"""A browser, and two sites built for it: an ordinary one and one on which every name is hostile.

Chromium comes from the system, Playwright only drives it. A page fixture fails its test if the page wrote an error to
the console or asked for anything that is not a file of the site.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from factories import METHODS, make_record, make_suite
from report_support import MAJORITY, TASKS, fill_example, make_run

from benchmarks._generated import Shape, generate
from harness.records import MethodInfo
from harness.store import open_store
from reports.claims import ClaimLine
from reports.site import build_site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

HOSTILE = "<script>alert('x')</script>\"&\u202e\U0001f600 {{ 7*7 }} ../../ |`$\\" + "x" * 300
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
CLAIM = ClaimLine("a", "LoRA", "Hu et al. 2021", "2", "A is above B", "partly", "A - B = +1.0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty made-up runs that can be ranked, and the example suite with controls, training sizes and a failure."""
    folder = tmp_path_factory.mktemp("site")
    generate(folder / "board.db", Shape(suites=1, methods=6, tasks=3, seeds=4))
    with open_store(str(folder / "board.db")) as store:
        fill_example(store)
        build_site(store, folder / "site", [CLAIM])
    return folder / "site"


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Methods, tasks, suites, grids, rows and reasons with a name that no page may trip over."""
    folder = tmp_path_factory.mktemp("hostile")
    methods = [MethodInfo(name, HOSTILE, HOSTILE, HOSTILE, HOSTILE, False) for name in ("lora", "ft")]
    tasks = [dataclasses.replace(task, title=HOSTILE) for task in TASKS]
    records = [make_run(method, "mrpc", seed, 0.8) for method in ("lora", "ft") for seed in (0, 1)]
    records.append(make_record(task="rte", status="failed", reason=HOSTILE, scores=[]))
    suite = make_suite([record.trial for record in records], name=HOSTILE)
    members = tuple(dataclasses.replace(m, grid=HOSTILE, label=HOSTILE + m.trial.method) for m in suite.members)
    with open_store(str(folder / "board.db")) as store:
        store.describe([*METHODS, MAJORITY, *methods], tasks)
        store.set_suite(dataclasses.replace(suite, members=members, title=HOSTILE, description=HOSTILE))
        for record in records:
            store.add_run(record)
        build_site(store, folder / "site", [dataclasses.replace(CLAIM, quote=HOSTILE, why=HOSTILE)])
    return folder / "site"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "no chromium: make test-browser installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


def watched(context: BrowserContext) -> tuple[Page, list[str]]:
    """A page, and what it did that it should not: console errors, and requests that leave the disk."""
    page, faults = context.new_page(), list[str]()
    page.set_default_timeout(8000)
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else faults.append(asked.url))
    page.on("requestfailed", lambda asked: faults.append(f"failed: {asked.url}"))
    return page, faults


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a desktop's width, in light colours."""
    context = browser.new_context(viewport={"width": 1360, "height": 900}, color_scheme="light")
    page, faults = watched(context)
    yield page
    context.close()
    assert not faults


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """A page of a phone's width, in dark colours, driven by touch."""
    context = browser.new_context(viewport={"width": 375, "height": 740}, color_scheme="dark", has_touch=True)
    page, faults = watched(context)
    yield page
    context.close()
    assert not faults


@pytest.fixture
def without_scripts(browser: Browser) -> Iterator[Page]:
    """A page on which JavaScript is off."""
    context = browser.new_context(viewport={"width": 1360, "height": 900}, java_script_enabled=False)
    page, faults = watched(context)
    yield page
    context.close()
    assert not faults
