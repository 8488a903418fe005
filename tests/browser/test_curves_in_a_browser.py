"""Curves of a plot, switched off one by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from report_support import fill_example

from harness.store import open_store
from reports.site import build_site

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_curves_can_be_switched_off_one_by_one(browser: Browser, tmp_path: Path) -> None:
    with open_store(str(tmp_path / "board.db")) as store:
        fill_example(store)
        build_site(store, tmp_path / "site")
    page = browser.new_page()
    page.goto((tmp_path / "site" / "suites" / "glue-tiny.html").as_uri())
    key = page.locator(".keys button", has_text="FT").first
    chart = page.locator("figure:has(.keys)").first.locator(".chart")
    assert chart.locator(".faded").count() == 0
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    assert chart.locator(".mark-line .faded").count() == 1
    assert chart.locator(".mark-symbol .faded").count() == 3  # two sizes, and the symbol beside the name
    key.click()
    assert chart.locator(".faded").count() == 0
    page.close()
