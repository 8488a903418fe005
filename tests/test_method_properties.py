"""What holds for every linear method, on any shape: merge is forward, vmap, counts, starts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from method_support import VARIANTS, Map, context, make, namespace, normal
from torch import Tensor

from harness.api import Frozen, Trainable
from methods.lora_sb import LoraSB
from methods.qr_lora import QrLoRA

START_AT_THE_BACKBONE = [
    *("lora", "lora gaussian", "rslora", "pissa", "pissa niter", "svd_lora residual"),
    *("qr_lora", "qr_lora transpose", "qr_lora pivoted"),
]


def scale_of(*tensors: Tensor) -> float:
    return max(1.0, *(float(tensor.abs().max()) for tensor in tensors))


@st.composite
def maps(draw: st.DrawFn, variants: list[str]) -> tuple[str, int, Tensor]:
    """A variant, a rank that fits, and a weight: wide, tall, square, of full rank or less, or zero."""
    m, n = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    rank_of_weight = draw(st.integers(0, min(m, n)))
    seed = draw(st.integers(0, 2**31))
    weight = normal(m, rank_of_weight, seed=seed) @ normal(rank_of_weight, n, seed=seed + 1)
    return draw(st.sampled_from(variants)), draw(st.integers(1, min(m, n))), weight


@settings(max_examples=150, deadline=None, derandomize=True)
@given(maps(sorted(VARIANTS)))
def test_merged_weight_is_the_same_function_as_forward(drawn: tuple[str, int, Tensor]) -> None:
    variant, rank, weight = drawn
    adapted = Map.of(make(variant, rank), weight).train()
    x = normal(2, 3, weight.shape[1], seed=5)
    got, expected = adapted(x), x @ adapted.merged.T
    assert got.shape == (2, 3, weight.shape[0])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10 * scale_of(expected, x))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(maps(START_AT_THE_BACKBONE))
def test_methods_that_start_at_the_backbone_change_nothing_at_first(drawn: tuple[str, int, Tensor]) -> None:
    variant, rank, weight = drawn
    adapted = Map.of(make(variant, rank), weight)
    torch.testing.assert_close(adapted.merged, weight, rtol=0, atol=1e-10 * scale_of(weight))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(maps([name for name in VARIANTS if not name.startswith("qr_lora")]))
def test_count_is_the_number_of_trainable_scalars(drawn: tuple[str, int, Tensor]) -> None:
    variant, rank, weight = drawn
    adapted = Map.of(make(variant, rank), weight)
    assert adapted.method.count(*weight.shape) == sum(getattr(adapted.p, name).numel() for name in adapted.trainable)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(7, 7), (10, 6), (6, 10)])
def test_forward_is_merge_in_float32_too(variant: str, shape: tuple[int, int]) -> None:
    adapted = Map.of(make(variant, 3), normal(*shape, dtype=torch.float32)).train()
    assert {tensor.dtype for tensor in vars(adapted.p).values()} == {torch.float32}
    x = normal(4, shape[1], seed=5, dtype=torch.float32)
    expected = x @ adapted.merged.T
    torch.testing.assert_close(adapted(x), expected, rtol=0, atol=1e-5 * scale_of(expected))


@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_runs_under_vmap_with_a_trial_axis_over_the_trainable_tensors(variant: str) -> None:
    """Three trials on one frozen map: one call gives what three give."""
    weight = normal(6, 8)
    trials = [Map.of(make(variant, 3), weight).train(seed) for seed in (1, 2, 3)]
    first = trials[0]
    learned = {name: torch.stack([getattr(trial.p, name) for trial in trials]) for name in first.trainable}
    fixed = {name: tensor for name, tensor in vars(first.p).items() if name not in first.trainable}
    x = normal(3, 5, 8, seed=9)

    def one(x: Tensor, y: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return first.method.forward(x, y, namespace(**fixed, **learned))

    got = torch.func.vmap(one)(x, x @ first.frozen.T, learned)
    expected = torch.stack([trial(x[index]) for index, trial in enumerate(trials)])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12 * scale_of(expected))


@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_and_merge_leave_their_inputs_alone(variant: str) -> None:
    adapted = Map.of(make(variant, 3), normal(6, 8)).train()
    before = {name: tensor.clone() for name, tensor in vars(adapted.p).items()} | {"frozen": adapted.frozen.clone()}
    x, y = normal(4, 8), normal(4, 6)
    x_before, y_before = x.clone(), y.clone()
    adapted.method.forward(x, y, adapted.p)
    adapted.method.merge(adapted.frozen, adapted.p)
    after = vars(adapted.p) | {"frozen": adapted.frozen}
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_init_leaves_the_weight_and_the_global_random_state_alone(variant: str) -> None:
    weight = normal(6, 8)
    kept, state = weight.clone(), torch.get_rng_state()
    Map.of(make(variant, 3), weight)
    assert torch.equal(weight, kept)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_seed_gives_the_same_start(variant: str) -> None:
    first, second = (Map.of(make(variant, 3), normal(6, 8), seed=4) for _ in range(2))
    assert all(torch.equal(getattr(first.p, name), getattr(second.p, name)) for name in vars(first.p))


@pytest.mark.parametrize("variant", ["lora", "lora gaussian", "rslora", "svd_lora", "lora_xs"])
def test_another_seed_gives_another_start(variant: str) -> None:
    first, second = (Map.of(make(variant, 3), normal(6, 8), seed=seed) for seed in (4, 5))
    assert any(not torch.equal(getattr(first.p, name), getattr(second.p, name)) for name in first.trainable)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_first_gradient_is_not_zero(variant: str) -> None:
    """A start with zero gradient in every tensor would never learn."""
    adapted = Map.of(make(variant, 3), normal(6, 8))
    learned = [getattr(adapted.p, name).requires_grad_() for name in adapted.trainable]
    gradients = torch.autograd.grad(adapted(normal(4, 8)).square().sum(), learned)
    assert any(bool((gradient != 0).any()) for gradient in gradients)


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_lora_sb_has_frozen_tensors_that_must_be_stored(variant: str) -> None:
    method = make(variant, 3)
    marked = method.init(normal(6, 8), context(normal(6, 8))).values()
    assert all(isinstance(item, Trainable | Frozen) for item in marked)
    frozen = [item for item in marked if isinstance(item, Frozen)]
    assert all(item.stored == isinstance(method, LoraSB) for item in frozen)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=30), st.floats(0.01, 1.0), st.data())
def test_rank_rules_are_the_brute_force_prefix_sums(values: list[float], tau: float, data: st.DataObject) -> None:
    diagonal = sorted(values, reverse=True)
    signs = data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=len(values), max_size=len(values)))
    signed = torch.tensor([sign * value for sign, value in zip(signs, diagonal, strict=True)], dtype=torch.float64)

    def smallest(power: int) -> int:
        masses = torch.tensor(diagonal, dtype=torch.float64) ** power
        return next(r for r in range(1, len(values) + 1) if masses[:r].sum() >= tau * masses.sum() * (1 - 1e-12))

    slack = QrLoRA(tau=tau * (1 - 1e-12), rank_rule="energy"), QrLoRA(tau=tau * (1 - 1e-12), rank_rule="absolute")
    assert slack[0].rank(signed) == smallest(2)
    assert slack[1].rank(signed) == smallest(1)
    above = sum(value > tau * diagonal[0] for value in diagonal)
    assert QrLoRA(tau=tau, rank_rule="relative").rank(signed) == max(1, above)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=30), st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_rank_grows_with_tau_by_mass_and_falls_by_threshold(values: list[float], one: float, other: float) -> None:
    diagonal = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    low, high = sorted((one, other))

    def rank(tau: float, rule: str) -> int:
        return QrLoRA(tau=tau, rank_rule=rule).rank(diagonal)

    assert rank(low, "energy") <= rank(high, "energy") <= len(values)
    assert rank(low, "absolute") <= rank(high, "absolute") <= len(values)
    assert rank(low, "relative") >= rank(high, "relative") >= 1
    assert rank(low, "absolute") >= rank(low, "energy")
