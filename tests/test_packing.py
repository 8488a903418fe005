"""A packed batch is the same batch: losses, gradients, scores."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from test_runner import good, make
from torch import Tensor, nn

from harness import bench
from harness.errors import UserError
from harness.packing import check_apart, pack, without_cache
from harness.plugins import discover
from harness.settings import Settings
from harness.suite import Selection, plan
from harness.suite_file import read_suite
from harness.trial import Recipe

RECIPE = Recipe(epochs=1, batch_size=8, learning_rate=2e-3, head_learning_rate=2e-3, select_rows=10)


@pytest.fixture
def stage(settings: Settings) -> bench.Stage:
    trial = make("lora", settings, task="arithmetic", recipe=RECIPE, train_size=16)
    return bench.load(bench.prepare(trial, settings), torch.device("cpu"))


def token_losses(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Loss of every answer token, in row order."""
    labels = batch["labels"]
    with torch.no_grad(), without_cache(model):
        logits = model.eval()(**{name: value for name, value in batch.items() if name != "labels"}).logits
    losses = nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")
    return losses[labels[:, 1:] != -100]


def test_every_token_has_the_loss_that_it_has_in_a_padded_batch(stage: bench.Stage) -> None:
    rows = [3, 11, 0, 7]
    packed, padded = pack(stage.encoded, rows), dict(stage.batch(rows))
    assert packed["input_ids"].shape == (1, sum(stage.encoded.lengths[row] for row in rows))
    torch.testing.assert_close(token_losses(stage.model, packed), token_losses(stage.model, padded), rtol=0, atol=1e-5)


def test_gradients_are_those_of_the_padded_batch(stage: bench.Stage) -> None:
    rows = [3, 11, 0, 7]
    found = []
    for batch in (pack(stage.encoded, rows), stage.batch(rows)):
        stage.model.zero_grad()
        with without_cache(stage.model):
            stage.model(**batch).loss.backward()
        found.append([p.grad.clone() for p in stage.model.parameters() if p.grad is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_a_packed_run_learns_the_same_and_has_no_padding(settings: Settings) -> None:
    plain = make("lora", settings, task="arithmetic", recipe=RECIPE, train_size=32)
    packed = dataclasses.replace(plain, recipe=dataclasses.replace(RECIPE, packing=True))
    assert packed.id != plain.id
    one, other = good(plain, settings), good(packed, settings)
    assert [loss for _, loss in other.losses] == pytest.approx([loss for _, loss in one.losses], abs=1e-4)
    assert (one.costs.padding_share or 0) > 0
    assert other.costs.padding_share == 0
    share = (other.costs.examples_per_second or 0) / (other.costs.tokens_per_second or 1)
    assert share == pytest.approx((one.costs.examples_per_second or 0) / (one.costs.tokens_per_second or 1))


def test_an_architecture_that_mixes_packed_rows_is_refused(stage: bench.Stage) -> None:
    rows = [3, 11, 0, 7]
    packed, padded = pack(stage.encoded, rows), stage.batch(rows)
    check_apart(stage.model, packed, padded)
    blind = {**packed, "position_ids": torch.arange(packed["input_ids"].shape[1])[None]}
    with pytest.raises(UserError, match="does not keep packed rows apart"):
        check_apart(stage.model, blind, padded)


def test_packing_is_for_tasks_that_are_answered_in_text(settings: Settings, tmp_path: Any) -> None:
    file = tmp_path / "packed.toml"
    file.write_text(
        'name = "packed"\n[recipe]\npacking = true\n'
        '[[task]]\nname = "paraphrase"\nbackbone = "starter-encoder"\n'
        '[[method]]\nname = "lora"\n'
    )
    plugins = discover()
    with pytest.raises(UserError, match="packing is for tasks answered in text; 'paraphrase' is classification"):
        plan(read_suite(file, plugins), Selection(), settings, plugins)
