"""Charts hold the numbers they were given, for eyes, for screen readers and as files; the same bytes every time."""

from __future__ import annotations

import html
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from report_support import make_row, make_suite_rows

from harness.stats.friedman import critical_difference
from reports import charts
from reports.comparisons import Comparison, Difference, Pair
from reports.efficiency import budget_panels
from reports.marks import mark_of
from reports.plots.costs import cost_bars
from reports.plots.differences import critical_differences
from reports.plots.drawing import Chart, Marks
from reports.plots.pairs import win_matrix
from reports.plots.tuning import budget_curves, rate_grids, rate_heat_map
from reports.views import Board, SuiteView, suite_view

SCORES = {"ft": (0.9, 0.7, 0.8), "lora": (0.85, 0.75, 0.7), "pissa": (0.8, 0.6, 0.6), "vera": (0.5, 0.5, 0.5)}
PARAMS = {"ft": 1_000_000, "lora": 20_000, "pissa": 20_000, "vera": 1_000}
HOSTILE = "<b>'\"&|\\\u202e\U0001f600 {{ 7*7 }}"


def titles(chart: Chart) -> dict[str, list[str]]:
    """What the marks of each row say on hover."""
    found: dict[str, list[str]] = {}
    for node in ElementTree.fromstring(chart.svg).iter():
        row, title = node.get("data-row"), node.find("{http://www.w3.org/2000/svg}title")
        if row is not None and title is not None:
            found.setdefault(row, []).append(title.text or "")
    return found


def texts(chart: Chart) -> list[str]:
    nodes = ElementTree.fromstring(chart.svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(node.itertext()) for node in nodes]


@pytest.fixture(scope="module")
def view() -> SuiteView:
    """Four rows on three tasks, two seeds, and one control."""
    rows = [
        make_row(
            method=method,
            task=f"task{k}",
            seed=seed,
            score_selected=score + 0.01 * seed,
            adapter_params=PARAMS[method],
            train_seconds=10.0 * (k + 1),
            peak_memory_bytes=10**9,
        )
        for method, scores in SCORES.items()
        for k, score in enumerate(scores)
        for seed in (0, 1)
    ]
    return suite_view(make_suite_rows(*rows))


@pytest.fixture(scope="module")
def board(view: SuiteView) -> Board:
    assert view.main is not None
    return view.main


@pytest.fixture(scope="module")
def marks(view: SuiteView) -> Marks:
    return {label: mark_of(label, view.labels, frozenset()) for label in view.labels}


@pytest.fixture(scope="module")
def drawn(board: Board, marks: Marks) -> list[Chart]:
    scatter = charts.score_over_parameters(board, marks, {"lora": (0.7, 0.8)})
    differences = critical_differences(board, marks)
    assert scatter is not None
    assert differences is not None
    return [scatter[0], differences, *cost_bars(board, marks), *(budget_curves(p) for p in budget_panels(search()))]


def search() -> list:  # type: ignore[type-arg]
    """Two methods tried at three learning rates."""
    return [
        make_row(
            method=method,
            label=f"{method}#{k + 1}",
            method_title=method.upper(),
            recipe=json.dumps({"learning_rate": rate}),
            select_selected=0.6 + 0.1 * k * sign,
            score_selected=0.5 + 0.1 * k * sign,
        )
        for method, sign in (("lora", 1), ("ft", -1))
        for k, rate in enumerate((1e-4, 1e-3, 1e-2))
    ]


def test_the_front_holds_the_rows_that_no_other_beats_for_less(drawn: list[Chart]) -> None:
    assert drawn[0].description.endswith("On the Pareto front: VERA, LORA, FT")
    assert "stroke-dasharray" in drawn[0].svg


def test_points_say_score_spread_and_interval(drawn: list[Chart]) -> None:
    assert "LORA: 77.2 ± 0.7, 95 % 70.0 to 80.0" in titles(drawn[0])["LORA"]
    assert "FT: 80.5 ± 0.7" in titles(drawn[0])["FT"]


def test_rows_with_as_many_parameters_stand_beside_each_other(drawn: list[Chart]) -> None:
    at = [
        float(re.search(r"translate\(([\d.]+),", node.get("transform") or "").group(1))  # type: ignore[union-attr]
        for node in ElementTree.fromstring(drawn[0].svg).iter("{http://www.w3.org/2000/svg}path")
        if node.get("data-row") in ("LORA", "PISSA") and "translate" in (node.get("transform") or "")
    ]
    assert len(at) == 2
    assert 5 < abs(at[0] - at[1]) < 9


