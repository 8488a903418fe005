"""Each method against an independent oracle (torch, SciPy, autograd) and its own paper's statements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from method_support import RATE, SHAPES, Map, assert_close, context, namespace, normal
from torch import Tensor

from harness.api import GradientRequest
from methods.lora import LoRA
from methods.lora_sb import LoraSB
from methods.lora_xs import LoraXS
from methods.pissa import PiSSA
from methods.qr_lora import QrLoRA
from methods.svd_lora import SvdLoRA

on_every_shape = pytest.mark.parametrize("shape", SHAPES)


def truncated(matrix: Tensor, rank: int) -> Tensor:
    """Best rank-`rank` approximation."""
    U, S, Vt = torch.linalg.svd(matrix, full_matrices=False)
    return U[:, :rank] * S[:rank] @ Vt[:rank]


# ------------------------------------------------------------------------------------------- LoRA


def test_kaiming_start_has_the_range_of_a_linear_layer_and_gaussian_the_deviation_of_peft() -> None:
    kaiming = Map.of(LoRA(r=50), normal(50, 400)).p.A
    bound = 1 / math.sqrt(400)
    assert 0.99 * bound < kaiming.abs().max() <= bound
    assert float(kaiming.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
    gaussian = Map.of(LoRA(r=50, a_init="gaussian"), normal(50, 400)).p.A
    assert float(gaussian.std()) == pytest.approx(1 / 50, rel=0.02)


# ------------------------------------------------------------------------------- PiSSA, SVD-LoRA


@on_every_shape
@pytest.mark.parametrize("alpha", [3.0, 12.0])
def test_pissa_trains_the_best_low_rank_part_at_any_scale(shape: tuple[int, int], alpha: float) -> None:
    adapted = Map.of(PiSSA(r=3, alpha=alpha), normal(*shape))
    assert_close(adapted.frozen, adapted.weight - truncated(adapted.weight, 3))
    assert_close(adapted.p.A @ adapted.p.A.T, adapted.p.B.T @ adapted.p.B)


@on_every_shape
def test_svd_lora_with_residual_and_k_equal_to_r_is_pissa(shape: tuple[int, int]) -> None:
    weight = normal(*shape)
    ours = Map.of(SvdLoRA(r=3, k=3, alpha=5, residual=True), weight)
    pissa = Map.of(PiSSA(r=3, alpha=5), weight)
    for one, other in ((ours.frozen, pissa.frozen), (ours.p.A, pissa.p.A), (ours.p.B, pissa.p.B)):
        assert_close(one, other)
    x = normal(4, shape[1])
    assert_close(ours.train()(x), pissa.train()(x))


@on_every_shape
@pytest.mark.parametrize("split", ["sqrt", "B", "A"])
def test_svd_lora_adds_the_leading_triplets_wherever_their_values_go(shape: tuple[int, int], split: str) -> None:
    adapted = Map.of(SvdLoRA(r=4, k=2, alpha=6, split=split), normal(*shape))
    assert_close(adapted.update, truncated(adapted.weight, 2))
    assert torch.equal(adapted.frozen, adapted.weight)
    assert not adapted.p.B[:, 2:].any()
    assert bool((adapted.p.A[2:] != 0).all())


def test_svd_lora_split_decides_which_factor_is_orthonormal() -> None:
    scale = 2.0
    with_values_in_b = Map.of(SvdLoRA(r=2, k=2, alpha=4, split="B"), normal(8, 6)).p
    with_values_in_a = Map.of(SvdLoRA(r=2, k=2, alpha=4, split="A"), normal(8, 6)).p
    eye = torch.eye(2, dtype=torch.float64)
    sigma = torch.linalg.svdvals(normal(8, 6))[:2]
    assert_close(with_values_in_b.A @ with_values_in_b.A.T, eye)
    assert_close(with_values_in_b.B.T @ with_values_in_b.B, (sigma / scale).square().diag())
    assert_close(with_values_in_a.B.T @ with_values_in_a.B, eye)


# ---------------------------------------------------------------------------------------- LoRA-XS


@on_every_shape
@pytest.mark.parametrize("which", ["top", "middle", "bottom"])
@pytest.mark.parametrize("sigma", [True, False])
def test_lora_xs_lies_between_the_singular_bases(shape: tuple[int, int], which: str, sigma: bool) -> None:
    weight = normal(*shape)
    U, S, Vt = torch.linalg.svd(weight, full_matrices=False)
    first = {9: {"top": 0, "middle": 3, "bottom": 6}, 6: {"top": 0, "middle": 1, "bottom": 3}}[len(S)][which]
    kept = slice(first, first + 3)
    adapted = Map.of(LoraXS(r=3, alpha=7, which=which, sigma=sigma), weight).train()
    middle = S[kept].diag() if sigma else torch.eye(3, dtype=torch.float64)
    assert_close(adapted.update, 7 / 3 * U[:, kept] @ adapted.p.R @ middle @ Vt[kept])


@on_every_shape
def test_lora_xs_starts_near_the_backbone_but_not_on_it(shape: tuple[int, int]) -> None:
    adapted = Map.of(LoraXS(r=4, alpha=16), normal(*shape))
    largest = torch.linalg.matrix_norm(adapted.weight, 2)
    assert 0 < torch.linalg.norm(adapted.update) <= 4 * torch.linalg.norm(adapted.p.R) * largest
    assert float(Map.of(LoraXS(r=40), normal(40, 50)).p.R.std()) == pytest.approx(1e-5, rel=0.1)


@on_every_shape
def test_a_lora_xs_gradient_step_is_the_projected_gradient_of_the_weight(shape: tuple[int, int]) -> None:
    """From R = 0: dW = -eta s^2 U U^T G V S^2 V^T."""
    weight, x, rate = normal(*shape), normal(5, shape[1]), 0.1
    adapted = Map.of(LoraXS(r=3, alpha=7, std=0), weight)
    adapted.p.R.requires_grad_()
    adapted(x).square().sum().backward()
    G = 2 * (x @ weight.T).T @ x
    U, S, Vt = torch.linalg.svd(weight, full_matrices=False)
    U, S, Vt = U[:, :3], S[:3], Vt[:3]
    adapted.p.R = adapted.p.R.detach() - rate * adapted.p.R.grad
    expected = -rate * (7 / 3) ** 2 * U @ U.T @ G @ Vt.T @ S.square().diag() @ Vt
    assert_close(adapted.update, expected, 1e-9 * float(expected.abs().max()))


def test_lora_xs_random_bases_do_not_come_from_the_weight() -> None:
    for basis in ("svd_random", "random"):
        one, other = (Map.of(LoraXS(r=3, basis=basis), normal(8, 6, seed=seed)).p for seed in (1, 2))
        assert torch.equal(one.A, other.A)
        assert torch.equal(one.B, other.B)
    orthonormal = Map.of(LoraXS(r=3, basis="svd_random"), normal(8, 6)).p.B
    assert_close(orthonormal.T @ orthonormal, torch.eye(3, dtype=torch.float64))


# ---------------------------------------------------------------------------------------- LoRA-SB


def sb_map(method: LoraSB, shape: tuple[int, int]) -> tuple[Map, Tensor]:
    weight = normal(*shape)
    gradient = normal(*shape, seed=3)
    return Map.of(method, weight, gradient=gradient), gradient


@on_every_shape
@pytest.mark.parametrize("split", ["R", "B"])
def test_lora_sb_starts_at_the_best_low_rank_part_of_the_first_adamw_step(shape: tuple[int, int], split: str) -> None:
    adapted, gradient = sb_map(LoraSB(r=3, split=split), shape)
    step = -RATE * gradient.sign()
    assert_close(adapted.update, truncated(step, 3))
    tail = torch.linalg.svdvals(step)[3:].square().sum()
    assert_close((step - adapted.p.B @ adapted.p.R @ adapted.p.A).square().sum(), tail)
    assert bool(adapted.update.any())


@on_every_shape
def test_lora_sb_bases_are_orthonormal_and_r_is_diagonal(shape: tuple[int, int]) -> None:
    p = sb_map(LoraSB(r=3), shape)[0].p
    eye = torch.eye(3, dtype=torch.float64)
    assert_close(p.B.T @ p.B, eye)
    assert_close(p.A @ p.A.T, eye)
    assert torch.equal(p.R, p.R.diagonal().diag())
    b_us = sb_map(LoraSB(r=3, split="B"), shape)[0].p
    assert torch.equal(b_us.R, eye)
    assert_close(b_us.B.T @ b_us.B, p.R.square())


@on_every_shape
def test_lora_sb_gradient_of_r_is_the_weights_gradient_between_the_bases(shape: tuple[int, int]) -> None:
    adapted, _ = sb_map(LoraSB(r=3), shape)
    x = normal(5, shape[1])
    adapted.p.R.requires_grad_()
    adapted(x).pow(3).sum().backward()
    merged = adapted.merged.detach().requires_grad_()
    (x @ merged.T).pow(3).sum().backward()
    assert merged.grad is not None
    assert_close(adapted.p.R.grad, adapted.p.B.T @ merged.grad @ adapted.p.A.T, 1e-9 * float(merged.grad.abs().max()))


@on_every_shape
def test_lora_sb_first_sgd_step_is_the_best_low_rank_step(shape: tuple[int, int]) -> None:
    """Theorem 6: with bases of the raw gradient, a step from R = 0 is the best rank-r part of -eta G."""
    adapted, gradient = sb_map(LoraSB(r=3, grad_mode="raw"), shape)
    assert_close(adapted.update, truncated(-RATE * gradient, 3))
    stepped = -RATE * adapted.p.B @ (adapted.p.B.T @ gradient @ adapted.p.A.T) @ adapted.p.A
    assert_close(stepped, truncated(-RATE * gradient, 3))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(0.1, 10), st.integers(0, 2**31), st.data())
def test_no_step_of_r_is_nearer_to_the_full_gradient_than_theorem_3_s(
    m: int, n: int, s: float, seed: int, data: st.DataObject
) -> None:
    """Theorem 3: of all g, s B g A is nearest to G at g* = (B^T B)^-1 (s B^T G A^T) (A A^T)^-1 / s^2, for any bases."""
    r = data.draw(st.integers(1, min(m, n)))
    G, B, A = normal(m, n, seed=seed), normal(m, r, seed=seed + 1), normal(r, n, seed=seed + 2)
    of_r = s * B.T @ G @ A.T
    best = torch.linalg.solve(B.T @ B, of_r) @ torch.linalg.inv(A @ A.T) / s**2
    least = (s * B @ best @ A - G).norm()
    for size in (1e-3, 1.0):
        other = best + size * normal(r, r, seed=seed + 3)
        assert (s * B @ other @ A - G).norm() >= least - 1e-9 * G.norm()
    # LoRA-SB's bases are orthonormal and its s is 1: the gradient of R that autograd gives is that best one
    adapted = Map.of(LoraSB(r=r), normal(m, n, seed=seed + 4), gradient=G)
    p = adapted.p
    gradient_of_r = p.B.T @ G @ p.A.T
    assert_close(torch.linalg.pinv(p.B) @ G @ torch.linalg.pinv(p.A), gradient_of_r, 1e-9 * float(G.norm()))


def test_lora_sb_asks_for_a_thousandth_of_the_training_rows_and_at_least_one() -> None:
    def request(rows: int, **options: Any) -> GradientRequest:
        found = LoraSB(**options).gradient_request(rows)
        assert found is not None
        return found

    assert [request(rows, n_init=0).samples for rows in (10, 2490, 10_000)] == [1, 2, 10]
    assert [request(rows, n_init=50).samples for rows in (10, 2490)] == [10, 50]
    assert request(10).dropout
    assert not request(10, dropout_in_estimate=False).dropout


def test_lora_sb_ablations_replace_or_blur_the_estimate() -> None:
    weight = normal(20, 14)
    plain, kaiming = Map.of(LoraSB(r=3), weight), Map.of(LoraSB(r=3, estimate="kaiming"), weight)
    assert LoraSB(estimate="kaiming").gradient_request(1000) is None
    gradient = context(weight).gradient
    assert gradient is not None
    step = -RATE * torch.sign(gradient)

    def energy(adapted: Map) -> float:
        """Share of the best rank-3 energy of the step that the bases hold."""
        inside = adapted.p.B @ (adapted.p.B.T @ step @ adapted.p.A.T) @ adapted.p.A
        return float((inside.norm() / truncated(step, 3).norm()) ** 2)

    assert energy(plain) == pytest.approx(1.0)
    assert energy(kaiming) < 0.6
    assert energy(Map.of(LoraSB(r=3, noise=0.01, noise_unit="entry"), weight)) == pytest.approx(1.0, abs=1e-3)
    assert energy(Map.of(LoraSB(r=3, noise=0.01), weight)) < 0.9  # ten times the entries of the step


def test_lora_sb_without_a_gradient_names_the_map() -> None:
    with pytest.raises(ValueError, match=r"layer\.0\.query"):
        LoraSB(r=2).init(normal(4, 4), context(normal(4, 4), gradient=None))


# ---------------------------------------------------------------------------------------- QR-LoRA


@on_every_shape
def test_qr_lora_is_the_weight_itself_with_all_directions_at_one(shape: tuple[int, int]) -> None:
    for transpose in (False, True):
        method = QrLoRA(tau=1.0, lam_init=1.0, transpose=transpose)
        adapted = Map.of(method, normal(*shape))
        assert_close(adapted.update, adapted.weight)
    wrong = Map.of(QrLoRA(tau=1.0, lam_init=1.0, unpivot=False), normal(*shape))
    assert torch.linalg.norm(wrong.update - wrong.weight) > 0.1 * torch.linalg.norm(wrong.weight)


@on_every_shape
@pytest.mark.parametrize("unpivot", [True, False])
def test_qr_lora_directions_are_scipys(shape: tuple[int, int], unpivot: bool) -> None:
    weight = normal(*shape)
    Q, R, P = scipy.linalg.qr(weight.numpy(), mode="economic", pivoting=True)
    adapted = Map.of(QrLoRA(tau=0.7, unpivot=unpivot), weight).train()
    r = len(adapted.p.lam)
    permutation = np.eye(shape[1])[:, P] if unpivot else np.eye(shape[1])  # W P = Q R
    expected = Q[:, :r] @ np.diag(adapted.p.lam.numpy()) @ R[:r] @ permutation.T
    assert_close(adapted.update, torch.from_numpy(expected))
    energy = np.cumsum(np.diag(R) ** 2)
    assert energy[r - 1] >= 0.7 * energy[-1] > (energy[r - 2] if r > 1 else 0)


@on_every_shape
def test_each_qr_lora_coefficient_weighs_a_direction_of_the_norm_of_its_row(shape: tuple[int, int]) -> None:
    adapted = Map.of(QrLoRA(tau=0.9), normal(*shape))
    assert_close(adapted.p.Q.T @ adapted.p.Q, torch.eye(len(adapted.p.lam), dtype=torch.float64))
    for index in range(len(adapted.p.lam)):
        adapted.p.lam = torch.zeros_like(adapted.p.lam)
        adapted.p.lam[index] = -2.0
        assert_close(torch.linalg.norm(adapted.update), 2 * torch.linalg.norm(adapted.p.R[index]))


def test_qr_lora_factors_the_pretrained_weight_unless_told_otherwise() -> None:
    pretrained, warm = normal(8, 6, seed=1), normal(8, 6, seed=2)
    of_pretrained = Map.of(QrLoRA(), pretrained).p
    assert torch.equal(Map.of(QrLoRA(), warm, pretrained=pretrained).p.Q, of_pretrained.Q)
    of_warm = Map.of(QrLoRA(basis_from="warmup"), warm, pretrained=pretrained).p
    assert torch.equal(of_warm.Q, Map.of(QrLoRA(), warm).p.Q)
    assert not torch.equal(of_warm.Q, of_pretrained.Q[:, : of_warm.Q.shape[1]])


def test_qr_lora_takes_a_pretrained_weight_in_half_precision() -> None:
    weight = normal(8, 6, dtype=torch.float32)
    p = Map.of(QrLoRA(), weight, pretrained=weight.bfloat16()).p
    assert {tensor.dtype for tensor in vars(p).values()} == {torch.float32}


# ------------------------------------------------------------------------------------ any method


def test_a_plain_namespace_is_enough_for_forward() -> None:
    """`forward` reads tensors by name and nothing else, so any holder will do."""
    method, x = LoRA(r=1, alpha=1), normal(2, 3)
    p = namespace(A=torch.ones(1, 3, dtype=torch.float64), B=torch.ones(4, 1, dtype=torch.float64))
    assert_close(method.forward(x, torch.zeros(2, 4, dtype=torch.float64), p), x.sum(-1, keepdim=True).expand(2, 4))
