"""The gradient estimate that LoRA-SB starts from, against plain autograd."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from harness.checks.specimens import batch, new_model
from harness.gradients import estimate_gradients, sample_rows
from harness.targets import select_modules
from methods.lora_sb import LoraSB

METHOD = LoraSB(targets="q,v,o,down")


@pytest.fixture
def model() -> nn.Module:
    return new_model("encoder").double()


def rows(first: int, last: int) -> dict[str, Tensor]:
    return {name: value[first:last] for name, value in batch("encoder").items()}


def by_autograd(model: nn.Module, parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Sum of the loss gradient over rows, all at once, by one backward pass per part."""
    model = copy.deepcopy(model).requires_grad_(True)
    for part in parts:
        (model(**part).loss * len(part["labels"])).backward()
    names = [target.module for target in select_modules(model, METHOD.targets, METHOD.layers)]
    return {name: model.get_parameter(f"{name}.weight").grad.float() for name in names}  # type: ignore[union-attr]


@pytest.mark.parametrize("sizes", [(6,), (2, 2, 2), (1, 1, 1, 1, 1, 1), (4, 2)])
def test_hooks_sum_what_one_backward_per_row_would(sizes: tuple[int, ...], model: nn.Module) -> None:
    """Whatever the batches, a short last one included, every row weighs the same."""
    ends = torch.tensor(sizes).cumsum(0).tolist()
    parts = [rows(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    found = estimate_gradients(model, METHOD, parts, seed=0, dropout=False)
    expected = by_autograd(model, [rows(i, i + 1) for i in range(6)])
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-8)


def test_of_a_decoder_every_answer_token_weighs_the_same_whatever_the_batches() -> None:
    model, whole = new_model("decoder").double(), batch("decoder")
    labels = whole["labels"].clone()
    for row in range(6):
        labels[row, : row + 2] = -100  # prompts of other lengths
    whole["labels"] = labels
    parts = [
        [{name: value[rows] for name, value in whole.items()} for rows in torch.arange(6).split(n)] for n in (6, 2, 1)
    ]
    one, *others = (estimate_gradients(model, METHOD, part, seed=0, dropout=False) for part in parts)
    for other in others:
        for name, gradient in one.items():
            torch.testing.assert_close(gradient, other[name], rtol=1e-4, atol=1e-6)


def test_the_model_is_left_as_it_was(model: nn.Module) -> None:
    model.train().requires_grad_(False)
    model.classifier.requires_grad_(True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    estimate_gradients(model, METHOD, [rows(0, 6)], seed=0, dropout=True)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert {name for name, value in model.named_parameters() if value.requires_grad} == {
        name for name, _ in model.named_parameters() if name.startswith("classifier.")
    }
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    estimate_gradients(model, METHOD, [rows(0, 6)], seed=0, dropout=True)
    assert not model.training


def test_no_gradient_outlives_its_hook(model: nn.Module) -> None:
    """While backward runs, at most one adapted weight holds a gradient."""
    names = [target.module for target in select_modules(model, METHOD.targets, METHOD.layers)]
    most = 0

    def count(*_: object) -> None:
        nonlocal most
        most = max(most, sum(model.get_parameter(f"{name}.weight").grad is not None for name in names))

    for name in names:
        model.get_submodule(name).register_full_backward_hook(count)
    estimate_gradients(model, METHOD, [rows(0, 6)], seed=0, dropout=False)
    assert most <= 1


def test_dropout_draws_come_from_the_seed_alone(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    one, again, other = (estimate_gradients(model, METHOD, [rows(0, 6)], seed, dropout=True) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_sampled_rows_are_distinct_and_follow_the_seed() -> None:
    assert sample_rows(100, 10, 1) == sample_rows(100, 10, 1) != sample_rows(100, 10, 2)
    assert len(set(sample_rows(100, 10, 1))) == 10
    assert sorted(sample_rows(3, 10, 1)) == [0, 1, 2]
