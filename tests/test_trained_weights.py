"""Taking trained weights apart: the mathematics against torch.linalg.svd, the rest on runs of the starter encoder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from test_export import run_of, trial_of, wanted_of
from torch import Tensor
from typer.testing import CliRunner

from harness.analyses.spectra import PARTS, Factors, Part
from harness.analyses.trained_weights import Answer, Question, Subject, retention, subspaces
from harness.cli import app
from harness.errors import UserError
from harness.export.trained import rebuild
from harness.plugins import discover, method_info, task_info
from harness.records import Member, RunRecord, SuiteInfo
from harness.settings import Settings
from harness.store import open_store

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
FRACTIONS = st.floats(0, 1)


def matrix(shape: tuple[int, int], seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@hypothesis_settings(deadline=None, max_examples=60)
@given(SHAPES, FRACTIONS, st.sampled_from(PARTS), st.integers(0, 99))
def test_what_is_retained_lacks_exactly_the_other_singular_values(
    shape: tuple[int, int], fraction: float, part: Part, seed: int
) -> None:
    weight = matrix(shape, seed)
    factors = Factors.of(weight)
    window = factors.window(part, fraction)
    kept = factors.retained(window)
    sizes = torch.linalg.svdvals(weight)
    inside = torch.zeros(min(shape), dtype=torch.bool)
    inside[window] = True
    assert int(inside.sum()) == round(fraction * min(shape))
    expected = sizes[inside].sort(descending=True).values
    torch.testing.assert_close(torch.linalg.svdvals(kept)[: len(expected)], expected)
    assert float((weight - kept).square().sum()) == pytest.approx(float(sizes[~inside].square().sum()), abs=1e-9)
    if part == "top" and inside.any():
        assert bool((sizes[inside].min() >= sizes[~inside]).all())
    if part == "bottom" and inside.any():
        assert bool((sizes[inside].max() <= sizes[~inside]).all())


@hypothesis_settings(deadline=None, max_examples=60)
@given(SHAPES, FRACTIONS, st.sampled_from(PARTS), st.integers(0, 99))
def test_a_projected_update_is_the_nearest_one_in_the_subspace(
    shape: tuple[int, int], fraction: float, part: Part, seed: int
) -> None:
    weight, update = matrix(shape, seed), matrix(shape, seed + 1)
    factors = Factors.of(weight)
    window = factors.window(part, fraction)
    projected = factors.projected(update, window)
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    pairs = [left[:, [i]] @ right[[j]] for i in range(min(shape))[window] for j in range(min(shape))[window]]
    brute = sum(((update * pair).sum() * pair for pair in pairs), torch.zeros_like(update))
    torch.testing.assert_close(projected, brute)
    torch.testing.assert_close(factors.projected(projected, window), projected)


def test_the_middle_lies_in_the_middle() -> None:
    factors = Factors.of(torch.diag(torch.arange(10, 0, -1.0)))
    assert [factors.window(part, 0.4) for part in PARTS] == [slice(0, 4), slice(3, 7), slice(6, 10)]


def record_of(method: str, settings: Settings, **parameters: Any) -> RunRecord:
    return run_of(trial_of(settings, method, parameters), settings)


def subject_of(record: RunRecord, settings: Settings) -> Subject:
    return Subject.of(rebuild(wanted_of(record), settings))


@pytest.fixture
def keeping(settings: Settings) -> Settings:
    return dataclasses.replace(settings, keep_adapters=True)


def by_place(answers: Any) -> dict[tuple[str, str, float], Answer]:
    return {(item.family, item.part, item.fraction): item for item in answers}


def test_keeping_all_of_a_weight_scores_as_the_run_and_nothing_as_zeros(keeping: Settings) -> None:
    record = record_of("ft", keeping)
    subject = subject_of(record, keeping)
    weights = subject.weights("q", "all") | subject.weights("down", "all")
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    answers = by_place(retention(subject, Question(("q", "down"), (0.0, 0.3, 1.0))))
    assert all(torch.equal(weights[name], before[name]) for name in before)
    (stored,) = {score.value for score in record.scores if (score.split, score.metric) == ("test", "accuracy")}
    assert subject.score == stored
    for part in PARTS:
        assert answers["down", part, 1.0].score == subject.score
        assert answers["down", part, 1.0].energy == pytest.approx(1, abs=1e-5)
        assert answers["down", part, 0.0].energy == 0
    shares = [answers["q", part, 0.3].energy for part in PARTS]
    assert shares == sorted(shares, reverse=True)
    with torch.no_grad():
        for weight in subject.weights("down", "all").values():
            weight.zero_()
    assert {answers["down", part, 0.0].score for part in PARTS} == {subject.measure()}


def test_the_update_of_lora_xs_lies_in_the_top_directions_that_it_learned_in(keeping: Settings) -> None:
    record = record_of("lora_xs", keeping, r=32, std=1e-2)
    answers = by_place(subspaces(subject_of(record, keeping), Question(("q",), (0.25, 0.75))))
    quarter = [answers["q", part, 0.25].energy for part in PARTS]
    assert quarter == pytest.approx([1, 0, 0], abs=1e-4)
    assert answers["q", "bottom", 0.75].energy == pytest.approx(0, abs=1e-4)
    whole = subject_of(record, keeping).score
    assert answers["q", "top", 0.25].score == pytest.approx(whole, abs=1 / 400)


def test_weights_that_were_not_trained_have_no_update(keeping: Settings) -> None:
    subject = subject_of(record_of("head_only", keeping), keeping)
    with pytest.raises(UserError, match=r"run 0123456789ab changed none of the maps 'q'"):
        next(subspaces(subject, Question(("q",), (0.5,))))


@pytest.mark.parametrize(
    ("question", "fault"),
    [
        (Question((), (0.5,)), "--targets is empty"),
        (Question(("q",), (1.5,)), "no share"),
        (Question(("q", "gate"), (0.5,)), "'gate' matches nothing"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(question: Question, fault: str, keeping: Settings) -> None:
    subject = subject_of(record_of("head_only", keeping), keeping)
    with pytest.raises(UserError, match=fault):
        next(retention(subject, question))


def test_the_commands_read_a_stored_run(keeping: Settings, tmp_path: Path) -> None:
    record, plugins = record_of("ft", keeping), discover()
    trial = record.trial
    with open_store(str(tmp_path / "a.db")) as store:
        store.describe([method_info(plugins.methods[trial.method])], [task_info(plugins.tasks[trial.task])])
        store.set_suite(SuiteInfo("tiny", "Tiny", "One run.", "selected", (Member("main", trial.method, trial),)))
        run_id = store.add_run(record)

    def invoke(*words: str) -> Any:
        places = ["--db", str(tmp_path / "a.db"), "--cache-root", str(keeping.cache_root), "--device", "cpu"]
        return CliRunner().invoke(app, ["analyse", *words, *places])

    said = json.loads(invoke("retention", run_id[:6], "--fraction", "1", "--json").stdout)
    assert (said["run"], said["metric"], said["agreement"]) == (run_id, "accuracy", 1.0)
    assert [(item["family"], item["part"], item["score"]) for item in said["answers"]] == [
        ("q", part, said["score"]) for part in PARTS
    ]
    table = invoke("subspaces", run_id[:6], "--targets", "q,v", "--fraction", "0.5").stdout.splitlines()
    assert [line.split()[:2] for line in table[-6:]] == [[family, part] for family in "qv" for part in PARTS]
    missing = invoke("retention", "ffffffffffff")
    assert (missing.exit_code, "no run in" in missing.output) == (2, True)
