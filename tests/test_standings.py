"""From a store's predictions to ranks and intervals, and the tables that print them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from factories import PROVENANCE, fill
from report_support import Page
from report_support import make_answered_run as run
from rich.console import Console
from typer.testing import CliRunner

from harness.cli import app
from harness.predictions import StoredPredictions
from harness.records import RunRecord
from harness.scoring import results
from harness.standings import Place, standings, table_scores
from harness.stats.ranks import RankRange
from harness.store import Store, open_store
from reports.markdown import leaderboard_markdown
from reports.ranks import RANKS_SAY, board_standings, unranked
from reports.rows import STANDING_COLUMNS, load_suite
from reports.site import build_site
from reports.terminal import render_leaderboard
from reports.views import SuiteView, suite_view

ROWS = ("ft", "lora")


def board(store: Store, records: list[RunRecord]) -> SuiteView:
    fill(store, records)
    return suite_view(load_suite(store, "glue-tiny"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "board.db"))


def places(view: SuiteView) -> list[Place]:
    return [
        Place(row.label, row.task, row.seed, row.metric, row.run_id or "", row.epoch("selected") or 0)
        for row in view.rows
    ]


def test_stored_predictions_give_the_stored_scores(store: Store) -> None:
    view = board(store, [run(method, seed) for method in ROWS for seed in range(3)])
    (task,) = table_scores(StoredPredictions(store), places(view), ["ft", "lora"], ["mrpc"])
    stored = {(row.label, row.seed): row.score_selected for row in view.rows if row.score_selected is not None}
    expected = [[stored[label, seed] for seed in range(3)] for label in ("ft", "lora")]
    np.testing.assert_allclose(task.points, expected)


def test_clear_rows_are_ranked_the_same_way_every_time(store: Store) -> None:
    view = board(store, [run(method, seed) for method in ROWS for seed in range(4)])
    assert view.main is not None
    found = board_standings(StoredPredictions(store), view, view.main)
    assert [found[label].rank for label in ROWS] == [RankRange(1, 1), RankRange(2, 2)]
    mean, interval = view.main.rows[0].average.mean, found["ft"].interval
    assert mean is not None
    assert interval is not None
    low, high = interval
    assert low < mean < high
    assert board_standings(StoredPredictions(store), view, view.main) == found
    console = Console(file=io.StringIO(), width=200)
    render_leaderboard(view, console, {view.main.grid: found})
    assert isinstance(console.file, io.StringIO)
    assert f"{100 * low:.1f} to {100 * high:.1f}     1" in console.file.getvalue()
    assert f"| {100 * low:.1f} to {100 * high:.1f} | 1 |" in leaderboard_markdown(view, view.main, found)


def test_ranks_are_of_one_stack(store: Store, tmp_path: Path) -> None:
    """As many seeds of LoRA on another machine say nothing of it here."""
    elsewhere = {**PROVENANCE, "stack": {"device": "cuda", "torch": "2.13.0"}}
    away = [dataclasses.replace(run("lora", seed), provenance=elsewhere) for seed in range(4)]
    view = board(store, [*(run("ft", seed) for seed in range(4)), run("lora", 4), *away])
    assert view.main is not None
    found = board_standings(StoredPredictions(store), view, view.main)
    assert found["ft"].rank == RankRange(1, 1)
    assert (found["lora"].rank, "another stack" in found["lora"].reason) == (None, True)
    home = open_store(str(tmp_path / "home.db"))
    view = board(home, [run(method, seed) for method in ROWS for seed in range(4)])
    assert view.main is not None
    assert board_standings(StoredPredictions(home), view, view.main)["lora"].rank == RankRange(2, 2)


def test_json_and_csv_carry_interval_and_ranks_of_the_row_or_why_there_are_none(store: Store) -> None:
    view = board(store, [*(run("ft", seed) for seed in range(3)), run("lora", 0), run("head_only", 0)])
    assert view.main is not None
    interval = board_standings(StoredPredictions(store), view, view.main)["ft"].interval
    assert interval is not None
    asked = ["results", "--suite", "glue-tiny", "--db", str(store.database.path)]
    records = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    found = {record["label"]: [record[name] for name in STANDING_COLUMNS] for record in records}
    assert found == {
        "ft": [*interval, 1, 1, ""],
        "lora": [None, None, None, None, "one seed: nothing is known of its spread"],
        "head_only": [None, None, None, None, "a control"],
    }
    table = list(csv.DictReader(io.StringIO(CliRunner().invoke(app, [*asked, "--csv"]).stdout)))
    assert {row["label"]: row["rank_worst"] for row in table} == {"ft": "1", "lora": "", "head_only": ""}
    assert "rank_best" not in results(store).columns


def site_pages(store: Store, folder: Path) -> tuple[str, str]:
    """Text of the suite's page and of the overview."""
    build_site(store, folder)
    first, second = (Page((folder / name).read_text()) for name in ("suites/glue-tiny.html", "index.html"))
    return first.text, second.text


