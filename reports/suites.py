"""Everything about one suite: its rows, statistics, charts, pages and data files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.canary import canary_seconds
from harness.predictions import StoredPredictions
from reports.comparisons import Comparison, Pair, compare
from reports.efficiency import COSTS, budget_panels, crossings, fronts
from reports.gallery import gallery
from reports.judged import Judged, judged_boards
from reports.marks import Mark, mark_of
from reports.names import compare_file, pair_file
from reports.overall import overall
from reports.pages import SuitePage
from reports.plots.scatter import Scatter, score_over_parameters
from reports.ranks import row_standings
from reports.rows import SuiteRows, as_csv, as_json, load_suite, rows_as_records
from reports.summaries import Picture, SuiteSummary
from reports.summarise import summarise
from reports.views import Board, suite_view

if TYPE_CHECKING:
    from harness.store import Store

Render = Callable[..., str]
"""Template name and context -> page; `path` is where the page will lie."""


@dataclass(frozen=True)
class Suite:
    """One suite, read and judged."""

    page: SuitePage
    summary: SuiteSummary
    search_title: str | None
    """Of the suite that holds its tuning search."""


def load(store: Store, name: str, notes: Mapping[str, str], search: str | None) -> Suite:
    """Read one suite and all that its pages say. search: the suite of its tuning search, if there is one."""
    rows, stored = load_suite(store, name), StoredPredictions(store)
    view = suite_view(rows)
    controls = frozenset(row.label for row in view.rows if row.control)
    marks = {label: mark_of(label, view.labels, controls) for label in view.labels}
    judged = judged_boards(stored, view)
    main = view.main
    first = judged.get((main.grid, main.protocol)) if main else None
    with ThreadPoolExecutor(1) as drawing:  # another process draws: this one goes on meanwhile
        scatter = drawing.submit(_scatter, main, marks, first)
        comparison = compare(stored, main, first, _right_or_wrong(rows)) if main and first else None
        shares = fronts(main, first) if main and first else ()
    whole = overall(main, view.rows) if main else None
    searched = rows if any("#" in row.label for row in rows.rows) else load_suite(store, search) if search else None
    budgets = budget_panels(searched.rows) if searched else ()
    page = SuitePage(
        view=view,
        marks=marks,
        plots=gallery(
            stored,
            view,
            marks,
            scatter.result(),
            comparison,
            whole,
            budgets,
            searched.rows if searched else (),
        ),
        protocol_notes=dict(notes),
        judged=judged,
        fronts=shares,
        crossings=tuple((panel, found) for panel in view.panels if (found := crossings(stored, view, panel))),
        comparison=comparison,
        overall=whole,
        canary=canary_seconds(store),
    )
    picture = _picture(page)
    title = searched.title if searched and search else None
    return Suite(page, summarise(view, marks, judged, picture), title)


def _scatter(main: Board | None, marks: Mapping[str, Mark], first: Judged | None) -> Scatter | None:
    return score_over_parameters(main, marks, first.standings if first else {}) if main else None


def _picture(page: SuitePage) -> Picture | None:
    """The plot that the overview may show."""
    chart = page.plots.scatter
    if chart is None:
        return None
    note = f"{chart.caption} {page.plots.scatter_note}".strip()
    return Picture(chart.title, chart.description, chart.svg, note, page.chart_file(chart))


def _right_or_wrong(rows: SuiteRows) -> list[str]:
    """Tasks whose predictions are right or wrong, not near or far."""
    return [name for (name, _), task in rows.tasks.items() if task.kind != "regression"]


def files(suite: Suite, render: Render) -> Iterator[tuple[str, str]]:
    """Path and content of every page and data file of the suite."""
    page = suite.page
    context: dict[str, Any] = {"here": "suites", "page": page}
    yield page.file, render("suite.html", page.file, **context, searched=suite.search_title, front_costs=tuple(COSTS))
    for protocol in [board.protocol for board in page.view.sections[0].boards[1:]] if page.split else []:
        path = page.protocol_file(protocol)
        yield path, render("protocol.html", path, **context, protocol=protocol)
    for label, groups in page.row_groups.items():
        path, title = page.row_file(label), groups[0].rows[0].title
        notes = page.notes_on(label)
        yield path, render("row.html", path, **context, label=label, row_title=title, notes=notes, groups=groups)
    if page.comparison is not None:
        yield from _pairs(page, page.comparison, render, context)
    yield from ((page.chart_file(chart), chart.standalone) for chart in page.plots.charts)
    first = {section.grid: page.standings(section.boards[0]) for section in page.view.sections}
    standings = row_standings(page.view, first)
    records = rows_as_records(page.view.rows, standings)
    yield page.json_file, as_json(records)
    yield page.csv_file, as_csv(records)


def _pairs(
    page: SuitePage, comparison: Comparison, render: Render, context: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    path = compare_file(page.view.name)
    yield path, render("compare.html", path, **context, comparison=comparison)
    for pair in comparison.pairs:
        path = _pair_path(page, pair)
        yield path, render("pair.html", path, **context, pair=pair, board=comparison.board)


def _pair_path(page: SuitePage, pair: Pair) -> str:
    return pair_file(page.view.name, pair.first.label, pair.second.label)