def test_the_diagram_has_the_average_ranks_of_friedmans_test(drawn: list[Chart]) -> None:
    found = critical_difference(np.array(list(SCORES.values())))
    for title, rank in zip(("FT", "LORA", "PISSA", "VERA"), found.ranks, strict=True):
        assert f"{title}: average rank {rank:.2f}" in titles(drawn[1])[title]
        assert f"{title}  {rank:.2f}" in texts(drawn[1])
    assert f"closer than {found.difference:.2f}" in drawn[1].description


def test_no_diagram_below_three_rows(marks: Marks) -> None:
    view = suite_view(make_suite_rows(make_row(method="ft"), make_row(method="lora")))
    assert view.main is not None
    assert critical_differences(view.main, marks) is None


def test_bars_have_the_costs_of_the_table(drawn: list[Chart], board: Board) -> None:
    seconds, memory = drawn[2:4]
    assert titles(seconds)["FT"] == ["FT: 20.0"]
    assert texts(memory).count("1.00 GB") == len(board.rows)


def test_budget_curves_end_at_the_best_of_all_trials(drawn: list[Chart]) -> None:
    found = titles(drawn[-1])
    assert "LORA: 70.0 from the best of 3" in found["LORA"]
    assert "LORA: 60.0 from the best of 1" in found["LORA"]
    assert "FT: 50.0 from the best of 3" in found["FT"]


def test_learning_rates_have_the_mean_on_select_and_a_dot_at_the_best() -> None:
    (grid,) = rate_grids(search())
    assert grid.rates == (1e-4, 1e-3, 1e-2)
    chart = rate_heat_map(grid)
    assert "LORA at 0.001: 70.0 on select" in titles(chart)["LORA"]
    assert {text for text in texts(chart) if text.endswith("●")} == {"80.0 ●", "60.0 ●"}


def test_the_win_matrix_mirrors_each_pair_and_marks_the_separated(board: Board) -> None:
    rows = board.contenders[:3]
    pairs = tuple(
        Pair(first, second, Difference(0.1, 0.0, 0.2, p, share, 0.1, 2), ())
        for first, second, p, share in (
            (rows[0], rows[1], 0.01, 0.9),
            (rows[0], rows[2], 0.3, 0.7),
            (rows[1], rows[2], 0.3, 0.5),
        )
    )
    chart = win_matrix(Comparison(board, pairs, 0))
    assert chart is not None
    cells = [text for text in texts(chart) if re.match(r"\d", text)]
    assert sorted(cells) == sorted(["90 ●", "10 ●", "70", "30", "50", "50"])
    first, second = rows[0].title, rows[1].title
    assert f"a run of {second} beats one of {first} in 10 %; separated" in titles(chart)[second]


def test_every_chart_is_one_labelled_image_and_a_file_of_its_own(drawn: list[Chart]) -> None:
    for chart in drawn:
        root = ElementTree.fromstring(chart.file)
        assert root.get("role") == "img"
        assert root.get("aria-label") == chart.title
        assert root[1].text == chart.title
        assert root[2].text == chart.description
        assert "aria-roledescription" not in chart.svg
        assert not re.search(r'\b(id|style)="', chart.svg)


def test_the_same_input_gives_the_same_bytes(drawn: list[Chart], board: Board, marks: Marks) -> None:
    again = critical_differences(board, marks)
    assert again == drawn[1]


def test_names_may_hold_anything() -> None:
    rows = [
        make_row(
            method=f"m{k}", task=f"t{t}", seed=seed, method_title=f"{HOSTILE}{k}", train_seconds=1.0, adapter_params=10
        )
        for k in range(3)
        for t in range(2)
        for seed in (0, 1)
    ]
    view = suite_view(make_suite_rows(*rows))
    assert view.main is not None
    marks = {label: mark_of(label, view.labels, frozenset()) for label in view.labels}
    scatter, differences = charts.score_over_parameters(view.main, marks), critical_differences(view.main, marks)
    assert scatter is not None
    assert differences is not None
    for chart in (scatter[0], differences, *cost_bars(view.main, marks)):
        assert set(titles(chart)) == {f"{HOSTILE}{k}" for k in range(3)}
        assert html.escape("<b>") in chart.svg
        assert "<b>" not in chart.svg
