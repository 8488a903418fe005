"""Batches in parts of similar length: every row once, the cheapest cut, the same training."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from test_runner import good, make

from harness import splitting
from harness.settings import Settings
from harness.splitting import by_length, pays_on
from harness.trial import Recipe

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def cost(parts: list[list[int]], lengths: list[int], overhead: float) -> float:
    return sum(len(part) * max(lengths[row] for row in part) + overhead for part in parts)


@hypothesis_settings(max_examples=40, deadline=None)
@given(LENGTHS, st.floats(0, 60))
def test_no_cut_of_the_sorted_rows_is_cheaper(lengths: list[int], overhead: float) -> None:
    parts = by_length(range(len(lengths)), lengths, overhead)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    every = []
    for count in range(len(lengths)):
        for places in itertools.combinations(range(1, len(lengths)), count):
            edges = [0, *places, len(lengths)]
            every.append([order[begin:end] for begin, end in itertools.pairwise(edges)])
    assert cost(parts, lengths, overhead) == pytest.approx(min(cost(cut, lengths, overhead) for cut in every))


def test_a_dear_start_keeps_the_batch_whole_and_a_free_one_leaves_no_padding() -> None:
    lengths = [9, 3, 5, 3, 9, 1]
    assert by_length(range(6), lengths, 1e9) == [[5, 1, 3, 2, 0, 4]]
    assert by_length(range(6), lengths, 0.01) == [[5], [1, 3], [2], [0, 4]]


def test_a_batch_is_cut_on_a_cpu_only() -> None:
    assert pays_on(torch.device("cpu"))
    assert not pays_on(torch.device("cuda"))


@pytest.mark.parametrize("task", ["paraphrase", "similarity", "arithmetic"])
def test_a_run_learns_the_same_from_parts(task: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(epochs=1, batch_size=8, length_pool=1, learning_rate=2e-3, head_learning_rate=2e-3, select_rows=10)
    trial = make("lora", settings, task=task, recipe=recipe, train_size=32)
    monkeypatch.setattr(splitting, "overhead_for", lambda model: 1.0)  # small batches, yet cut
    parts = good(trial, settings)
    whole = good(trial, dataclasses.replace(settings, split_batches=False))
    assert [loss for _, loss in parts.losses] == pytest.approx([loss for _, loss in whole.losses], rel=1e-4)
    assert (parts.costs.padding_share or 0) < (whole.costs.padding_share or 0)
    assert (parts.costs.train_flops or 0) < (whole.costs.train_flops or 0)
