"""SVD-LoRA: LoRA whose first k components start from the leading singular triplets of the weight.

Paper    baseline in Liang and Bharadwaj 2025, arXiv:2508.21810, which leaves `split` and `residual` open.
Formula  y = W' x + s B A x       A: [r, in]   B: [out, r]   s = alpha / r   W = U S V^T: [out, in]
         W' = W, frozen; with `residual` W' = W - s B0 A0, and residual with k = r is PiSSA.
Init     components 1..k: s B0 A0 = U_k S_k V_k^T; components k+1..r as in LoRA (A kaiming uniform, B = 0).
Cost     r (in + out) parameters per map, one SVD of W; merges.
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
class SvdLoRA(LinearMethod):
    name: ClassVar[str] = "svd_lora"
    title: ClassVar[str] = "SVD-LoRA"
    paper: ClassVar[str] = "baseline in Liang and Bharadwaj 2025, arXiv:2508.21810"
    formula: ClassVar[str] = "W + (alpha / r) B A, started at U_k S_k V_k^T"

    r: int = 2
    k: int = 1
    alpha: float = 2.0
    split: str = "sqrt"
    """Where the singular values go: half each ("sqrt"), or all into "B" or "A"."""
    residual: bool = False
    """Take the initial update out of W, so that y = W x at step 0."""

    def validate(self) -> None:
        super().validate()
        api.check_at_least(self, "k", 1)
        api.check_at_least(self, "r", self.k)
        api.check_fraction(self, "alpha", high=math.inf)
        api.check_choice(self, "split", ("sqrt", "B", "A"))
        advice = "dropout must be 0 with residual: it would drop a part of the pretrained weight."
        api.require(self, not self.residual or self.dropout == 0, advice)

    def check_map(self, module: str, shape: tuple[int, int]) -> None:
        api.check_rank(self, "r", shape, module)

    def exemptions(self) -> Mapping[str, str]:
        added = "the leading singular components are added on top of W (residual = true takes them out)"
        return {} if self.residual else {"starts_as_backbone": added}

    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        m, n = weight.shape
        U, S, Vt = context.decompositions.svd(weight, self.k)
        A = api.kaiming_uniform((self.r, n), weight.dtype, context.generator).to(weight.device)
        B = A.new_zeros(m, self.r)
        share = {"A": 0.0, "sqrt": 0.5, "B": 1.0}[self.split]
        S = S * self.r / self.alpha
        B[:, : self.k] = U * S**share
        A[: self.k] = S[:, None] ** (1 - share) * Vt
        return {"A": Trainable(A), "B": Trainable(B)}

    def takes_out_start(self) -> bool:
        return self.residual

    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        return y + self.alpha / self.r * (x @ p.A.T) @ p.B.T

    def low_rank(self, p: Parameters) -> tuple[Tensor, Tensor]:
        return self.alpha / self.r * p.B, p.A

    def count(self, m: int, n: int) -> int:
        return self.r * (m + n)
