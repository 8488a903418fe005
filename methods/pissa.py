"""PiSSA: train the principal singular part of each weight, freeze the rest.

Paper    Meng et al. 2024, arXiv:2404.02948.
Formula  y = (W - s B0 A0) x + s B A x       A: [r, in]   B: [out, r]   s = alpha / r   W = U S V^T: [out, in]
Init     B0 = U_r (S_r / s)^1/2, A0 = (S_r / s)^1/2 V_r^T: s B0 A0 is the best rank-r part of W, and y = W x at step 0.
Cost     r (in + out) parameters per map, one SVD of W; merges.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness import api
from harness.api import Frozen, InitContext, LinearMethod, Parameters, Trainable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PiSSA(LinearMethod):
    name: ClassVar[str] = "pissa"
    title: ClassVar[str] = "PiSSA"
    paper: ClassVar[str] = "Meng et al. 2024, arXiv:2404.02948"
    formula: ClassVar[str] = "(W - s B0 A0) + s B A, s B0 A0 = U_r S_r V_r^T"

    r: int = 8
    alpha: float = 8.0
    svd: str = "exact"
    """"exact", or "niter_K" for the authors' fast randomised SVD with K iterations (they use 16)."""

    def validate(self) -> None:
        super().validate()
        api.check_at_least(self, "r", 1)
        api.check_fraction(self, "alpha", high=math.inf)
        exists = self.svd == "exact" or re.fullmatch(r"niter_\d+", self.svd) is not None
        api.require(self, exists, f"svd = '{self.svd}' must be 'exact' or 'niter_K' with a number K.")
        api.require(self, self.dropout == 0, "dropout must be 0: it would drop a part of the pretrained weight.")

    def check_map(self, module: str, shape: tuple[int, int]) -> None:
        api.check_rank(self, "r", shape, module)

    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        U, S, Vt = context.decompositions.svd(weight, self.r, self.svd)
        root = (S * self.r / self.alpha).sqrt()
        return {"A": Trainable(root[:, None] * Vt), "B": Trainable(U * root)}

    def takes_out_start(self) -> bool:
        return True

    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        return y + self.alpha / self.r * (x @ p.A.T) @ p.B.T

    def low_rank(self, p: Parameters) -> tuple[Tensor, Tensor]:
        return self.alpha / self.r * p.B, p.A

    def count(self, m: int, n: int) -> int:
        return self.r * (m + n)
