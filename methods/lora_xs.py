"""LoRA-XS: train only an r x r matrix between the frozen singular bases of each weight.

Paper    Balazy et al. 2024, arXiv:2405.17604, section 3.
Formula  y = W x + (alpha / r) B R A x       A = S_r V_r^T: [r, in]   R: [r, r]   B = U_r: [out, r]   W = U S V^T
Init     A and B frozen, R ~ N(0, std^2) with std = 1e-5: the update starts near zero, not at zero.
Cost     r^2 parameters per map, one SVD of W; merges into W.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness import api
from harness.api import Frozen, InitContext, LinearMethod, Parameters, Trainable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LoraXS(LinearMethod):
    name: ClassVar[str] = "lora_xs"
    title: ClassVar[str] = "LoRA-XS"
    paper: ClassVar[str] = "Balazy et al. 2024, arXiv:2405.17604"
    formula: ClassVar[str] = "W + (alpha / r) U_r R S_r V_r^T"

    targets: str = "q,v,o,down"
    r: int = 16
    alpha: float = 16.0
    std: float = 1e-5
    basis: str = "svd"
    """What spans the frozen bases: "svd" of W, "svd_random" (of a kaiming matrix), or "random" kaiming A and B."""
    which: str = "top"
    """Which singular triplets: "top", "middle" or "bottom"."""
    sigma: bool = True
    """Keep the singular values in A; without them A = V_r^T."""
    svd: str = "exact"
    """SVD of W: "exact", or "randomized" as in the authors' code."""

    def validate(self) -> None:
        super().validate()
        api.check_at_least(self, "r", 1)
        api.check_fraction(self, "alpha", high=math.inf)
        api.check_at_least(self, "std", 0)
        api.check_choice(self, "basis", ("svd", "svd_random", "random"))
        api.check_choice(self, "which", ("top", "middle", "bottom"))
        api.check_choice(self, "svd", ("exact", "randomized"))
        exact = self.svd == "exact" or (self.basis, self.which) == ("svd", "top")
        api.require(self, exact, "svd = 'randomized' needs basis = 'svd' and which = 'top'.")
        ordered = self.basis != "random" or (self.which == "top" and self.sigma)
        api.require(self, ordered, "basis = 'random' has no singular values: leave which and sigma at their defaults.")

    def check_map(self, module: str, shape: tuple[int, int]) -> None:
        api.check_rank(self, "r", shape, module)

    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        import torch

        B, S, Vt = self._triplets(weight, context)
        A = S[:, None] * Vt if self.sigma else Vt
        R = self.std * torch.randn(self.r, self.r, dtype=weight.dtype, generator=context.generator)
        return {"A": Frozen(A), "B": Frozen(B), "R": Trainable(R)}

    def _triplets(self, weight: Tensor, context: InitContext) -> tuple[Tensor, Tensor, Tensor]:
        """Left basis [m, r], its sizes [r], right basis [r, n]; random bases have size one."""
        import torch

        (m, n), k = weight.shape, min(weight.shape)
        if self.basis == "random":
            A = api.kaiming_uniform((self.r, n), weight.dtype, context.generator)
            return api.kaiming_uniform((m, self.r), weight.dtype, context.generator), A.new_ones(self.r), A
        if self.basis == "svd":
            U, S, Vt = context.decompositions.svd(weight, self.r if self.which == "top" else k, self.svd)
        else:
            noise = api.kaiming_uniform((m, n), weight.dtype, context.generator)
            U, S, Vt = torch.linalg.svd(noise, full_matrices=False)
        first = {"top": 0, "middle": (k - self.r) // 2, "bottom": k - self.r}[self.which]
        kept = slice(first, first + self.r)
        return U[:, kept], S[kept], Vt[kept]

    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        return y + self.alpha / self.r * (x @ p.A.T) @ p.R.T @ p.B.T

    def low_rank(self, p: Parameters) -> tuple[Tensor, Tensor]:
        return self.alpha / self.r * p.B @ p.R, p.A

    def count(self, m: int, n: int) -> int:
        return self.r**2
