"""DoRA: LoRA for each weight's direction, a learned length for each of its rows.

Paper    Liu et al. 2024, arXiv:2402.09353; the norm is held fixed in the backward pass (section 4.3).
Formula  y = M / |V| * (V x), V = W + s B A      A: [r, in]   B: [out, r]   M: [out]   s = alpha / r   |V|: norm of rows
         Dropout acts on the input of A alone.
Init     A ~ kaiming uniform, B = 0, M = |W|, so y = W x at step 0.
Cost     r (in + out) + out parameters per map; each step computes V; merges.
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
class DoRA(LinearMethod):
    name: ClassVar[str] = "dora"
    title: ClassVar[str] = "DoRA"
    paper: ClassVar[str] = "Liu et al. 2024, arXiv:2402.09353"
    formula: ClassVar[str] = "M (W + s B A) / |W + s B A|"
    scales_output: ClassVar[bool] = True

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
        M = weight.norm(dim=1)
        return {"A": Trainable(A), "B": Trainable(A.new_zeros(m, self.r)), "M": Trainable(M), "W": Frozen(weight)}

    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        length = self._direction(p.W, p).norm(dim=1).detach()
        scaled: Tensor = p.M / length * (y + self.alpha / self.r * (x @ p.A.T) @ p.B.T)
        return scaled

    def merge(self, weight: Tensor, p: Parameters) -> Tensor:
        V = self._direction(weight, p)
        merged: Tensor = (p.M / V.norm(dim=1))[:, None] * V
        return merged

    def count(self, m: int, n: int) -> int:
        return self.r * (m + n) + m

    def _direction(self, weight: Tensor, p: Parameters) -> Tensor:
        return weight + self.alpha / self.r * p.B @ p.A
