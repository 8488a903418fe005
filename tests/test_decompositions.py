"""Factorisations: right against their libraries, cached, safe against bad cache files, no global randomness."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from method_support import normal
from safetensors.torch import load
from sklearn.decomposition import TruncatedSVD

from harness.decompositions import CachedDecompositions, pivoted_qr, pivoted_qr_by_gram

SHAPES = [(9, 9), (14, 6), (6, 14)]


@pytest.fixture
def cached(tmp_path: Path) -> CachedDecompositions:
    return CachedDecompositions(tmp_path)


def files(root: Path) -> list[Path]:
    return sorted((root / "decompositions").iterdir())


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_svd_is_the_leading_part_of_torchs(cached: CachedDecompositions, shape: tuple[int, int]) -> None:
    weight = normal(*shape)
    U, S, Vt = torch.linalg.svd(weight, full_matrices=False)
    got = cached.svd(weight, 4)
    for ours, theirs in zip(got, (U[:, :4], S[:4], Vt[:4]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_randomized_svd_is_scikit_learns_truncated_svd_of_the_transpose(
    cached: CachedDecompositions, shape: tuple[int, int]
) -> None:
    weight = normal(*shape)
    theirs = TruncatedSVD(n_components=4, n_iter=10, random_state=42).fit(weight.T.numpy())
    U, S, Vt = cached.svd(weight, 4, "randomized")
    np.testing.assert_allclose(S.numpy(), theirs.singular_values_, rtol=1e-9)
    np.testing.assert_allclose(np.abs(U.T.numpy()), np.abs(theirs.components_), atol=1e-8)
    assert Vt.shape == (4, shape[1])


@pytest.mark.parametrize("routine", ["exact", "randomized", "niter_16"])
def test_every_routine_comes_close_to_the_best_low_rank_approximation(
    cached: CachedDecompositions, routine: str
) -> None:
    U0, _, V0 = torch.linalg.svd(normal(20, 12), full_matrices=False)
    weight = U0 * 0.5 ** torch.arange(12) @ V0
    U, S, Vt = cached.svd(weight, 3, routine)
    best = (0.25 ** torch.arange(3, 12, dtype=torch.float64)).sum().sqrt()
    assert torch.linalg.norm(weight - U * S @ Vt) <= 1.001 * best
    torch.testing.assert_close(U.T @ U, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_pivoted_qr_is_scipys(cached: CachedDecompositions, shape: tuple[int, int]) -> None:
    weight = normal(*shape)
    Q, R, P = cached.pivoted_qr(weight)
    expected = scipy.linalg.qr(weight.numpy(), mode="economic", pivoting=True)
    for ours, theirs in zip((Q, R, P), expected, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    assert P.dtype == torch.int64


@pytest.mark.parametrize(
    ("given", "computed"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)],
)
def test_factors_are_float32_or_better(cached: CachedDecompositions, given: torch.dtype, computed: torch.dtype) -> None:
    weight = normal(8, 5).to(given)
    U, S, Vt = cached.svd(weight, 5)
    Q, R, P = cached.pivoted_qr(weight)
    assert {tensor.dtype for tensor in (U, S, Vt, Q, R)} == {computed}
    torch.testing.assert_close(U * S @ Vt, weight.to(computed), rtol=0, atol=1e-5)
    torch.testing.assert_close(Q @ R, weight.to(computed)[:, P], rtol=0, atol=1e-5)


def test_global_random_states_stay_as_they_were(cached: CachedDecompositions) -> None:
    torch.manual_seed(7)
    np.random.seed(7)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    for routine in ("exact", "randomized", "niter_2"):
        cached.svd(normal(10, 8), 3, routine)
    cached.pivoted_qr(normal(10, 8))
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], numpy_state)


def test_the_global_seed_does_not_change_a_randomised_result(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = CachedDecompositions(tmp_path / "a").svd(normal(10, 8), 3, "niter_1")
    torch.manual_seed(2)
    second = CachedDecompositions(tmp_path / "b").svd(normal(10, 8), 3, "niter_1")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_one_exact_factorisation_serves_every_rank_and_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = normal(10, 8)
    first = CachedDecompositions(tmp_path).svd(weight, 2)
    monkeypatch.setattr(torch.linalg, "svd", lambda *_, **__: pytest.fail("computed twice"))
    later = CachedDecompositions(tmp_path)
    wider = later.svd(weight, 5)
    assert torch.equal(wider[0][:, :2], first[0])
    assert all(torch.equal(a, b) for a, b in zip(later.svd(weight, 2), first, strict=True))
    assert len(files(tmp_path)) == 1


def test_the_cache_tells_apart_values_shapes_types_routines_and_ranks(tmp_path: Path) -> None:
    cached, weight = CachedDecompositions(tmp_path), normal(6, 6)
    for other in (weight, weight + 1, weight.reshape(4, 9), weight.float(), weight.T):
        cached.svd(other, 2)
    cached.pivoted_qr(weight)
    for rank in (2, 3):
        cached.svd(weight, rank, "randomized")
        cached.svd(weight, rank, "niter_2")
    assert len(files(tmp_path)) == 5 + 1 + 4


def test_results_belong_to_the_caller(cached: CachedDecompositions) -> None:
    weight = normal(6, 6)
    U, S, _ = cached.svd(weight, 6)
    kept = U.clone()
    U.zero_()
    S.zero_()
    assert torch.equal(cached.svd(weight, 6)[0], kept)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "foreign"])
def test_a_corrupt_file_is_rebuilt(tmp_path: Path, damage: str) -> None:
    weight = normal(6, 6)
    expected = CachedDecompositions(tmp_path).svd(weight, 3)
    (file,) = files(tmp_path)
    whole, tensors = file.read_bytes(), load(file.read_bytes())
    last_byte_changed = whole[:-1] + bytes([whole[-1] ^ 1])
    file.write_bytes(
        {"truncate": whole[:-8], "flip": last_byte_changed, "empty": b"", "foreign": b"not safetensors at all"}[damage]
    )
    got = CachedDecompositions(tmp_path).svd(weight, 3)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    rebuilt = load(file.read_bytes())
    assert all(torch.equal(rebuilt[name], tensors[name]) for name in tensors)
    assert files(tmp_path) == [file]


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = normal(6, 6)
    expected = torch.linalg.svdvals(weight)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    torch.testing.assert_close(CachedDecompositions(blocked).svd(weight, 6)[1], expected)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    torch.testing.assert_close(CachedDecompositions(tmp_path).svd(weight, 6)[1], expected)
    assert files(tmp_path) == []


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    factor = torch.linalg.svd
    calls: list[int] = []

    def counted(matrix: torch.Tensor, full_matrices: bool) -> tuple[torch.Tensor, ...]:
        calls.append(len(matrix))
        return tuple(factor(matrix, full_matrices=full_matrices))

    monkeypatch.setattr(torch.linalg, "svd", counted)
    bytes_of_one = 8 * (6 * 6 + 6 + 6 * 6)
    cached = CachedDecompositions(Path(os.devnull), memory_bytes=2 * bytes_of_one)
    weights = [normal(6, 6, seed=seed) for seed in range(3)]
    for weight in (weights[0], weights[1], weights[0], weights[2]):  # the second is the oldest when the third comes
        cached.svd(weight, 2)
    assert len(calls) == 3
    cached.svd(weights[0], 2)
    assert len(calls) == 3
    cached.svd(weights[1], 2)
    assert len(calls) == 4


@pytest.mark.parametrize(("rank", "routine"), [(0, "exact"), (6, "exact"), (2, "fast"), (2, "niter_"), (2, "niter_x")])
def test_impossible_ranks_and_unknown_routines_are_refused(
    cached: CachedDecompositions, rank: int, routine: str
) -> None:
    with pytest.raises(ValueError, match=r"rank|routine"):
        cached.svd(normal(8, 5), rank, routine)


def test_a_cached_factorisation_still_reports_what_it_once_took(tmp_path: Path) -> None:
    weight = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    first = CachedDecompositions(tmp_path)
    first.svd(weight, 4)
    assert first.cached_seconds == 0
    second = CachedDecompositions(tmp_path)
    second.svd(weight, 8)
    assert second.cached_seconds > 0


@pytest.mark.parametrize("shape", [(60, 60), (90, 40), (40, 90)])
def test_pivoted_qr_by_way_of_the_gram_matrix_is_scipys(shape: tuple[int, int]) -> None:
    weight = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = pivoted_qr_by_gram(weight)
    assert found is not None
    Q, R, P = scipy.linalg.qr(weight.numpy(), mode="economic", pivoting=True)
    assert found["P"][: min(shape)].tolist() == P[: min(shape)].tolist()
    columns = found["P"].argsort()[torch.from_numpy(P.copy()).long()]  # behind the pivots, order means nothing
    signs = torch.sign(found["R"].diagonal() * torch.from_numpy(R).diagonal())
    torch.testing.assert_close(signs[:, None] * found["R"][:, columns], torch.from_numpy(R), rtol=0, atol=1e-9)
    torch.testing.assert_close(found["Q"] * signs, torch.from_numpy(Q), rtol=0, atol=1e-9)
    torch.testing.assert_close(weight[:, found["P"]], found["Q"] @ found["R"], rtol=0, atol=1e-10)


def test_a_matrix_close_to_singular_is_left_to_lapack() -> None:
    weight = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    weight = weight @ torch.randn(3, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    assert pivoted_qr_by_gram(weight) is None
    factors = pivoted_qr(weight)
    torch.testing.assert_close(weight[:, factors["P"]], factors["Q"] @ factors["R"], rtol=0, atol=1e-10)
