"""Derived scores: which epoch counts under which protocol, worked out by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from factories import METHODS, TASKS, fill, make_record, make_scores, make_suite, make_trial
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UserError
from harness.protocols import PROTOCOLS, Scored, last_epoch, optimistic_epoch, selected_epoch
from harness.records import Score
from harness.scoring import results, scores
from harness.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "leaderboard.db")) as opened:
        yield opened


def row(store: Store) -> pd.Series:
    frame = results(store)
    assert len(frame) == 1
    return frame.iloc[0]


def test_the_three_protocols_choose_their_epochs(store: Store) -> None:
    fill(store, [make_record(scores=make_scores(select=[0.7, 0.8, 0.6], test=[0.95, 0.85, 0.75]))])
    found = row(store)
    assert (found["score_last"], found["epoch_last"]) == (0.75, 3)
    assert (found["score_selected"], found["epoch_selected"]) == (0.85, 2)
    assert (found["score_optimistic"], found["epoch_optimistic"]) == (0.95, 1)
    assert found["metric"] == "f1"


def test_of_equal_epochs_the_earliest_is_chosen(store: Store) -> None:
    fill(store, [make_record(scores=make_scores(select=[0.5, 0.8, 0.8], test=[0.6, 0.7, 0.7]))])
    assert (row(store)["epoch_selected"], row(store)["epoch_optimistic"]) == (2, 2)


def test_the_score_is_the_mean_over_the_test_splits(store: Store) -> None:
    both = make_scores([0.5, 0.6], [0.70, 0.80], "accuracy", "matched")
    both += [Score(1, "mismatched", "accuracy", 0.9), Score(2, "mismatched", "accuracy", 0.6)]
    fill(store, [make_record(task="mnli", scores=both)])
    found = row(store)
    assert found["score_last"] == pytest.approx((0.80 + 0.60) / 2)
    assert found["score_optimistic"] == pytest.approx((0.70 + 0.90) / 2)


def test_an_epoch_that_lacks_a_test_split_has_no_score(store: Store) -> None:
    fill(store, [make_record(task="mnli", scores=make_scores([0.5], [0.7], "accuracy", "matched"))])
    assert math.isnan(row(store)["score_last"])
    assert pd.isna(row(store)["epoch_last"])


def test_only_the_first_metric_chooses(store: Store) -> None:
    misleading = make_scores(select=[0.9, 0.1], test=[0.2, 0.3], metric="accuracy")
    fill(store, [make_record(scores=make_scores(select=[0.1, 0.9], test=[0.5, 0.6]) + misleading)])
    assert (row(store)["epoch_selected"], row(store)["score_selected"]) == (2, 0.6)


def test_epoch_zero_alone_is_the_score_of_every_protocol(store: Store) -> None:
    fill(store, [make_record(scores=[Score(0, "test", "f1", 0.81)])])
    for protocol in PROTOCOLS:
        assert (row(store)[f"score_{protocol}"], row(store)[f"epoch_{protocol}"]) == (0.81, 0)


def test_epoch_zero_of_a_trained_run_is_never_chosen(store: Store) -> None:
    before = [Score(0, "select", "f1", 0.99), Score(0, "test", "f1", 0.99)]
    fill(store, [make_record(scores=before + make_scores(select=[0.4, 0.5], test=[0.6, 0.7]))])
    for protocol in PROTOCOLS:
        assert (row(store)[f"score_{protocol}"], row(store)[f"epoch_{protocol}"]) == (0.7, 2)


def test_without_select_scores_nothing_is_selected(store: Store) -> None:
    fill(store, [make_record(scores=make_scores(select=[], test=[0.6, 0.7]))])
    assert math.isnan(row(store)["score_selected"])
    assert row(store)["score_last"] == 0.7


def test_the_latest_ok_run_is_shown_even_if_a_later_one_failed(store: Store) -> None:
    runs = [
        make_record(scores=make_scores([0.5], [0.5])),
        make_record(scores=make_scores([0.6], [0.6]), minutes=1),
        make_record(scores=[], status="failed", reason="power", minutes=2),
    ]
    ids = fill(store, runs)
    assert (row(store)["run_id"], row(store)["status"], row(store)["score_last"]) == (ids[1], "ok", 0.6)


def test_without_an_ok_run_the_latest_failure_is_shown_without_score(store: Store) -> None:
    runs = [
        make_record(status="failed", reason="first"),
        make_record(status="oom", reason="second", parameters=None, minutes=1),
    ]
    fill(store, runs)
    found = row(store)
    assert (found["status"], found["reason"]) == ("oom", "second")
    assert math.isnan(found["score_last"])
    assert pd.isna(found["adapter_params"])


def test_a_trial_without_runs_is_a_row_without_run(store: Store) -> None:
    fill(store, [make_record()])
    store.set_suite(make_suite([make_trial(seed=1)]))
    frame = results(store, "glue-tiny")
    assert frame["seed"].tolist() == [0, 1]
    assert frame["run_id"].isna().tolist() == [False, True]
    assert frame["status"].isna().tolist() == [False, True]


def test_rows_come_in_the_order_of_the_suite_and_carry_titles_counts_and_costs(store: Store) -> None:
    fill(store, [make_record(seed=2, method="lora"), make_record(seed=1, method="head_only"), make_record(method="ft")])
    frame = results(store)
    assert frame["label"].tolist() == ["lora", "head_only", "ft"]
    assert frame["method_title"].tolist() == ["LoRA", "Head only", "FT"]
    assert frame["control"].tolist() == [False, True, False]
    first = frame.iloc[0]
    assert (first["adapter_params"], first["head_params"], first["trainable_params"]) == (24_576, 1_538, 26_114)
    assert (first["train_seconds"], first["peak_memory_bytes"]) == (31.5, 412_000_000)
    assert first["parameters"] == '{"alpha":16.0,"r":8,"targets":"q,v"}'


def test_a_suite_is_filtered_and_an_unknown_one_gives_the_nearest_name(store: Store) -> None:
    fill(store, [make_record()], "one")
    fill(store, [make_record(seed=1)], "other")
    assert results(store)["suite"].tolist() == ["one", "other"]
    assert results(store, "other")["seed"].tolist() == [1]
    with pytest.raises(UserError, match=r"unknown suite 'othr' in .*: did you mean 'other'"):
        results(store, "othr")
    with pytest.raises(UserError, match="unknown suite"):
        scores(store, "othr")


def test_the_long_form_has_every_metric_at_the_chosen_epochs(store: Store) -> None:
    extra = make_scores(select=[0.1, 0.2], test=[0.3, 0.4], metric="accuracy")
    run_id = fill(store, [make_record(scores=make_scores(select=[0.9, 0.8], test=[0.5, 0.6]) + extra)])[0]
    long = scores(store)
    assert list(long.columns) == ["run_id", "protocol", "epoch", "split", "metric", "value"]
    assert set(long["run_id"]) == {run_id}
    assert long.groupby("protocol", sort=False)["epoch"].first().to_dict() == {
        "last": 2,
        "selected": 1,
        "optimistic": 2,
    }
    tests = long[long["split"] == "test"].set_index(["protocol", "metric"])["value"]
    assert tests["last", "accuracy"] == 0.4
    assert tests["selected", "accuracy"] == 0.3
    assert tests["selected", "f1"] == 0.5


def test_the_long_form_agrees_with_the_rows(store: Store) -> None:
    records = [make_record(seed=seed, scores=make_scores([0.1, 0.2], [seed / 10, 0.5])) for seed in range(5)]
    fill(store, records)
    long = scores(store)
    tests = long[(long["split"] == "test") & (long["metric"] == "f1")]
    frame = results(store).set_index("run_id")
    for protocol in PROTOCOLS:
        values = tests[tests["protocol"] == protocol].set_index("run_id")["value"]
        assert values.to_dict() == frame[f"score_{protocol}"].to_dict()


@pytest.mark.parametrize("described", [False, True])
def test_an_empty_database_gives_empty_frames_with_all_columns(store: Store, described: bool) -> None:
    if described:
        store.describe(METHODS, TASKS)
    frame = results(store)
    assert len(frame) == 0
    assert {"suite", "run_id", "status", "score_last", "epoch_selected", "train_seconds"} <= set(frame.columns)
    assert scores(store).empty


def test_types_do_not_depend_on_what_was_measured(store: Store) -> None:
    fill(store, [make_record()])
    known = results(store).dtypes
    fill(store, [dataclasses.replace(make_record(seed=1), parameters=None)], "second")
    unknown = results(store, "second").dtypes
    assert known.equals(unknown)
    assert (known["adapter_bytes"], known["load_seconds"], known["git_dirty"]) == ("Int64", "float64", "boolean")


shares = st.sampled_from([0.0, 0.25, 0.5, 1.0])
courses = st.dictionaries(st.integers(1, 9), st.tuples(shares, st.none() | shares), min_size=1)


@given(courses)
def test_a_protocol_chooses_the_earliest_of_the_best_whatever_the_order(found: dict[int, tuple[float, Any]]) -> None:
    course = [Scored(epoch, score, select) for epoch, (score, select) in found.items()]
    assert last_epoch(course) == max(course)
    best = optimistic_epoch(course)
    assert best is not None
    assert not any((point.score, -point.epoch) > (best.score, -best.epoch) for point in course)
    selected, known = selected_epoch(course), [point for point in course if point.select is not None]
    if len(course) == 1 or not known:
        assert selected == (course[0] if len(course) == 1 else None)
    else:
        assert selected in known
        assert not any((point.select, -point.epoch) > (selected.select, -selected.epoch) for point in known)


def test_every_protocol_is_defined_in_words() -> None:
    assert list(PROTOCOLS) == ["last", "selected", "optimistic"]
    assert all(choose.__doc__ for choose in PROTOCOLS.values())
