"""Plots: the drawn numbers are those of the input, any name is harmless, and all is told without colour too."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from factories import fill, make_record, make_scores
from hypothesis import given
from hypothesis import strategies as st
from plot_support import elements, example, hovers, symbols, texts, tree, viewed, words
from report_support import make_row
from scipy import stats
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import f1_score

from harness.predictions import StoredPredictions
from harness.protocols import Scored, selected_epoch
from harness.records import Predictions
from harness.standings import Place, Standing, standings
from harness.stats.budgets import expected_best
from harness.stats.ranks import RankRange
from harness.store import open_store
from reports.bands import curve_bands
from reports.comparisons import Comparison, Difference, Pair
from reports.efficiency import BudgetCurve, BudgetPanel
from reports.labels import stacked, text_width
from reports.overall import overall
from reports.plots.bars import LENGTH, MOST_ROWS, cost_bars
from reports.plots.chart import Chart
from reports.plots.course import BINS, loss_course, score_course
from reports.plots.curves import MOST_NAMED, budget_curves, size_curves
from reports.plots.matrix import rate_map_chart, win_matrix
from reports.plots.profiles import profile_chart
from reports.plots.ranks import AXIS, critical_difference_diagram
from reports.plots.scatter import score_over_parameters
from reports.plots.svg import shortened, tag, ticks
from reports.rates import rate_map
from reports.rows import load_suite
from reports.task_ranks import task_ranks
from reports.views import Board, suite_view

HOSTILE = "<script>alert('x')</script>\"&\u202e\U0001f600\x00\ud800 ]]> {{ 7*7 }}" + "x" * 300
LEVELS = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.75}


def board_of(levels: Mapping[str, float] = LEVELS) -> tuple[Board, dict[str, object]]:
    view, marks = example(levels)
    assert view.main is not None
    return view.main, dict(marks)


def compared(board: Board) -> Comparison:
    """All pairs; runs of the better row win as often as the place of the pair says; the first pair is separated."""
    rows = board.contenders
    pairs: list[Pair] = []
    for i, first in enumerate(rows):
        for second in rows[i + 1 :]:
            share = 0.55 + 0.05 * len(pairs)
            pairs.append(Pair(first, second, Difference(0.1, 0.0, 0.2, 0.04 if not pairs else 0.2, share, 0.1, 2), ()))
    return Comparison(board, tuple(pairs), 0)


def searched(titles: Mapping[str, str] | None = None) -> list[object]:
    titles = titles or {"a": "a", "b": "b"}
    return [
        make_row(
            method=name,
            method_title=title,
            label=f"{name}#{number}",
            task=task,
            recipe=json.dumps({"learning_rate": rate}),
            score_selected=0.01,
            select_selected=0.5 + 0.1 * number + (0.02 if task == "two" else 0.0),
        )
        for name, title in titles.items()
        for number, rate in enumerate((1e-3, 5e-4, 1e-4), start=1)
        for task in ("one", "two")
        if (name, number) != ("b", 3)
    ]


@cache
def gallery(name: str = "") -> dict[str, Chart]:
    """One of each plot; the first row has that name, if one is given."""
    titles = {label: f"{label}{name}" for label in LEVELS}
    sizes = [
        make_row(method=m, method_title=t, grid="train-size", train_size=n, seed=s, score_selected=0.5 + n / 4000)
        for m, t in titles.items()
        for n in (100, 1000)
        for s in (0, 1)
    ]
    view, _ = example(LEVELS, train_seconds=10.0, peak_memory_bytes=10**8)
    rows = [replace(row, method_title=titles[row.label]) for row in view.rows]
    view, marks = viewed(*rows, *sizes)
    board, panel = view.main, view.panels[0]
    assert board is not None
    whole = overall(board, view.rows)
    ranks, rates = task_ranks(board), rate_map(searched(titles))  # type: ignore[arg-type]
    scatter = score_over_parameters(board, marks, {})
    budget = BudgetPanel(panel.task, tuple(BudgetCurve(c.label, c.title, (0.5, 0.6)) for c in panel.curves))
    assert whole is not None
    assert ranks is not None
    assert rates is not None
    assert scatter is not None
    charts = (
        scatter[0],
        size_curves(panel, marks, {("a", 100): (0.4, 0.6), ("a", 1000): (0.7, 0.8)}),
        budget_curves(budget, marks),
        critical_difference_diagram(ranks, marks),
        profile_chart(whole, marks),
        win_matrix(compared(board), marks),
        cost_bars(board, marks),
        rate_map_chart(rates, marks),
        score_course({f"select {name}": [(1, 0.5), (2, 0.6)], "test accuracy": [(1, 0.4), (2, 0.5)]}),
        loss_course([(step, 1 / step) for step in range(1, 400)]),
    )
    return {chart.name.split()[0]: chart for chart in charts if chart is not None}


KINDS = (
    "score-over-parameters",
    "size",
    "budget",
    "critical-difference",
    "profiles",
    "wins",
    "costs",
    "rates",
    "scores",
    "losses",
)


# ------------------------------------------------------------------------------------- what all have


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawing_is_an_image_with_title_and_description(kind: str) -> None:
    chart = gallery()[kind]
    root = tree(chart)
    ids = {element.get("id"): element.text for element in root if element.get("id")}
    assert root.get("role") == "img"
    assert ids[root.get("aria-labelledby")] == chart.title
    assert ids[root.get("aria-describedby")] == chart.description
    assert hovers(chart)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_may_forbid_all_that_is_inline(kind: str) -> None:
    for element in tree(gallery(HOSTILE)[kind]).iter():
        assert element.tag.rpartition("}")[2] in {"svg", "g", "path", "rect", "line", "text", "tspan", "title", "desc"}
        assert not [name for name in element.attrib if name == "style" or name.startswith("on") or "href" in name]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_its_own_is_xml_with_its_colours(kind: str) -> None:
    for chart in (gallery()[kind], gallery(HOSTILE)[kind]):
        root = ElementTree.fromstring(chart.standalone.encode())
        assert "prefers-color-scheme: dark" in "".join(root.itertext())
        assert chart.title in "".join(root.itertext())
        assert chart.file.endswith(".svg")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_input_gives_the_same_bytes(kind: str) -> None:
    before = gallery()[kind].standalone
    gallery.cache_clear()
    assert gallery()[kind].standalone == before


def test_hostile_names_are_cut_and_told_whole_on_hover() -> None:
    for kind in ("profiles", "wins", "costs", "rates", "critical-difference"):
        chart = gallery(HOSTILE)[kind]
        assert max(map(len, texts(chart))) < 60
        assert any("x" * 300 in told for told in hovers(chart))


# ---------------------------------------------------------------------------------------- small parts


def test_text_and_attributes_are_escaped_and_numbers_short() -> None:
    assert tag("text", "<&>", x=1 / 3, stroke_width=2.0, class_='"') == (
        '<text x="0.33" stroke-width="2" class="&#34;">&lt;&amp;&gt;</text>'
    )


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_even_and_within(low: float, width: float) -> None:
    high = low + width
    found = ticks(low, high)
    if high - low > 1e-9 * abs(low):
        step = [after - before for before, after in pairwise(found)]
        assert all(low - 1e-6 * width <= tick <= high + 1e-6 * width for tick in found)
        assert len(found) <= 6
        if step and width > 1e-4 * abs(low):
            mantissa = step[0] / 10 ** math.floor(math.log10(step[0]) + 1e-6)
            assert min(abs(mantissa - nice) for nice in (1, 2, 5)) < 1e-3
            assert max(step) - min(step) < 1e-3 * step[0]


@given(st.text(max_size=60), st.floats(20, 300))
def test_a_shortened_name_fits_and_keeps_both_ends(name: str, room: float) -> None:
    short, whole = shortened(name, room), " ".join(name.split())
    if short != whole:
        head, _, tail = short.rpartition("…")
        assert whole.startswith(head)
        assert whole.endswith(tail)
        assert text_width(short) <= room or len(short) <= 3


@given(st.lists(st.floats(-50, 250), min_size=1, max_size=14))
def test_stacked_names_are_the_nearest_that_do_not_touch(middles: list[float]) -> None:
    gap, height = 14.0, 210.0
    order = np.argsort(middles, kind="stable")
    ranks = np.arange(len(middles))
    oracle = IsotonicRegression(y_min=gap / 2, y_max=height - gap / 2 - gap * ranks[-1])
    expected = oracle.fit_transform(ranks, np.array(middles)[order] - gap * ranks) + gap * ranks
    assert np.array(stacked(middles, gap, height))[order] == pytest.approx(expected, abs=1e-6)


# ------------------------------------------------------------------------------------ points and lines


def test_the_scatter_draws_averages_to_scale() -> None:
    board, marks = board_of()
    found = score_over_parameters(board, marks, {})  # type: ignore[arg-type]
    assert found is not None
    at = {told.partition(":")[0]: place for told, place in symbols(found[0]).items()}
    means = {row.label: row.average.mean or 0.0 for row in board.rows}
    params = {row.label: math.log10(row.costs.adapter_params.high) for row in board.rows if row.costs.adapter_params}
    for values, axis, sign in ((means, 1, -1), (params, 0, 1)):
        fitted = stats.linregress([values[label] for label in at], [at[label][axis] for label in at])
        assert abs(fitted.rvalue) == pytest.approx(1, abs=1e-5)
        assert math.copysign(1, fitted.slope) == sign


def test_the_front_is_of_rows_that_nothing_cheaper_beats() -> None:
    board, marks = board_of({"a": 0.7, "b": 0.6, "c": 0.8, "control": 0.9})
    found = score_over_parameters(board, marks, {})  # type: ignore[arg-type]
    assert found is not None
    on = {told.partition(":")[0] for told in hovers(found[0]) if told.endswith("on the front")}
    assert on == {"a", "c"}


def test_intervals_are_told_and_cut_off_where_they_would_squeeze_the_rest() -> None:
    board, marks = board_of()
    wide = {"a": Standing(RankRange(1, 4), (-1.0, 1.0)), "b": Standing(RankRange(1, 4), (0.7, 0.8))}
    found = score_over_parameters(board, marks, wide)  # type: ignore[arg-type]
    plain = score_over_parameters(board, marks, {})  # type: ignore[arg-type]
    assert found is not None
    assert plain is not None
    assert any("(95 %: -100.0 to 100.0)" in told for told in hovers(found[0]))
    heights = [[place[1] for place in symbols(chart[0]).values()] for chart in (found, plain)]
    assert np.ptp(heights[0]) > 0.4 * np.ptp(heights[1])


def test_a_control_far_below_is_left_out_and_returned() -> None:
    board, marks = board_of({"a": 0.9, "b": 0.8, "control": 0.1})
    found = score_over_parameters(board, marks, {})  # type: ignore[arg-type]
    assert found is not None
    assert [row.label for row in found[1]] == ["control"]
    assert "control" not in texts(found[0])


def test_size_curves_draw_every_point_and_tell_bands() -> None:
    chart = gallery()["size"]
    told = [words for words in hovers(chart) if " rows: " in words]
    assert len(told) == 8
    assert any("(95 %: 70.0 to 80.0)" in words for words in told)
    assert {"a", "b", "c", "d", "100", "1,000"} <= set(texts(chart))


def test_bands_are_the_intervals_that_a_table_of_that_size_would_show(tmp_path: Path) -> None:
    labels = np.arange(100) % 2
    records = []
    for size, rate in ((100, 0.7), (1000, 0.9)):
        for seed in range(3):
            right = np.random.default_rng([seed, size]).random(100) < rate
            values = np.where(right, labels, 1 - labels)
            kept = Predictions("test", 1, [f"row{i}" for i in range(100)], labels.tolist(), values.tolist())
            scores = make_scores(select=[0.5], test=[float(f1_score(labels, values))])
            records.append(make_record(seed=seed, train_size=size, scores=scores, predictions=[kept]))
    with open_store(str(tmp_path / "board.db")) as store:
        fill(store, records)
        view = suite_view(load_suite(store, "glue-tiny"))
        found = curve_bands(StoredPredictions(store), view, view.panels[0])
        for size in (100, 1000):
            places = [
                Place(row.label, row.task, row.seed, row.metric, row.run_id or "", row.epoch("selected") or 0)
                for row in view.rows
                if row.train_size == size
            ]
            (standing,) = standings(
                StoredPredictions(store), places, [view.labels[0]], [view.panels[0].task.name]
            ).values()
            assert found[view.labels[0], size] == pytest.approx(standing.interval)


def test_of_many_curves_the_best_are_named_and_the_others_grey() -> None:
    rows = [
        make_row(method=f"m{i:02}", method_title=f"m{i:02}", grid="g", train_size=n, score_selected=0.5 + i / 100)
        for i in range(30)
        for n in (100, 1000)
    ]
    view, marks = viewed(*rows)
    chart = size_curves(view.panels[0], marks, {})
    assert sorted(words for words in texts(chart) if words.startswith("m")) == [
        f"m{i}" for i in range(30 - MOST_NAMED, 30)
    ]
    assert any(told.startswith("m00") for told in hovers(chart))


def test_budget_curves_draw_the_expected_best() -> None:
    expected = tuple(map(float, expected_best(np.array([0.1, 0.3, 0.2]), np.array([0.5, 0.7, 0.4]))))
    view, marks = viewed(*searched())
    column = replace(view.sections[0].boards[0].tasks[0])
    panel = BudgetPanel(column, (BudgetCurve("a#1", "a", expected), BudgetCurve("b#1", "b", expected[:2])))
    chart = budget_curves(panel, marks)
    at = {told: place for told, place in symbols(chart).items() if told.startswith("a, best of")}
    assert list(at) == [f"a, best of {k}: {100 * value:.1f}" for k, value in enumerate(expected, start=1)]
    x, y = np.array(list(at.values())).T
    assert np.diff(x) == pytest.approx([x[1] - x[0]] * 2, abs=1.01)  # the engine rounds to pixels
    assert y[0] - y[2] == pytest.approx(
        (y[0] - y[1]) * (expected[2] - expected[0]) / (expected[1] - expected[0]), abs=2
    )


@pytest.mark.parametrize("trials", [1, 2, 7, 40])
def test_ticks_of_a_budget_are_whole_numbers_of_trials(trials: int) -> None:
    view, marks = viewed(*searched())
    task = view.sections[0].boards[0].tasks[0]
    chart = budget_curves(BudgetPanel(task, (BudgetCurve("a#1", "a", (0.5,) * trials),)), marks)
    axis = next(group for group in elements(chart, "g", "role-axis-label"))  # of the trials: drawn first
    assert all(1 <= int(words(tick)) <= trials for tick in axis)
    assert words(next(iter(axis))) == "1"


# -------------------------------------------------------------------------------- ranks, wins, rates


def test_average_ranks_are_drawn_to_scale_and_groups_span_their_rows() -> None:
    board, marks = board_of({"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.75, "e": 0.6})
    ranks = task_ranks(board)
    assert ranks is not None
    scores = np.array([[cell.mean for cell in row.cells] for row in ranks.rows])
    expected = stats.rankdata(-scores, axis=0).mean(axis=1)
    chart = critical_difference_diagram(ranks, marks)  # type: ignore[arg-type]
    at = {told.partition(":")[0]: place[0] for told, place in symbols(chart).items()}
    pixels = [at[row.label] - at["a"] for row in ranks.rows]
    assert pixels == pytest.approx((expected - 1) / (len(expected) - 1) * AXIS, abs=0.02)
    bars = [told for told in hovers(chart) if told.startswith("Not told apart")]
    assert bars == [
        "Not told apart: " + ", ".join(ranks.rows[index].title for index in group) for group in ranks.found.groups
    ]


def test_a_critical_difference_needs_three_rows_and_two_tasks() -> None:
    assert task_ranks(board_of({"a": 0.9, "b": 0.8})[0]) is None
    one_task, _ = example(LEVELS, tasks=1)
    assert one_task.main is not None
    assert task_ranks(one_task.main) is None


def test_a_win_matrix_is_its_own_complement_and_marks_the_separated() -> None:
    board, marks = board_of()
    comparison = compared(board)
    chart = win_matrix(comparison, marks)  # type: ignore[arg-type]
    cells = {}
    for group in elements(chart, "g"):
        told = group.find("{http://www.w3.org/2000/svg}title")
        if told is not None and told.text and " beats " in told.text:
            first, _, rest = told.text.partition(" beats ")
            cells[first, rest.partition(" in ")[0]] = (int(words(group)), told.text)
    assert len(cells) == 12
    assert all(cells[one, two][0] + cells[two, one][0] == 100 for one, two in cells)
    for pair in comparison.pairs:
        assert cells[pair.first.label, pair.second.label][0] == round(100 * (pair.average.improvement or 0.0))
    assert len(elements(chart, "path", "corner")) == 2
    assert sum(", separated" in told for _, told in cells.values()) == 2


def test_a_rate_map_holds_the_best_select_score_of_each_cell_and_no_test_score() -> None:
    found = rate_map(searched())  # type: ignore[arg-type]
    assert found is not None
    assert found.columns == ("1e-4", "5e-4", "1e-3")
    assert [cell and cell.score for cell in found.rows[0].cells] == pytest.approx([0.81, 0.71, 0.61])
    assert found.rows[1].cells[0] is None
    chart = rate_map_chart(found, board_of()[1])  # type: ignore[arg-type]
    assert {"81.0", "71.0", "61.0"} <= set(texts(chart))
    assert "1.0" not in texts(chart)
    assert len(elements(chart, "rect", "frame")) == 2
    assert len(elements(chart, "rect", "empty")) == 1


def test_rates_drawn_at_random_are_sorted_into_ranges() -> None:
    rates = {"a": (1.2e-4, 1.9e-4, 3e-4), "b": (1.5e-4, 4e-4, 6e-3)}
    rows = [
        make_row(
            method=name, label=f"{name}#{k}", recipe=json.dumps({"learning_rate": rate}), select_selected=0.5 + k / 10
        )
        for name, values in rates.items()
        for k, rate in enumerate(values, start=1)
    ]
    found = rate_map(rows)
    assert found is not None
    assert found.columns == ("1e-4–2e-4", "2e-4–5e-4", "5e-3–0.01")
    first = found.rows[0].cells[0]
    assert first is not None
    assert (first.score, first.trials) == (pytest.approx(0.7), 2)


def test_without_two_learning_rates_there_is_no_map() -> None:
    assert rate_map([make_row(label="a#1", recipe='{"learning_rate": 1}', select_selected=0.5)]) is None
    assert rate_map([make_row(label="a", select_selected=0.5)]) is None


# ------------------------------------------------------------------------------------ costs and courses


def test_bars_are_as_long_as_costs_are_large() -> None:
    costs = {"a": (40.0, 10**9), "b": (10.0, 5 * 10**8), "c": (None, None)}
    view, marks = viewed(
        *(make_row(method=name, train_seconds=s, peak_memory_bytes=b) for name, (s, b) in costs.items())
    )
    assert view.main is not None
    chart = cost_bars(view.main, marks)
    assert chart is not None
    lengths = [float(bar.get("width") or 0) for bar in elements(chart, "rect") if bar.get("fill")]
    assert lengths == [LENGTH, LENGTH / 4, LENGTH, LENGTH / 2]
    assert {"40.0 s", "10.0 s", "1.00 GB", "500 MB"} <= set(texts(chart))


def test_a_long_table_has_the_bars_of_its_first_rows() -> None:
    view, marks = viewed(*(make_row(method=f"m{i}", train_seconds=1.0) for i in range(MOST_ROWS + 2)))
    assert view.main is not None
    chart = cost_bars(view.main, marks)
    assert chart is not None
    assert texts(chart).count("1.00 s") == MOST_ROWS
    assert chart.caption.endswith("2 rows further down are left out.")


def test_without_costs_there_are_no_bars() -> None:
    board, marks = board_of()
    assert cost_bars(board, marks) is None  # type: ignore[arg-type]


def test_the_dotted_epoch_is_the_selected_one() -> None:
    scores = {0: 0.9, 1: 0.5, 2: 0.7, 3: 0.7, 4: 0.6}
    found = selected_epoch([Scored(epoch, 0.5, select) for epoch, select in scores.items() if epoch > 0])
    assert found is not None
    chosen = found.epoch
    chart = score_course({"select accuracy": list(scores.items()), "test accuracy": [(1, 0.5), (2, 0.4)]})
    assert chart is not None
    assert chart.caption == f"Dotted: epoch {chosen}, which select chooses."
    at = symbols(chart)
    (line,) = elements(chart, "path", "chosen")
    assert (line.get("d") or "").startswith(f"M{at[f'select accuracy, epoch {chosen}: 70.0'][0]:g},")


def test_a_long_loss_curve_is_the_mean_of_stretches_within_their_ends() -> None:
    generator = np.random.default_rng(3)
    losses = 1 + generator.random(10 * BINS)
    chart = loss_course(list(enumerate(losses.tolist(), start=1)))
    assert chart is not None
    (line,) = elements(chart, "path", "course")
    drawn = np.array([pair.split(",") for pair in (line.get("d") or "")[1:].split("L")], float)
    means = losses.reshape(BINS, 10).mean(1)
    fitted = stats.linregress(means, drawn[:, 1])
    assert fitted.rvalue == pytest.approx(-1, abs=1e-4)
    (band,) = elements(chart, "path", "band")
    edge = np.array([pair.split(",") for pair in (band.get("d") or "")[1:-1].split("L")], float)
    spans = edge[BINS:][::-1, 1] - edge[:BINS, 1]
    assert spans == pytest.approx(-fitted.slope * np.ptp(losses.reshape(BINS, 10), axis=1), abs=0.1)


def test_losses_that_are_not_finite_are_left_out() -> None:
    points = [(1, 0.9), (2, math.nan), (3, math.inf), (4, 0.7)]
    chart = loss_course(points)
    assert chart is not None
    assert "the last of 2 losses" in chart.description
    assert loss_course(points[:3]) is None


@pytest.mark.parametrize("draw", [lambda p: loss_course(p), lambda p: score_course({"test f1": p})])
def test_a_flat_course_has_a_scale(draw: Callable[[list[tuple[float, float]]], Chart | None]) -> None:
    for value in (0.0, 0.5, 1e-12, -3.0):
        chart = draw([(1, value), (2, value)])
        assert chart is not None
        assert "nan" not in str(chart.svg)


def test_a_diverged_loss_is_drawn_on_a_logarithmic_scale() -> None:
    chart = loss_course([(1, 0.1), (2, 1.0), (3, 1e6)])
    assert chart is not None
    at = [place[1] for told, place in sorted(symbols(chart).items())]
    assert {"1", "1000", "100000"} <= set(texts(chart))
    assert at[0] > at[1]


# --------------------------------------------------------------------------- over all tasks and seeds


def test_rows_over_all_tasks_are_those_of_the_runs() -> None:
    scores = {("a", "one"): [0.9, 0.8, 0.1], ("a", "two"): [0.6, 0.7, 0.8], ("b", "one"): [0.7, 0.7, 0.7]}
    scores["b", "two"] = [0.65, 0.75, 0.5]
    rows = [
        make_row(method=label, method_title=label, label=label, task=task, seed=seed, score_selected=score)
        for (label, task), found in scores.items()
        for seed, score in enumerate(found)
    ]
    view, _ = viewed(*rows)
    assert view.main is not None
    found = overall(view.main, view.rows)
    assert found is not None
    assert [item.row.label for item in found.rows] == ["a", "b"]
    for item in found.rows:
        runs = np.array([scores[item.row.label, task] for task in ("one", "two")])
        assert item.interquartile_mean == pytest.approx(stats.trim_mean(runs.ravel(), 0.25))
        for threshold, share in zip(found.thresholds, item.profile, strict=True):
            assert share == pytest.approx((runs > threshold).mean())
    means = np.array([[np.mean(scores[label, task]) for task in ("one", "two")] for label in ("a", "b")])
    expected = stats.rankdata(-means, axis=0).mean(1)
    assert [item.average_rank for item in found.rows] == expected.tolist()
    assert (found.tasks, found.thresholds[0], found.thresholds[-1]) == (2, 0.1, 0.9)


def test_rows_that_tie_in_the_table_share_their_average_rank() -> None:
    runs = {"a": (0.1, 0.2, 0.7), "b": (0.7, 0.1, 0.2)}
    rows = [make_row(method=m, label=m, seed=n, score_selected=x) for m, xs in runs.items() for n, x in enumerate(xs)]
    view, _ = viewed(*rows)
    assert view.main is not None
    found = overall(view.main, view.rows)
    assert found is not None
    assert [item.average_rank for item in found.rows] == [1.5, 1.5]


def test_what_has_one_run_a_row_or_one_row_is_not_summed_up() -> None:
    lone = [make_row(method=label, label=label, seed=0, score_selected=0.5) for label in ("a", "b")]
    one_row = [make_row(method="a", label="a", seed=seed, score_selected=0.5) for seed in (0, 1)]
    for rows in (lone, one_row):
        view, _ = viewed(*rows)
        assert view.main is not None
        assert overall(view.main, view.rows) is None


def test_runs_that_all_score_the_same_have_no_profile() -> None:
    rows = [make_row(method=m, label=m, seed=seed, score_selected=0.5) for m in ("a", "b") for seed in (0, 1)]
    view, marks = viewed(*rows)
    assert view.main is not None
    found = overall(view.main, view.rows)
    assert found is not None
    assert profile_chart(found, marks) is None


def test_a_profile_draws_the_best_rows_and_says_so() -> None:
    view, marks = example({f"row{i}": 0.5 + i / 100 for i in range(14)})
    assert view.main is not None
    found = overall(view.main, view.rows)
    assert found is not None
    chart = profile_chart(found, marks)
    assert chart is not None
    assert [word for word in texts(chart) if word.startswith("row")] == [f"row{i}" for i in range(13, 1, -1)]
    assert "The 12 rows" in chart.caption
    shown = next(told for told in hovers(chart) if told.startswith("row13"))
    assert shown.endswith(f"above {100 * found.thresholds[0]:.1f}")
