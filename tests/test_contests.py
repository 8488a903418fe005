"""Which rows of a suite compete, which pairs its runs leave open, and how many more seeds those need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from factories import METHODS, TASKS, make_record, make_scores, make_trial
from scipy import stats

from harness.commands.running import _print_pairs
from harness.contests import OpenPair, contests, open_pairs
from harness.plugins import Plugins, discover
from harness.records import Member, Predictions, RunRecord, SuiteInfo
from harness.store import Store, open_store
from harness.trial import Trial

EXAMPLES = 1000
LABELS = [0, 1] * (EXAMPLES // 2)


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return discover()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = open_store(str(tmp_path / "board.db"))
    opened.describe(METHODS, TASKS)
    return opened


def suite(*trials: Trial, grid: str = "main") -> SuiteInfo:
    return SuiteInfo("tiny", "", "", "last", tuple(Member(grid, trial.method, trial) for trial in trials))


def accuracy_run(trial: Trial, wrong: int) -> RunRecord:
    """A run on both test sets of MNLI that is wrong on the first rows of each."""
    values = [1 - label if row < wrong else label for row, label in enumerate(LABELS)]
    ids = [str(row) for row in range(EXAMPLES)]
    scores = [
        score
        for split in ("matched", "mismatched")
        for score in make_scores([0.5], [1 - wrong / EXAMPLES], "accuracy", split)
        if score.split == split
    ]
    kept = [Predictions(split, 1, ids, LABELS, values) for split in ("matched", "mismatched")]
    return make_record(trial=trial, scores=scores, predictions=kept)


def filled(store: Store, errors: dict[str, list[int]]) -> SuiteInfo:
    """A suite whose rows are wrong on so many test rows, seed by seed."""
    wrong = {
        make_trial(task="mnli", method=method, seed=seed): count
        for method, counts in errors.items()
        for seed, count in enumerate(counts)
    }
    info = suite(*wrong)
    store.set_suite(info)
    for trial, count in wrong.items():
        store.add_run(accuracy_run(trial, count))
    return info


def test_contenders_of_a_table_compete_controls_and_curves_do_not(plugins: Plugins) -> None:
    trials = [make_trial(method=name, seed=seed) for name in ("lora", "ft", "head_only") for seed in (0, 1)]
    (found,) = contests(suite(*trials), plugins)
    assert (found.grid, found.rows, found.tasks) == ("main", ("lora", "ft"), ("mrpc",))
    assert [member.trial.seed for member in found.members["ft", "mrpc"]] == [0, 1]
    curve = [make_trial(method=name, train_size=size) for name in ("lora", "ft") for size in (100, 0)]
    assert contests(suite(*curve), plugins) == []
    assert contests(suite(make_trial(), make_trial(method="head_only")), plugins) == []


def test_open_pairs_tell_the_seeds_that_are_expected_to_separate_them(store: Store, plugins: Plugins) -> None:
    """Every row is wrong on the first rows, so that the test set's own error is small beside that of the seeds."""
    errors = {"lora": [200, 260, 230, 215], "ft": [180, 215, 205, 207]}
    info = filled(store, errors)
    gaps = (np.array(errors["lora"]) - np.array(errors["ft"])) / EXAMPLES
    assert stats.ttest_1samp(gaps, 0).pvalue > 0.05
    (pair,) = open_pairs(store, info, plugins)
    assert (pair.grid, pair.first, pair.second) == ("main", "lora", "ft")
    assert pair.seeds is not None
    by_seeds_alone = next(
        n for n in range(4, 100) if 2 * stats.t.sf(gaps.mean() / (gaps.std(ddof=1) / np.sqrt(n)), n - 1) <= 0.05
    )
    assert by_seeds_alone - 4 <= pair.seeds <= by_seeds_alone - 4 + 2


def test_separated_rows_a_single_seed_and_a_new_suite_leave_no_pair_open(store: Store, plugins: Plugins) -> None:
    clear = {"lora": [400, 402, 401], "ft": [200, 201, 203]}
    assert open_pairs(store, filled(store, clear), plugins) == []
    assert open_pairs(store, SuiteInfo("other", "", "", "last", ()), plugins) == []
    members = suite(*(make_trial(task="mnli", method=name) for name in clear)).members
    once = SuiteInfo("once", "", "", "last", members)
    store.set_suite(once)
    assert open_pairs(store, once, plugins) == []


def test_a_plan_names_the_nearest_pairs_and_counts_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [OpenPair("main", "a", other, seeds) for other, seeds in zip("bcdef", (1, 3, 4, 9, None), strict=True)]
    _print_pairs(pairs)
    assert capsys.readouterr().out.splitlines() == [
        "about 1 more seed separates a from b (main).",
        "about 3 more seeds separate a from c (main).",
        "about 4 more seeds separate a from d (main).",
        "2 more pairs are not separated; no number of seeds is expected to separate 1 of them.",
    ]
    _print_pairs(pairs[-1:])
    assert capsys.readouterr().out == (
        "1 pair is not separated; no number of seeds is expected to separate 1 of them.\n"
    )
    _print_pairs([])
    assert capsys.readouterr().out == ""
