"""rsLoRA: LoRA scaled by alpha / sqrt(r), so that the update keeps its size as the rank grows.

Paper    Kalajdzievski 2023, arXiv:2312.03732.
Formula  y = W x + (alpha / sqrt(r)) B A x       A: [r, in]   B: [out, r]   W: [out, in], frozen
Init     A ~ kaiming uniform, B = 0, so y = W x at step 0.
Cost     r (in + out) parameters per map; merges into W.
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
class RsLoRA(LinearMethod):
    name: ClassVar[str] = "rslora"
    title: ClassVar[str] = "rsLoRA"
    paper: ClassVar[str] = "Kalajdzievski 2023, arXiv:2312.03732"
    formula: ClassVar[str] = "W + (alpha / sqrt r) B A"

    r: int = 8
    alpha: float = 16.0

    def validate(self) -> None:
        super().validate()
        api.check_at_least(self, "r", 1)
        api.check_fraction(self, "alpha", high=math.inf)

    def check_map(self, module: str, shape: tuple[int, int]) -> None:
        api.check_rank(self, "r", shape, module)

    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        m, n = weight.shape
        A = api.kaiming_uniform((self.r, n), weight.dtype, context.generator)
        return {"A": Trainable(A), "B": Trainable(A.new_zeros(m, self.r))}

    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        return y + self.alpha / math.sqrt(self.r) * (x @ p.A.T) @ p.B.T

    def low_rank(self, p: Parameters) -> tuple[Tensor, Tensor]:
        return self.alpha / math.sqrt(self.r) * p.B, p.A

    def count(self, m: int, n: int) -> int:
        return self.r * (m + n)
