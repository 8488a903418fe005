"""What the pages say: runs, tasks, methods, pairs, failures, stacks, budgets; and what becomes of awkward databases."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from factories import METHODS, PROVENANCE, fill, make_record, make_suite
from report_support import MAJORITY, TASKS, Page, fill_example, make_row, make_run

from benchmarks._generated import Shape, add_one, generate
from harness.errors import UserError
from harness.predictions import StoredPredictions
from harness.records import Member, RunRecord, SuiteInfo
from harness.schema import RUNS, SCHEMA_VERSION
from harness.store import open_store
from reports import pages, wide
from reports.agreement import Answers, RowAnswers, agreement
from reports.comparisons import MOST_ROWS, compare
from reports.efficiency import budget_panels
from reports.judged import judge_board
from reports.rows import load_suite
from reports.site import build_site
from reports.views import suite_view

SHAPE = Shape(suites=2, methods=4, tasks=2, seeds=7)  # 112 runs, two of which have failed


def built(database: Path, folder: Path) -> dict[str, str]:
    with open_store(str(database), create=False) as store:
        build_site(store, folder)
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.html")}


def site_of(folder: Path, records: list[RunRecord]) -> dict[str, str]:
    """The site of a suite `glue-tiny` of these runs, rows labelled by method."""
    with open_store(str(folder / "board.db")) as store:
        store.describe((*METHODS, MAJORITY), TASKS)
        store.set_suite(make_suite([record.trial for record in records]))
        for record in records:
            store.add_run(record)
    return built(folder / "board.db", folder / "site")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "board.db"
    generate(path, SHAPE)
    return path


@pytest.fixture(scope="module")
def site(database: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return built(database, tmp_path_factory.mktemp("built"))


# ---------------------------------------------------------------------------------------- overview


def test_the_overview_shows_podiums_plot_and_newest_runs(site: dict[str, str]) -> None:
    page = Page(site["index.html"])
    assert "110 runs in 2 suites" in page.text
    assert site["index.html"].count('<article class="card">') == 2
    assert site["index.html"].count("<svg xmlns=") == 1
    newest = re.findall(r'href="runs/([0-9a-f]+).html"', site["index.html"])
    assert newest == [f"{number:012x}" for number in range(SHAPE.runs - 1, SHAPE.runs - 1 - 12, -1)]


def test_a_podium_names_all_rows_that_may_be_first(tmp_path: Path) -> None:
    generate(tmp_path / "board.db", Shape(1, 2, 1, 2))  # one contender, one control
    text = Page(built(tmp_path / "board.db", tmp_path / "site")["index.html"]).text
    assert "First Method 0" in text
    assert "rank 1" in text


# ------------------------------------------------------------------------------------ runs, failures


def test_every_run_has_a_page_with_all_that_made_it(site: dict[str, str]) -> None:
    assert sum(name.startswith("runs/") for name in site) == SHAPE.runs
    text = Page(site["runs/000000000003.html"]).text
    for part in ("Method 0 on Task 0, seed 3", "learning_rate 0.001", "train_flops 1.00 T", "commit 0000000000"):
        assert part in text
    assert "python -m harness run --suite suite000 --method method0 --task task0 --seed 3" in text
    assert "python -m harness export 000000000003 DIR" in text
    assert site["runs/000000000003.html"].count('role="img"') == 2  # scores, training loss


def test_a_number_in_a_table_leads_to_its_runs(site: dict[str, str]) -> None:
    suite, row = site["suites/suite000.html"], site["suites/suite000/method1.html"]
    assert 'href="../suites/suite000/method1.html#main.task1"' in suite
    assert 'id="main.task1"' in row
    assert 'href="../../runs/000000000015.html"' in row


def test_failures_are_listed_with_reasons_and_whether_they_were_mended(tmp_path: Path) -> None:
    failed = make_run("lora", "mrpc", 0, 0.8, status="oom", reason="out of memory", scores=[], traceback="Traceback: x")
    later = make_record(method="lora", task="mrpc", seed=0, minutes=5, predictions=[])
    other = make_run("ft", "mrpc", 0, 0.8, status="diverged", reason="the loss is nan", scores=[])
    site = site_of(tmp_path, [failed, later, other])
    text = Page(site["failures.html"]).text
    assert "2 runs did not end well" in text
    assert re.search(r"oom out of memory yes", text)
    assert re.search(r"diverged the loss is nan no", text)
    runs = {name: Page(page).text for name, page in site.items() if name.startswith("runs/")}
    assert any("Traceback: x" in text and "Other runs of this trial" in text for text in runs.values())


def test_a_long_table_goes_on_on_further_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide, "LINES", 2)
    records = [
        make_record(task="mrpc", seed=seed, minutes=seed, status="failed", reason=f"no {seed}", scores=[])
        for seed in range(5)
    ]
    site = site_of(tmp_path, records)
    assert {"failures.html", "failures-2.html", "failures-3.html"} <= set(site)
    assert "no 0" in site["failures-3.html"]
    assert 'href="failures.html"' in site["failures-3.html"]


# ------------------------------------------------------------------------------------ tasks, methods


def test_a_task_has_every_row_of_every_suite_with_its_interval(site: dict[str, str]) -> None:
    page = site["tasks/task1-v1.html"]
    assert page.count("<tbody>") == 1
    assert page.count('<tr class="control">') == 2
    assert len(re.findall(r"\d\d\.\d to \d\d\.\d", page)) == 2 * 3  # contenders; controls compete for nothing
    assert "accuracy" in Page(page).text
    assert "made up" in Page(page).text


def test_a_method_has_formula_paper_ranks_results_and_what_to_type(site: dict[str, str]) -> None:
    text = Page(site["methods/method1.html"]).text
    for part in ("W + B A", "Nobody 2026", "Where it ranks", "Suite 0", "Suite 1", "Every result"):
        assert part in text
    assert re.search(r"python -m harness export [0-9a-f]{12} DIR", text)


# -------------------------------------------------------------------------------------------- pairs


def test_pairs_are_those_of_the_statistics(database: Path) -> None:
    with open_store(str(database), create=False) as store:
        view = suite_view(load_suite(store, "suite000"))
        assert view.main is not None
        judged = judge_board(StoredPredictions(store), view, view.main)
        found = compare(StoredPredictions(store), view.main, judged, ["task0", "task1"])
    assert found is not None
    assert len(found.pairs) == 3
    for pair in found.pairs:
        index = judged.table.pairs.index(
            (judged.labels.index(pair.first.label), judged.labels.index(pair.second.label))
        )
        assert pair.average.value == pytest.approx(judged.table.differences.value[index])
        assert pair.average.p == pytest.approx(judged.table.adjusted[index])
        assert pair.average.low < pair.average.value < pair.average.high  # type: ignore[operator]
        mean = np.mean([item.difference.value for item in pair.tasks])
        assert pair.average.value == pytest.approx(mean)


def test_answers_of_a_pair_are_counted_example_by_example() -> None:
    rows = {
        "a": RowAnswers((0, 1), np.array([[1, 1, 0, 0, 1], [1, 1, 1, 0, 0]], bool)),
        "b": RowAnswers(
            (0, 1, 2), np.array([[1, 0, 1, 0, 0], [1, 0, 1, 1, 0], [1, 1, 1, 1, 1]], bool)
        ),  # one more seed
    }
    found = agreement(Answers(("p", "q", "r", "s", "t"), rows), "a", "b")
    assert found is not None
    assert (found.seeds, found.both, found.first_only, found.second_only, found.neither) == (2, 3, 3, 2, 2)
    assert (found.always_first, found.always_second) == (("q",), ())
    assert agreement(Answers((), {}), "a", "b") is None


def test_a_pairs_page_counts_what_the_store_holds(database: Path, site: dict[str, str]) -> None:
    with open_store(str(database), create=False) as store:
        rows = [row for row in load_suite(store, "suite000").rows if row.task == "task0" and row.status == "ok"]
        counts = np.zeros((2, 2), int)
        for first, second in itertools.product(rows, rows):
            if (first.label, second.label) == ("method0", "method1") and first.seed == second.seed:
                kept = [store.predictions(run.run_id or "", "test", run.epoch_selected) for run in (first, second)]
                for label, one, other in zip(kept[0].labels, kept[0].values, kept[1].values, strict=True):
                    counts[int(one == label), int(other == label)] += 1
    (name,) = (
        n for n in site if re.search(r"suite000/compare/.*method0--method1|suite000/compare/method1--method0", n)
    )
    text = Page(site[name]).text
    both, neither = f"{counts[1, 1]:,}", f"{counts[0, 0]:,}"
    one, other = (counts[1, 0], counts[0, 1]) if "method0--method1" in name else (counts[0, 1], counts[1, 0])
    assert f"Task 0 {both} {one:,} {other:,} {neither}" in text


def test_pages_of_pairs_stay_few(tmp_path: Path) -> None:
    generate(tmp_path / "board.db", Shape(1, MOST_ROWS + 3, 1, 2))
    site = built(tmp_path / "board.db", tmp_path / "site")
    assert sum("/compare/" in name for name in site) == MOST_ROWS * (MOST_ROWS - 1) // 2
    assert "2 rows further down the table are left out" in Page(site["suites/suite000/compare.html"]).text


# ------------------------------------------------------------------------------- fronts, budgets, curves


def test_probabilities_of_being_on_the_front_are_on_the_suites_page(site: dict[str, str]) -> None:
    page = site["suites/suite000.html"]
    table = page[page.index("How sure it is that no other row") :]
    assert table[: table.index("</table>")].count(" %</td>") == 3 * 4


def test_a_budget_is_worth_the_mean_over_all_subsets_of_trials() -> None:
    tried = {"lora#1": (0.70, 0.60), "lora#2": (0.72, 0.58), "lora#3": (0.65, 0.66)}
    rows = [
        make_row(label=label, select_selected=select, score_selected=score) for label, (select, score) in tried.items()
    ]
    (panel,) = budget_panels([*rows, make_row(label="plain")])
    (curve,) = panel.curves
    expected = [np.mean([max(some)[1] for some in itertools.combinations(tried.values(), size)]) for size in (1, 2, 3)]
    assert curve.expected == pytest.approx(expected)
    assert (curve.title, list(panel.budgets)) == ("LORA", [1, 2, 3])


def test_a_tuned_suite_shows_what_its_search_was_worth(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "board.db")) as store:
        fill_example(store)
        candidates = [make_run("lora", "mrpc", 90 + number, 0.7 + 0.02 * number) for number in range(3)]
        members = [Member("main", f"lora#{n + 1}", record.trial) for n, record in enumerate(candidates)]
        store.set_suite(SuiteInfo("glue-tiny.search", "The search", "", "selected", tuple(members)))
        for record in candidates:
            store.add_run(record)
    site = built(tmp_path / "board.db", tmp_path / "site")
    for name in ("suites/glue-tiny.html", next(n for n in site if "search" in n and n.count("/") == 1)):
        assert "What a tuning budget is worth" in Page(site[name]).text
    assert "The search" in Page(site["suites/glue-tiny.html"]).text


def test_default_and_tuned_rows_can_be_shown_apart(tmp_path: Path) -> None:
    records = [make_run("lora", "mrpc", seed, 0.8) for seed in range(4)]
    labels = ["lora", "lora", "lora-tuned", "lora-tuned"]
    with open_store(str(tmp_path / "board.db")) as store:
        store.describe((*METHODS, MAJORITY), TASKS)
        members = tuple(Member("main", label, record.trial) for label, record in zip(labels, records, strict=True))
        store.set_suite(SuiteInfo("glue-tiny", "GLUE", "", "selected", members))
        for record in records:
            store.add_run(record)
    page = built(tmp_path / "board.db", tmp_path / "site")["suites/glue-tiny.html"]
    assert page.count('<tr class="tuned">') == page.count('<tr class="default">') == 3  # a table for each protocol
    assert 'class="show-tuned"' in page


def test_tables_that_are_too_large_for_one_page_are_split(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MOST_CELLS", 10)
    site = built(database, tmp_path / "site")
    assert site["suites/suite000.html"].count("Score: selected epoch") == 1
    assert "Score: last epoch" not in site["suites/suite000.html"]
    assert 'href="../suites/suite000/tables/last.html"' in site["suites/suite000.html"]
    assert "Score: last epoch" in site["suites/suite000/tables/last.html"]


# -------------------------------------------------------------------------------- awkward databases


def test_two_stacks_are_told_apart(tmp_path: Path) -> None:
    other = {**PROVENANCE, "stack": {"device": "cuda", "torch": "2.13.0"}}
    records = [make_run("lora", "mrpc", seed, 0.8) for seed in range(2)]
    records.append(make_run("lora", "mrpc", 2, 0.8, provenance=other))
    site = site_of(tmp_path, records)
    text = Page(site["suites/glue-tiny.html"]).text
    assert "Runs come from 2 stacks" in text
    assert "Costs by stack" in text
    stacks = Page(site["stacks.html"])
    assert "device cuda" in stacks.text
    assert len(stacks.ids) == 1 + 2  # the content, and each stack
    assert stacks.text.count("not run here") == 2


def test_seconds_on_different_stacks_are_shown_as_ratios_to_the_canary(tmp_path: Path) -> None:
    other = {**PROVENANCE, "stack": {"device": "cuda", "torch": "2.13.0"}}
    records = [make_run("lora", "mrpc", seed, 0.8) for seed in range(2)]  # 30 and 31 s
    records.append(make_run("lora", "mrpc", 2, 0.8, provenance=other))  # 32 s
    canary = make_run("ft", "mrpc", 0, 0.8, provenance=other)  # 30 s there, and never run on the first stack
    with open_store(str(tmp_path / "board.db")) as store:
        fill(store, records)
        fill(store, [canary], "canary")
        build_site(store, tmp_path / "site")
    text = Page((tmp_path / "site" / "suites" / "glue-tiny.html").read_text()).text
    assert "LORA 32.0 1.07 400 MB" in " ".join(text.replace("LoRA", "LORA").split())
    stacks = Page((tmp_path / "site" / "stacks.html").read_text()).text
    assert "30.0 s of training" in stacks
    assert stacks.count("not run here") == 1


def test_scores_that_are_not_finite_make_a_diverged_run_that_is_shown(tmp_path: Path) -> None:
    bad = make_run("lora", "mrpc", 0, float("nan"))
    site = site_of(tmp_path, [bad, *(make_run("ft", "mrpc", seed, 0.8) for seed in range(2))])
    assert "diverged" in Page(site["failures.html"]).text
    (run,) = (page for name, page in site.items() if name.startswith("runs/") and "diverged" in page)
    assert "NaN" not in Page(run).text.replace("nan.", "")
    assert "1 failed" in Page(site["suites/glue-tiny.html"]).text


def test_a_task_that_some_rows_lack_leaves_them_without_average_and_rank(tmp_path: Path) -> None:
    whole = [make_run("ft", task, seed, 0.8) for task in ("mrpc", "rte") for seed in range(2)]
    site = site_of(tmp_path, [*whole, *(make_run("lora", "mrpc", seed, 0.9) for seed in range(2))])
    text = Page(site["suites/glue-tiny.html"]).text
    assert "1 of 2 tasks" in text
    assert "No rank: LoRA (no score on 1 of 2 tasks)" in text
    assert "LoRA" not in Page(site["index.html"]).text.split("Newest runs")[0].split("Score over")[0]
    assert "1 of 2 tasks" in Page(site["methods/lora.html"]).text


def test_a_run_outside_every_suite_has_a_page(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "board.db")) as store:
        store.describe((*METHODS, MAJORITY), TASKS)
        run_id = store.add_run(make_run("lora", "mrpc", 0, 0.8))
    site = built(tmp_path / "board.db", tmp_path / "site")
    assert "In no suite now" in Page(site[f"runs/{run_id}.html"]).text


def test_labels_that_look_alike_have_pages_of_their_own(tmp_path: Path) -> None:
    labels = ["a/b", "a b", "../a-b", "con", "compare", "\u202ea", "A-B"]
    records = [make_run("lora", "mrpc", seed, 0.8) for seed in range(len(labels))]
    with open_store(str(tmp_path / "board.db")) as store:
        store.describe((*METHODS, MAJORITY), TASKS)
        members = tuple(Member("main", label, record.trial) for label, record in zip(labels, records, strict=True))
        store.set_suite(SuiteInfo("glue-tiny", "GLUE", "", "selected", members))
        for record in records:
            store.add_run(record)
    site = built(tmp_path / "board.db", tmp_path / "site")
    rows = [name for name in site if re.fullmatch(r"suites/glue-tiny/[^/]+\.html", name) and "compare.html" not in name]
    assert len(rows) == len(labels)
    assert all((tmp_path / "site" / name).resolve().is_relative_to(tmp_path / "site") for name in site)


def test_a_database_of_a_newer_harness_is_refused_in_one_line(database: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer.db"
    newer.write_bytes(database.read_bytes())
    with open_store(str(newer)) as store, store.database.writing() as connection:
        connection.exec_driver_sql(f"UPDATE harness_schema SET version_num = '{SCHEMA_VERSION + 1:04d}'")
    with pytest.raises(UserError, match="written by a newer harness"):
        open_store(str(newer), create=False)


def test_one_more_run_of_a_trial_takes_the_place_of_the_last(database: Path, tmp_path: Path) -> None:
    copy = tmp_path / "board.db"
    copy.write_bytes(database.read_bytes())
    add_one(copy, SHAPE)
    site = built(copy, tmp_path / "site")
    assert f"runs/{SHAPE.runs:012x}.html" in site["suites/suite000/method0.html"]
    assert "Other runs of this trial" in Page(site["runs/000000000000.html"]).text


def test_a_run_that_came_in_a_bundle_says_who_submitted_it(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "board.db")) as store:
        ours, theirs = fill(store, [make_record(seed=0), make_record(seed=1)])
        with store.database.writing() as connection:
            connection.execute(sa.update(RUNS).where(RUNS.c.id == theirs).values(origin="A. <b>Author</b>"))
    site = built(tmp_path / "board.db", tmp_path / "site")
    assert "Submitted by A. <b>Author</b>" in Page(site[f"runs/{theirs}.html"]).text
    assert "Submitted by" not in site[f"runs/{ours}.html"]


def test_a_cells_runs_are_summed_up_above_them(database: Path, site: dict[str, str]) -> None:
    with open_store(str(database), create=False) as store:
        view = suite_view(load_suite(store, "suite001"))
    scores = [row.score_selected for row in view.rows if (row.label, row.task) == ("method1", "task0")]
    known = [100 * score for score in scores if score is not None]
    text = f"{len(known)} seeds: mean {np.mean(known):.1f} ± {np.std(known, ddof=1):.1f} (95 %: "
    assert text in site["suites/suite001/method1.html"]
    middle = f"median {np.median(known):.1f}, from {min(known):.1f} to {max(known):.1f}, selected epoch."
    assert middle in site["suites/suite001/method1.html"]


def test_rows_over_all_tasks_stand_on_the_suites_page_and_are_defined(site: dict[str, str]) -> None:
    page = site["suites/suite000.html"]
    assert "Over all tasks and seeds" in page
    assert 'href="../about.html#interquartile-mean"' in page
    for anchor in ("average-rank", "interquartile-mean", "performance-profile"):
        assert f'id="{anchor}"' in site["about.html"]