def test_the_site_shows_the_same_intervals_and_ranks_as_the_terminal(store: Store, tmp_path: Path) -> None:
    view = board(store, [run(method, seed) for method in ROWS for seed in range(4)])
    assert view.main is not None
    low, high = board_standings(StoredPredictions(store), view, view.main)["ft"].interval or (0, 0)
    suite, overview = site_pages(store, tmp_path / "site")
    assert RANKS_SAY in suite
    assert f"{100 * low:.1f} to {100 * high:.1f} 1 " in suite
    assert "shared" not in suite.replace(RANKS_SAY, "").split("Methods")[0]
    assert "Rank" in overview


def test_rows_of_the_site_that_share_a_rank_say_so_in_words(store: Store, tmp_path: Path) -> None:
    records = [run("ft", seed) for seed in range(3)]
    same = [dataclasses.replace(r, trial=dataclasses.replace(r.trial, method="lora")) for r in records]
    board(store, [*records, *same])
    suite, overview = site_pages(store, tmp_path / "site")
    assert suite.count("1–2 shared") == 2 * 3  # both rows, by each way of choosing an epoch
    assert overview.count("rank 1–2 shared") == 2
    assert "Nothing separates its 2 ranked rows" in overview


def test_a_row_without_a_rank_says_why_on_the_site(store: Store, tmp_path: Path) -> None:
    board(store, [*(run("ft", seed) for seed in range(3)), run("lora", 0), run("head_only", 0)])
    suite, overview = site_pages(store, tmp_path / "site")
    assert "No rank: LoRA (one seed: nothing is known of its spread)." in suite
    assert "no rank: one seed: nothing is known of its spread" in suite
    assert "no rank: a control" in suite
    assert "First FT" in overview


def test_a_row_with_one_seed_is_shown_without_a_rank_and_says_why(store: Store) -> None:
    view = board(store, [*(run("ft", seed) for seed in range(3)), run("lora", 0)])
    assert view.main is not None
    found = board_standings(StoredPredictions(store), view, view.main)
    assert found["ft"].rank == RankRange(1, 1)
    assert unranked(view.main, found) == ["No rank: LoRA (one seed: nothing is known of its spread)."]
    assert unranked(view.main, found)[0] in leaderboard_markdown(view, view.main, found)


def test_runs_on_other_test_rows_are_not_compared(store: Store) -> None:
    others = [run("lora", seed, ids="other") for seed in range(2)]
    view = board(store, [*(run("ft", seed) for seed in range(3)), *others])
    assert view.main is not None
    found = board_standings(StoredPredictions(store), view, view.main)
    assert "on other test rows" in found["lora"].reason
    assert found["ft"].rank == RankRange(1, 1)


def test_rows_without_predictions_scores_or_runs_have_no_rank(store: Store) -> None:
    view = board(store, [dataclasses.replace(run("ft", seed), predictions=[]) for seed in range(2)])
    assert view.main is not None
    found = board_standings(StoredPredictions(store), view, view.main)
    assert found["ft"].rank is None
    assert "no stored predictions" in found["ft"].reason
    missing = standings(StoredPredictions(store), [], ["ft"], ["mrpc", "rte"])
    assert missing["ft"].reason == "no score on 2 of 2 tasks"
    assert standings(StoredPredictions(store), [], ["ft"], ["mrpc"])["ft"].reason == "no score"
