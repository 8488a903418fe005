"""Factorisations of frozen weights, computed once per weight and kept in memory and on disk.

Computed on the CPU in float32, or float64 for a float64 weight, so that a run on another device starts from the very
same factors. No global random state is read or changed.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from harness.tensor_files import raw_bytes, read_tensors, write_tensors

Factors = dict[str, Tensor]

_NITER = re.compile(r"niter_(\d+)")
_RANDOMIZED_SEED = 42  # TruncatedSVD(n_iter=10, random_state=42) in the LoRA-XS authors' code
_MEMORY_BYTES = 256 * 2**20
_BY_GRAM_FROM = 1536
"""Smaller sides from here on take pivoted QR by way of the Gram matrix: LAPACK's own needs minutes at 4096."""
_ORTHONORMAL = 1e-8
"""Largest entry of Q^T Q - I that counts as rounding (float64)."""


@dataclass(frozen=True)
class Computed:
    """Factors, and the seconds that they took."""

    factors: Factors
    seconds: float

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.factors.values())


class CachedDecompositions:
    """Implements `harness.api.Decompositions` on a cache below `cache_root/decompositions`.

    A cache that cannot be written (no space, read-only) costs time, never a trial.
    """

    def __init__(self, cache_root: Path, memory_bytes: int = _MEMORY_BYTES) -> None:
        self._folder = cache_root / "decompositions"
        self._memory_bytes = memory_bytes
        self._memory: OrderedDict[str, Computed] = OrderedDict()
        self.cached_seconds = 0.0
        """Seconds that the factors handed out from the cache took when they were computed: a run that is spared
        them by another still owes them to an honest initialisation time."""

    def svd(self, weight: Tensor, rank: int, routine: str = "exact") -> tuple[Tensor, Tensor, Tensor]:
        """Leading `rank` singular triplets of weight [m, n]: U [m, rank], S [rank], Vt [rank, n].

        routine: "exact" (torch.linalg.svd), "randomized" (scikit-learn's, 10 iterations, seed 42) or
        "niter_K" (torch.svd_lowrank with K iterations). The results are the caller's own, on the weight's device.
        """
        if not 1 <= rank <= min(weight.shape):
            raise ValueError(f"rank {rank} is outside [1, {min(weight.shape)}] for a weight {list(weight.shape)}")
        # the exact factors serve every rank; the others depend on the rank asked for
        key = routine if routine == "exact" else f"{routine}/rank {rank}"
        factors = self._cached(weight, f"svd/{key}", lambda matrix: _svd(matrix, rank, routine))
        leading = factors["U"][:, :rank], factors["S"][:rank], factors["Vt"][:rank]
        U, S, Vt = (_own(tensor, weight.device) for tensor in leading)
        return U, S, Vt

    def pivoted_qr(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Column-pivoted QR of weight [m, n]: weight[:, P] = Q R, Q [m, k], R [k, n], P [n] int64, k = min(m, n).

        |R_11| >= |R_22| >= ...; rows of R, with their columns of Q, are unique up to sign. The results are the
        caller's own, on the weight's device.
        """
        factors = self._cached(weight, "pivoted_qr", pivoted_qr)
        Q, R, P = (_own(factors[name], weight.device) for name in ("Q", "R", "P"))
        return Q, R, P

    def _cached(self, weight: Tensor, routine: str, compute: Callable[[Tensor], Factors]) -> Factors:
        key = _key(weight, routine)
        path = self._folder / f"{key}.safetensors"
        computed = self._memory.get(key) or _read(path)
        if computed is None:
            began = time.perf_counter()
            matrix = weight.detach().cpu().to(torch.promote_types(weight.dtype, torch.float32))
            factors = {name: tensor.contiguous() for name, tensor in compute(matrix).items()}
            computed = Computed(factors, time.perf_counter() - began)
            _write(path, computed)
        else:
            self.cached_seconds += computed.seconds
        self._remember(key, computed)
        return computed.factors

    def _remember(self, key: str, computed: Computed) -> None:
        """Make `computed` the newest in memory, and drop the oldest ones beyond the budget."""
        self._memory[key] = computed
        self._memory.move_to_end(key)
        while len(self._memory) > 1 and sum(item.bytes for item in self._memory.values()) > self._memory_bytes:
            self._memory.popitem(last=False)


def _svd(matrix: Tensor, rank: int, routine: str) -> Factors:
    if routine == "exact":
        U, S, Vt = torch.linalg.svd(matrix, full_matrices=False)
    elif routine == "randomized":
        U, S, Vt = _randomized_svd(matrix, rank)
    elif match := _NITER.fullmatch(routine):
        U, S, Vt = _lowrank_svd(matrix, rank, int(match.group(1)))
    else:
        raise ValueError(f"unknown SVD routine '{routine}': exact, randomized or niter_K")
    return {"U": U, "S": S, "Vt": Vt}


def _randomized_svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """scikit-learn's on the transpose, which is how the LoRA-XS authors call it."""
    from sklearn.utils.extmath import randomized_svd

    V, S, Ut = randomized_svd(matrix.T.numpy(), rank, n_iter=10, random_state=_RANDOMIZED_SEED)
    return torch.from_numpy(Ut.T), torch.from_numpy(S), torch.from_numpy(V.T)


def _lowrank_svd(matrix: Tensor, rank: int, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    # svd_lowrank draws from the global CPU generator only: lend it a seeded state. torch.manual_seed would reach
    # the accelerators' generators too.
    state = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(_RANDOMIZED_SEED)
        U, S, V = torch.svd_lowrank(matrix, q=rank, niter=iterations)
    finally:
        torch.default_generator.set_state(state)
    return U, S, V.T


def pivoted_qr(matrix: Tensor) -> Factors:
    """Q, R, P of a matrix on the CPU by the quicker of two routines."""
    found = pivoted_qr_by_gram(matrix) if min(matrix.shape) >= _BY_GRAM_FROM else None
    return pivoted_qr_by_lapack(matrix) if found is None else found


def pivoted_qr_by_lapack(matrix: Tensor) -> Factors:
    """LAPACK's geqp3, half of which runs at the speed of memory."""
    from scipy.linalg import qr

    Q, R, P = qr(matrix.numpy(), mode="economic", pivoting=True)
    return {"Q": torch.from_numpy(Q), "R": torch.from_numpy(R), "P": torch.from_numpy(P).to(torch.int64)}


def pivoted_qr_by_gram(matrix: Tensor) -> Factors | None:
    """The same pivots and R (up to sign) from a pivoted Cholesky factorisation of W^T W, in float64.

    Both pick the column with the largest remainder at each step. The Gram matrix squares the condition, so a second
    Cholesky makes Q orthonormal to rounding (CholeskyQR2, Yamamoto et al. 2015); None if that does not succeed.
    """
    from scipy.linalg import lapack

    W, k = matrix.double(), min(matrix.shape)
    factor, pivots, rank, _ = lapack.dpstrf((W.T @ W).numpy())
    if rank < k:
        return None
    P = torch.from_numpy(pivots).to(torch.int64) - 1
    R = torch.from_numpy(factor)[:k].triu()
    Q = _times_inverse(W[:, P[:k]], R[:, :k])
    correction, failed = torch.linalg.cholesky_ex(Q.T @ Q, upper=True)
    if failed:
        return None
    Q, R = _times_inverse(Q, correction), correction @ R
    if float((Q.T @ Q - torch.eye(k, dtype=Q.dtype)).abs().max()) > _ORTHONORMAL:
        return None
    return {"Q": Q.to(matrix.dtype), "R": R.to(matrix.dtype), "P": P}


def _times_inverse(left: Tensor, upper: Tensor) -> Tensor:
    solved: Tensor = torch.linalg.solve_triangular(upper, left, upper=True, left=False)
    return solved


def _own(tensor: Tensor, device: torch.device) -> Tensor:
    """A contiguous copy that neither keeps the full factor alive nor lets a caller write into the cache."""
    return tensor.to(device, copy=True, memory_format=torch.contiguous_format)


def _key(weight: Tensor, routine: str) -> str:
    """sha256 over what the factors depend on: routine, dtype, shape and the weight's bytes."""
    header = f"{routine} {weight.dtype} {list(weight.shape)} "
    return hashlib.sha256(header.encode() + raw_bytes(weight.detach().cpu())).hexdigest()


def _read(path: Path) -> Computed | None:
    """The content of a cache file, or None if there is none that is whole."""
    found = read_tensors(path)
    try:
        return None if found is None else Computed(found[0], float(found[1]["seconds"]))
    except (KeyError, ValueError):
        return None


def _write(path: Path, computed: Computed) -> None:
    write_tensors(path, computed.factors, {"seconds": repr(computed.seconds)})
