"""OLoRA: train the leading part of each weight's QR factorisation, freeze the rest.

Paper    Bueyuekakyuez 2024, arXiv:2406.01775.
Formula  y = (W - s B0 A0) x + s B A x       A: [r, in]   B: [out, r]   s = alpha / r   W = Q R: [out, in]
Init     B0 = first r columns of Q, A0 = first r rows of R (no pivoting), so y = W x at step 0.
Cost     r (in + out) parameters per map, one QR of W; merges.
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
class OLoRA(LinearMethod):
    name: ClassVar[str] = "olora"
    title: ClassVar[str] = "OLoRA"
    paper: ClassVar[str] = "Bueyuekakyuez 2024, arXiv:2406.01775"
    formula: ClassVar[str] = "(W - s B0 A0) + s B A, B0 A0 = Q_r R_r"

    r: int = 8
    alpha: float = 8.0

    def validate(self) -> None:
        super().validate()
        api.check_at_least(self, "r", 1)
        api.check_fraction(self, "alpha", high=math.inf)
        api.require(self, self.dropout == 0, "dropout must be 0: it would drop a part of the pretrained weight.")

    def check_map(self, module: str, shape: tuple[int, int]) -> None:
        api.check_rank(self, "r", shape, module)

    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        import torch

        Q, R = torch.linalg.qr(weight)
        return {"A": Trainable(R[: self.r]), "B": Trainable(Q[:, : self.r])}

    def takes_out_start(self) -> bool:
        return True

    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        return y + self.alpha / self.r * (x @ p.A.T) @ p.B.T

    def low_rank(self, p: Parameters) -> tuple[Tensor, Tensor]:
        return self.alpha / self.r * p.B, p.A

    def count(self, m: int, n: int) -> int:
        return self.r * (m + n)
