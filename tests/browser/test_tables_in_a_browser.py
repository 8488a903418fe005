"""Tables as a reader uses them: order, search, filters, columns, links, copies. The data files are the oracle."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SUITE = Path("suites") / "suite000.html"
CONTENDERS = 8
ROWS = 9
OpenPage = Callable[..., "Page"]


@pytest.fixture
def page(open_page: OpenPage, sites: dict[str, Path]) -> Page:
    """The suite with eight contenders and a control on four tasks."""
    return open_page(sites["table"] / SUITE)


@pytest.fixture(scope="session")
def runs(sites: dict[str, Path]) -> list[dict[str, str]]:
    """The rows of the suite's data file."""
    with (sites["table"] / "data" / "suite000.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def of_method(runs: Sequence[dict[str, str]], title: str, column: str, **where: str) -> list[float]:
    """Numbers of one column in the good runs of a method."""
    found = [run for run in runs if run["method_title"] == title and all(run[k] == v for k, v in where.items())]
    return [float(run[column]) for run in found if run["status"] == "ok"]


def board(page: Page) -> Locator:
    """The table that is shown."""
    return page.locator("table.board:visible").first


def titles(page: Page) -> list[str]:
    """Names of the rows that are shown, from top to bottom."""
    return [text.strip() for text in board(page).locator("tbody:not(.group) tr:visible > th").all_inner_texts()]


def contenders(page: Page) -> list[str]:
    return [title for title in titles(page) if title != "Method 8"]


def header(page: Page, name: str) -> Locator:
    return board(page).locator("thead th", has_text=re.compile(name))


def tool(page: Page, name: str) -> Locator:
    """A menu above the table, opened."""
    menu = page.locator(".tools:visible").first.locator("details", has=page.get_by_text(name, exact=True))
    menu.locator("summary").click()
    return menu


def copied(page: Page, name: str) -> str:
    """What the reader has after choosing a format: pasted into a field, as they would."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tool(page, "Copy").get_by_role("button", name=name).click()
    page.get_by_text(f"Copied as {name}").first.wait_for()
    return str(page.evaluate("navigator.clipboard.readText()"))


def sorted_titles(page: Page, how: str) -> list[str]:
    """Row names once the table says that it is sorted."""
    board(page).locator(f"thead th[aria-sort={how}]").wait_for()
    page.wait_for_function("() => new Promise(done => setTimeout(() => done(true), 30))")
    return contenders(page)


# --------------------------------------------------------------------------------------------- order


def test_a_click_on_a_number_sorts_from_the_largest_and_a_second_one_turns_it(
    page: Page, runs: list[dict[str, str]]
) -> None:
    flops = {f"Method {i}": mean(of_method(runs, f"Method {i}", "train_flops")) for i in range(CONTENDERS)}
    largest_first = sorted(flops, key=lambda title: -flops[title])
    header(page, "FLOPs").click()
    assert sorted_titles(page, "descending") == largest_first
    header(page, "FLOPs").click()
    assert sorted_titles(page, "ascending") == largest_first[::-1]


def test_names_sort_from_a_to_z_by_keyboard(page: Page) -> None:
    header(page, "^Method").get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert sorted_titles(page, "ascending") == [f"Method {i}" for i in range(CONTENDERS)]


def test_controls_stay_below_the_contenders_in_any_order(page: Page) -> None:
    for _ in range(2):
        header(page, "Average").click()
        page.wait_for_timeout(30)
        assert titles(page)[-1] == "Method 8"


# ------------------------------------------------------------------------- search, filters, columns


def test_search_finds_words_and_numbers_and_says_how_many(page: Page, runs: list[dict[str, str]]) -> None:
    search = page.get_by_role("searchbox").first
    search.fill("method 3")
    assert titles(page) == ["Method 3"]
    assert page.get_by_role("status").first.inner_text() == f"1 of {ROWS} rows"
    assert not page.get_by_text("Controls: what a method has to beat").first.is_visible()
    search.fill("adapter-parameters>=32k")
    assert sorted(titles(page)) == ["Method 5", "Method 6", "Method 7", "Method 8"]
    search.fill("nothing like it")
    assert titles(page) == []
    search.fill("")
    assert len(titles(page)) == ROWS


def test_a_filter_keeps_the_rows_with_one_value(open_page: OpenPage, sites: dict[str, Path]) -> None:
    page = open_page(sites["table"] / "suites" / "suite000" / "compare.html")
    rows = page.locator("table.board tbody tr:visible")
    assert rows.count() == CONTENDERS * (CONTENDERS - 1) // 2
    tool(page, "Filter").get_by_label("Second").select_option("Method 3")
    found = rows.all_inner_texts()
    assert 0 < len(found) < CONTENDERS
    assert all("Method 3" in text for text in found)
    assert "second=Method+3" in page.url


def test_a_column_can_be_left_out_and_brought_back(page: Page) -> None:
    columns = tool(page, "Columns")
    box = columns.get_by_label("Memory (peak)")
    box.uncheck()
    assert not header(page, "Memory").is_visible()
    assert board(page).locator("tbody tr").first.locator("td:visible").count() == 13
    page.keyboard.press("Escape")
    assert not box.is_visible()
    page.get_by_role("button", name="Reset").first.click()
    assert header(page, "Memory").is_visible()


# --------------------------------------------------------------------------------------------- links


def test_an_address_restores_the_view(page: Page, open_page: OpenPage) -> None:
    page.get_by_label("last", exact=True).first.check()
    page.get_by_role("searchbox").locator("visible=true").first.fill("method average<70")
    tool(page, "Columns").get_by_label("Memory (peak)").uncheck()
    page.keyboard.press("Escape")
    header(page, "Task 2").click()
    wanted = sorted_titles(page, "descending")
    cells = board(page).locator("tbody tr:visible").first.inner_text()

    path, _, query = page.url.partition("?")
    again = open_page(Path(path.removeprefix("file://")), f"?{query}")
    assert sorted_titles(again, "descending") == wanted
    assert 0 < len(wanted) < CONTENDERS
    assert again.get_by_label("last", exact=True).first.is_checked()
    assert again.get_by_role("searchbox").locator("visible=true").first.input_value() == "method average<70"
    assert not header(again, "Memory").is_visible()
    assert board(again).locator("tbody tr:visible").first.inner_text() == cells


def test_reset_brings_back_the_page_as_it_came_and_a_plain_address(page: Page) -> None:
    came, address = titles(page), page.url
    page.get_by_role("searchbox").first.fill("method")
    header(page, "FLOPs").click()
    assert sorted_titles(page, "descending") != came
    page.get_by_role("button", name="Reset").first.click()
    page.wait_for_timeout(50)
    assert titles(page) == came
    assert page.url == address


@pytest.mark.parametrize("query", ["?sort=nothing", "?sort=-&q=%00&hide=a,b,,&protocol-1=never", "?2.q=x&task-0=<b>"])
def test_an_address_that_means_nothing_changes_nothing(open_page: OpenPage, sites: dict[str, Path], query: str) -> None:
    page = open_page(sites["table"] / SUITE, query)
    assert header(page, "Average").is_visible()
    assert page.get_by_label("selected", exact=True).first.is_checked()


# -------------------------------------------------------------------------------------------- copies


def expected_cells(runs: Sequence[dict[str, str]], title: str, task: str) -> tuple[float, float]:
    scores = of_method(runs, title, "score_selected", task_title=task)
    return mean(scores), stdev(scores)


def test_csv_has_the_numbers_of_the_data_file_in_the_order_shown(page: Page, runs: list[dict[str, str]]) -> None:
    order = titles(page)
    rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(copied(page, "CSV"))))
    assert [row["Method"] for row in rows] == order
    for row in rows:
        for task in ("Task 0", "Task 3"):
            found = float(row[f"{task} (accuracy)"]), float(row[f"{task} (accuracy) spread"])
            assert found == pytest.approx(expected_cells(runs, row["Method"], task))
        parameters = of_method(runs, row["Method"], "adapter_params")[0]
        assert float(row["Adapter (parameters)"]) == parameters


def test_markdown_has_the_rows_and_columns_that_are_shown(page: Page, runs: list[dict[str, str]]) -> None:
    page.get_by_role("searchbox").first.fill("method adapter-parameters<5000")
    tool(page, "Columns").get_by_label("Memory (peak)").uncheck()
    page.keyboard.press("Escape")
    head, rule, *lines = copied(page, "Markdown").splitlines()
    assert head.startswith("| Method | Task 0 (accuracy) | Task 1 (accuracy) |")
    assert "Memory" not in head
    assert rule.split("|")[1:3] == [":---", "---:"]
    assert [line.split(" | ")[0] for line in lines] == [f"| {title}" for title in titles(page)]
    assert len(lines) == 3
    for line in lines:
        title, cell = line.strip("| ").split(" | ")[:2]
        score, spread = expected_cells(runs, title, "Task 0")
        assert re.fullmatch(rf"(\*\*)?{100 * score:.1f} ± {100 * spread:.1f}( \(n=\d\))?(\*\*)?", cell)


def test_latex_is_booktabs_with_all_rows_of_the_best_rank_in_bold(page: Page, runs: list[dict[str, str]]) -> None:
    best = {run["method_title"] for run in runs if run["rank_best"] == "1"}
    assert 1 < len(best) < CONTENDERS
    text = copied(page, "LaTeX")
    assert [text.count(rule) for rule in ("\\toprule", "\\bottomrule", "\\begin{tabular}")] == [1, 1, 1]
    head = next(line for line in text.splitlines() if line.startswith("Method &"))
    average = head.removesuffix(" \\\\").split(" & ").index("Average")
    rows = [line.removesuffix(" \\\\").split(" & ") for line in text.splitlines() if re.match(r"Method \d ", line)]
    assert {row[0] for row in rows if row[average].startswith("\\textbf{")} == best
    assert all("±" not in cell and "–" not in cell and "_" not in cell for row in rows for cell in row)


def test_hostile_names_are_copied_as_text(open_page: OpenPage, sites: dict[str, Path]) -> None:
    page = open_page(next(iter(sorted((sites["hostile"] / "suites").glob("*.html")))))
    assert "\\<script\\>alert('x')\\</script\\>" in copied(page, "Markdown")
    latex = copied(page, "LaTeX")
    assert "\\textless{}script\\textgreater{}" in latex
    assert "\\&" in latex
    assert "\\{\\{ 7*7 \\}\\}" in latex
    assert "<script>alert('x')</script>" in next(csv.reader(io.StringIO(copied(page, "CSV"))))[1]
