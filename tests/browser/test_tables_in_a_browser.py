"""Tables as a reader uses them: sort, search, filter, choose columns, link, copy."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pages import SUITE, column, opened, table_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

METHODS = ["Method 0", "Method 1", "Method 2", "Method 3", "Method 4"]


def first_numbers(texts: list[str]) -> list[float]:
    """The first number of each text, a number of seeds ("n=3") left out."""
    return [float(re.sub(r"^n=\d+ ", "", text).split()[0].replace(",", "")) for text in texts]


def press(page: Page, header: str) -> None:
    table_of(page).locator("thead button", has_text=re.compile(f"^{header}")).click()
    page.wait_for_timeout(50)  # the library sorts after a tick


def test_a_click_on_a_header_sorts_and_a_second_one_turns_the_order(page: Page, site: Path) -> None:
    table = table_of(opened(page, site))
    press(page, "Average")
    assert (found := first_numbers(column(table, "Average"))) == sorted(found)
    press(page, "Task 1")
    assert (found := first_numbers(column(table, "Task 1"))) == sorted(found, reverse=True)
    assert table.locator("th[aria-sort]").count() == 1
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"


def test_the_keyboard_sorts_names_from_a_to_z(page: Page, site: Path) -> None:
    table = table_of(opened(page, site))
    table.locator("thead button", has_text="Method").focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(50)
    assert column(table, "Method") == METHODS
    assert "sorted by Method, ascending" in page.locator(".tools-status:visible").first.inner_text()


def test_numbers_with_units_sort_by_what_they_are(page: Page, site: Path) -> None:
    table = table_of(opened(page, site))
    press(page, "Adapter\\s*parameters")
    assert first_numbers(column(table, "Adapter")) == [16384, 8192, 4096, 2048, 1024]


def test_search_finds_words_and_compares_numbers(page: Page, site: Path) -> None:
    table = table_of(opened(page, site))
    before = column(table, "Method")
    search = page.locator("input[type=search]:visible").first
    search.fill("method 3")
    assert column(table, "Method") == ["Method 3"]
    assert page.locator(".tools-status:visible").first.inner_text().startswith("1 of 6 rows")
    search.fill("adapter-parameters>=4k")
    assert sorted(column(table, "Method")) == METHODS[2:]
    search.fill("")
    assert column(table, "Method") == before


def test_a_filter_shows_the_rows_of_one_value(page: Page, site: Path) -> None:
    table = table_of(opened(page, site, "suites/suite000/compare.html"))
    before = column(table, "First")
    page.locator(".menu summary", has_text="Filter").click()
    page.locator("select[data-filter=first]").select_option("Method 2")
    assert column(table, "First") == ["Method 2"] * before.count("Method 2")
    assert 0 < before.count("Method 2") < len(before)
    assert "first=Method+2" in page.url


def test_columns_can_be_left_out(page: Page, site: Path) -> None:
    table = table_of(opened(page, site))
    page.locator(".menu summary:visible", has_text="Columns").first.click()
    page.locator(".menu-body:visible label", has_text="Memory").click()
    assert not table.locator("thead th", has_text="Memory").is_visible()
    assert {row.locator("> :visible").count() for row in table.locator("tbody:not(.group) tr").all()} == {13}
    page.keyboard.press("Escape")
    assert page.locator(".menu[open]").count() == 0


def test_a_link_shows_the_table_as_its_sender_saw_it(page: Page, site: Path) -> None:
    table = table_of(opened(page, site))
    press(page, "Task 0")
    page.locator("input[type=search]:visible").first.fill("average>60")
    page.locator(".menu summary:visible", has_text="Columns").first.click()
    page.locator(".menu-body:visible label", has_text="Rank").click()
    page.locator("label", has_text="last").click()
    sent, seen = page.url, table_of(page).inner_text()
    page.goto("about:blank")
    page.goto(sent)
    page.wait_for_timeout(50)
    assert "hide=rank-may-hold" in sent
    assert table_of(page).inner_text() == seen
    assert page.locator("label:has-text('last')").locator("xpath=preceding-sibling::input[1]").is_checked()
    page.locator(".reset:visible").first.click()
    assert table.locator("thead th", has_text="Rank").count() == 1
    assert "hide" not in page.url
    assert "sort" not in page.url


def copied(page: Page, form: str) -> str:
    """What the Copy menu of the first table puts on the clipboard."""
    page.locator(".menu summary:visible", has_text="Copy").first.click()
    page.locator(".menu-body:visible button", has_text=form).click()
    page.locator(f".tools-status:has-text('Copied as {form}')").first.wait_for()
    page.evaluate("document.body.append(Object.assign(document.createElement('textarea'), { id: 'pasted' }))")
    page.locator("#pasted").focus()
    page.keyboard.press("Control+V")
    text = page.locator("#pasted").input_value()
    page.evaluate("document.getElementById('pasted').remove()")
    return text


def rows_of(site: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((site / "data/suite000.json").read_text())
    return [row for row in found if row["score_selected"] is not None]


def means(site: Path) -> dict[tuple[str, str], float]:
    """Mean selected score of every method on every task, from the data file."""
    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows_of(site):
        key = (str(row["method_title"]), str(row["task_title"]))
        groups.setdefault(key, []).append(float(str(row["score_selected"])))
    return {key: sum(scores) / len(scores) for key, scores in groups.items()}


def test_the_copied_csv_holds_the_numbers_of_the_data(page: Page, site: Path) -> None:
    text = copied(opened(page, site), "CSV")
    table = list(csv.DictReader(io.StringIO(text)))
    expected = means(site)
    assert len(table) == 6
    for row in table:
        for task in ("Task 0", "Task 1", "Task 2"):
            assert abs(float(row[f"{task} (accuracy)"]) - expected[row["Method"], task]) < 1e-12
            assert float(row[f"{task} (accuracy) spread"]) > 0


def test_the_copied_markdown_is_the_table_as_shown(page: Page, site: Path) -> None:
    opened(page, site)
    page.locator("input[type=search]:visible").first.fill("method 4")
    lines = copied(page, "Markdown").splitlines()
    assert len(lines) == 3
    cells = [cell.strip().replace("*", "") for cell in lines[2].strip("|").split("|")]
    assert cells[0] == "Method 4"
    assert cells[1].startswith(f"{100 * means(site)['Method 4', 'Task 0']:.1f} ± ")
    assert lines[1].startswith("|:---|---:|")


def test_the_copied_latex_sets_all_that_share_the_best_rank_in_bold(page: Page, site: Path) -> None:
    text = copied(opened(page, site), "LaTeX")
    assert all(rule in text for rule in ("\\toprule", "\\midrule", "\\bottomrule", "\\begin{tabular}{l"))
    body = [line.split(" & ") for line in text.splitlines() if line.startswith("Method ") and "Task" not in line]
    best = {row["method_title"] for row in rows_of(site) if row["rank_best"] == 1}
    assert {line[0] for line in body if line[4].startswith("\\textbf{")} == best
    assert len(best) > 0
    assert all("$\\pm$" in line[1] for line in body)


def test_tables_in_one_place_share_what_is_chosen(page: Page, site: Path) -> None:
    opened(page, site, SUITE, "?q=method+2")
    assert column(table_of(page), "Method") == ["Method 2"]
    page.locator("label", has_text="optimistic").click()
    assert column(table_of(page), "Method") == ["Method 2"]
    assert "optimistic epoch" in table_of(page).locator("caption").inner_text()
