"""Views, numbers as text, terminal and Markdown. The site has its own file."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import fill, make_record
from report_support import fill_example, make_row, make_suite_rows
from rich.console import Console

from harness.errors import UserError
from harness.store import Store, open_store
from reports import formats
from reports.cells import Cell, Span, average_over_tasks, cell
from reports.commands import run_again, run_suite
from reports.labels import HEIGHT, Anchor, place
from reports.markdown import leaderboard_markdown
from reports.marks import mark_of
from reports.ranks import first_standings, row_standings
from reports.rows import COLUMNS, STANDING_COLUMNS, as_csv, as_json, load_suite, load_suites, rows_as_records
from reports.strips import WIDTH, strips
from reports.terminal import render_leaderboard, render_run
from reports.views import SuiteView, suite_view


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(str(tmp_path_factory.mktemp("reports") / "board.db")) as opened:
        fill_example(opened)
        yield opened


@pytest.fixture(scope="module")
def view(store: Store) -> SuiteView:
    return suite_view(load_suite(store, "glue-tiny"))


def printed(view: SuiteView, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    render_leaderboard(view, console, {})
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# ------------------------------------------------------------------------------------------- numbers


def test_cell_gives_mean_and_sample_standard_deviation() -> None:
    found = cell([0.7, 0.8, 0.9])
    assert found.mean == pytest.approx(0.8)
    assert found.spread == pytest.approx(0.1)
    assert found.n == 3


def test_one_seed_has_no_spread() -> None:
    assert cell([0.8]) == Cell(0.8, None, 1)
    assert formats.cell(cell([0.8]), usual_n=1) == "80.0 ± – (n=1)"


def test_average_spread_is_over_seeds_of_the_mean_over_tasks() -> None:
    opposite = [{0: 0.8, 1: 0.6}, {0: 0.6, 1: 0.8}]
    found = average_over_tasks(opposite)
    assert (found.mean, found.spread) == pytest.approx((0.7, 0.0))
    assert found.n == 2


def test_average_spread_uses_only_seeds_that_all_tasks_have() -> None:
    found = average_over_tasks([{0: 0.8, 1: 0.6, 2: 0.1}, {0: 0.8, 1: 0.6}])
    assert found.spread == pytest.approx(0.2 / math.sqrt(2))
    assert found.n == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.score(0.86342), "86.3"),
        (formats.score(None), "–"),
        (formats.score(math.nan), "–"),
        (formats.quantity(1.234e12), "1.23 T"),
        (formats.quantity(999.96), "1.00 k"),
        (formats.quantity(295_000_000, "B"), "295 MB"),
        (formats.quantity(0), "0"),
        (formats.quantity(math.inf), "–"),
        (formats.seconds(1234.4), "1,234"),
        (formats.seconds(0.05), "0.0500"),
        (formats.span(Span(24_576, 24_576)), "24,576"),
        (formats.span(Span(0, 1_538)), "0–1,538"),
        (formats.span(None), "–"),
        (formats.short(10_000_000), "10M"),
        (formats.plural(1, "run"), "1 run"),
        (formats.train_size(0), "all"),
    ],
)
def test_numbers_as_text(text: str, expected: str) -> None:
    assert text == expected


# --------------------------------------------------------------------------------------------- views


def test_rows_stand_in_order_of_average_with_controls_apart() -> None:
    levels = {"a": 0.6, "b": 0.9, "c": 0.7, "majority": 0.95}
    rows = [make_row(method=name, score_selected=level, control=name == "majority") for name, level in levels.items()]
    board = suite_view(make_suite_rows(*rows)).main
    assert board is not None
    assert [row.label for row in board.contenders] == ["b", "c", "a"]
    assert [row.label for row in board.controls] == ["majority"]


def test_a_row_without_every_task_has_no_average_and_stands_last() -> None:
    whole = [make_row(method="whole", task=task, score_selected=0.1, train_flops=1e9) for task in ("mrpc", "rte")]
    part = make_row(method="part", score_selected=0.99, train_flops=1e9)
    board = suite_view(make_suite_rows(part, *whole)).main
    assert board is not None
    assert [row.label for row in board.rows] == ["whole", "part"]
    assert board.rows[1].average.mean is None
    assert board.rows[1].missing == ("RTE",)
    assert board.rows[1].costs.train_flops is None
    assert formats.average(board.rows[1], 1) == "1 of 2 tasks"


def test_a_failed_run_and_an_unknown_score_count_as_no_score() -> None:
    rows = [make_row(seed=0), make_row(seed=1, status="failed"), make_row(seed=2, score_selected=None)]
    view = suite_view(make_suite_rows(*rows))
    assert view.main is not None
    assert view.main.rows[0].cells[0] == Cell(0.8, None, 1)
    assert [row.seed for row in view.failures] == [1]


def test_trials_without_a_run_are_counted_once() -> None:
    planned = make_row(seed=1, status="planned")
    assert suite_view(make_suite_rows(make_row(), planned, planned)).unfinished == 1


def test_the_suites_protocol_comes_first_and_all_are_there() -> None:
    row = make_row(score_last=0.1, score_selected=0.2, score_optimistic=0.3)
    boards = suite_view(make_suite_rows(row, rank_by="last")).sections[0].boards
    assert {board.protocol: board.rows[0].cells[0].mean for board in boards} == {
        "last": 0.1,
        "selected": 0.2,
        "optimistic": 0.3,
    }
    assert boards[0].protocol == "last"


def test_seconds_and_memory_come_from_the_stack_with_most_runs() -> None:
    quick = [make_row(seed=seed, stack_id="gpu", train_seconds=1.0, peak_memory_bytes=9) for seed in (0, 1)]
    slow = make_row(seed=2, stack_id="cpu", train_seconds=100.0, peak_memory_bytes=5000)
    view = suite_view(make_suite_rows(*quick, slow))
    assert view.main is not None
    costs = view.main.rows[0].costs
    assert (costs.train_seconds, costs.peak_memory_bytes) == (1.0, 9)
    assert (view.stack, view.other_stacks) == ("gpu", 1)


def test_means_of_costs_weigh_every_task_the_same() -> None:
    rows = [make_row(seed=seed, train_seconds=10.0) for seed in range(3)] + [make_row(task="rte", train_seconds=20.0)]
    view = suite_view(make_suite_rows(*rows))
    assert view.main is not None
    assert view.main.rows[0].costs.train_seconds == 15.0


def test_a_grid_of_several_sizes_becomes_curves_with_all_last() -> None:
    sizes = [make_row(grid="train-size", train_size=size) for size in (0, 1000, 250)]
    view = suite_view(make_suite_rows(make_row(), *sizes))
    assert [section.grid for section in view.sections] == ["main"]
    assert view.panels[0].sizes == (250, 1000, 0)
    assert [point.size for point in view.panels[0].curves[0].points] == [250, 1000, 0]


def test_a_grid_whose_tasks_differ_in_size_stays_a_table() -> None:
    view = suite_view(make_suite_rows(make_row(train_size=500), make_row(task="rte", train_size=250)))
    assert [section.grid for section in view.sections] == ["main"]
    assert view.panels == ()


def test_a_stored_suite_reads_back_as_the_view_of_its_runs(view: SuiteView) -> None:
    assert view.main is not None
    assert view.main.protocol == "selected"
    best = view.main.contenders[0]
    assert best.title == "FT"
    assert best.cells[0].mean == pytest.approx(0.86 + 0.004 - 0.01)
    assert best.cells[0].spread == pytest.approx(0.004)
    lora = view.main.contenders[1]
    assert [found.n for found in lora.cells] == [3, 2]
    assert lora.costs.adapter_params == Span(24_576, 24_576)
    assert (view.done, len(view.failures), view.unfinished) == (35, 1, 0)


def test_an_unknown_suite_names_the_nearest(store: Store) -> None:
    with pytest.raises(UserError, match="glue-tiny"):
        load_suite(store, "glue-tini")


def test_json_and_csv_hold_every_row_and_column(store: Store, view: SuiteView) -> None:
    standings = row_standings(view, first_standings(store, view))
    written = rows_as_records(view.rows, standings)
    records, table = json.loads(as_json(written)), list(csv.DictReader(io.StringIO(as_csv(written))))
    assert len(records) == len(table) == len(view.rows) == 36
    assert tuple(records[0]) == tuple(table[0]) == COLUMNS + STANDING_COLUMNS
    failed = next(record for record in records if record["status"] == "oom")
    assert failed["score_selected"] is None
    assert records[0]["score_selected"] == pytest.approx(float(table[0]["score_selected"]))
    assert records[0]["seed"] == 0
    assert records[0]["started_at"].startswith("2026-01-31T12:00")


# ---------------------------------------------------------------------------- marks, names, commands


def test_no_two_rows_look_alike() -> None:
    labels = tuple(f"method{index}" for index in range(40))
    looks = {(mark.colour, mark.path) for mark in (mark_of(label, labels, frozenset()) for label in labels)}
    assert len(looks) == 40


def test_controls_are_hollow_and_do_not_shift_the_colours_of_others() -> None:
    alone = mark_of("b", ("a", "b"), frozenset())
    assert mark_of("b", ("control", "a", "b"), frozenset({"control"})) == alone
    assert mark_of("control", ("control", "a", "b"), frozenset({"control"})).fill == "transparent"


def test_names_of_coincident_points_do_not_overlap() -> None:
    placed = place([Anchor(text, 100.0, 100.0) for text in ("LoRA", "rsLoRA", "PiSSA", "DoRA")], 400, 200)
    for side in (True, False):
        heights = sorted(found.y for found in placed if found.leftward == side)
        assert all(below - above >= HEIGHT for above, below in itertools.pairwise(heights))


def test_strips_share_one_scale_and_mark_rows_below_it() -> None:
    levels = {"a": 0.8, "b": 0.9, "majority": 0.2}
    rows = [make_row(method=name, score_selected=level, control=name == "majority") for name, level in levels.items()]
    board = suite_view(make_suite_rows(*rows)).main
    assert board is not None
    found = strips(board)
    assert 0 <= found["a"].x < found["b"].x <= WIDTH
    assert found["majority"].below
    assert not found["a"].below


def test_commands_repeat_a_trial_with_the_suites_overrides() -> None:
    row = make_row(suite="starter[epochs=1,lora.targets=q,v]", train_size=250, label="lora r8")
    assert run_again(row) == (
        "python -m harness run --suite starter --set epochs=1 --set lora.targets=q,v "
        "--method 'lora r8' --task mrpc --seed 0 --train-size 250"
    )
    sized = make_row(suite="starter", grid="train-size", label="lora")
    assert "--suite starter --grid train-size --method lora" in run_again(sized)
    assert run_suite("starter") == "python -m harness run --suite starter"


# --------------------------------------------------------------------------- terminal and Markdown


def test_the_terminal_shows_scores_failures_and_what_ranks_mean(view: SuiteView) -> None:
    text = printed(view)
    assert "85.4 ± 0.4" in text
    assert "oom: LoRA on RTE, seed 2: out of memory at step 3" in text
    assert "Rank: the ranks that a row may hold" in text
    assert text.index("FT") < text.index("Controls") < text.index("Majority")


def test_a_narrow_terminal_cuts_no_number(view: SuiteView) -> None:
    assert "85.4 ± 0.4" in printed(view, width=40)


def test_the_terminal_reads_no_markup_in_names() -> None:
    rows = [make_row(method="[bold red]x[/]"), make_row(seed=1, status="failed", reason="[/nonsense]")]
    text = printed(suite_view(make_suite_rows(*rows)))
    assert "[BOLD RED]X[/]" in text
    assert "[/nonsense]" in text


def test_a_run_is_printed_with_configuration_scores_and_costs(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "board.db")) as store:
        (run_id,) = fill(store, [make_record()])
        details = store.run(run_id)
    console = Console(file=io.StringIO(), width=200)
    render_run(details, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for part in (run_id, "alpha=16.0, r=8, targets=q,v", "adapter 24,576 + head 1,538", "3.20 T", "select f1", "80.0"):
        assert part in text


def test_markdown_has_a_line_for_each_row(view: SuiteView) -> None:
    lines = leaderboard_markdown(view, view.main, {}).splitlines()
    assert lines[0].startswith("| Method | MRPC (f1) | RTE (accuracy) | Average |")
    assert lines[2].startswith("| FT | 85.4 ± 0.4 | 75.4 ± 0.4 | 80.4 ± 0.4 | – | – | 1,000,000 |")
    assert lines[5].startswith("| Majority (control) |")
    assert "1 trial did not end well." in lines[-1]


def test_markdown_keeps_names_from_becoming_markup() -> None:
    view = suite_view(make_suite_rows(make_row(label="a|b <script>*x*\n[y](z)")))
    text = leaderboard_markdown(view, view.main, {})
    assert r"| a\|b \<script\>\*x\* \[y\](z) |" in text


def test_a_database_without_suites_has_none(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "empty.db")) as store:
        assert load_suites(store) == []


# ------------------------------------------------------------------------------------------ starts


def test_a_start_is_told_whole_and_shared_by_the_runs_that_took_it() -> None:
    warmed = [
        make_row(label=label, seed=seed, start="warmup(1 epochs, lr 0.001)", start_seconds=60.0 + seed)
        for label in ("lora", "ft", "pissa")
        for seed in (0, 1)
    ]
    board = suite_view(make_suite_rows(*warmed)).main
    assert board is not None
    assert board.tells_starts
    assert [(row.starts.whole, row.starts.share) for row in board.rows] == [(60.5, pytest.approx(60.5 / 3))] * 3
    cells = formats.board_row(board.rows[0], board)
    assert dict(zip(formats.board_columns(board), cells[1:], strict=True))["Share of start"] == "20.2"


def test_a_table_from_the_pretrained_weights_tells_no_starts() -> None:
    board = suite_view(make_suite_rows(make_row())).main
    assert board is not None
    assert not board.tells_starts
    assert board.rows[0].starts.whole is None
    assert "Start seconds" not in formats.board_columns(board)
