"""LoRA+: LoRA whose B learns at a higher rate than its A.

Paper    Hayou et al. 2024, arXiv:2402.12354.
Formula  y = W x + (alpha / r) B A x       A: [r, in]   B: [out, r]   W: [out, in], frozen
         learning rate of B = ratio * learning rate of A
Init     A ~ kaiming uniform, B = 0, as in LoRA.
Cost     r (in + out) parameters per map; merges into W.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness import api
from harness.api import Frozen, InitContext, LinearMethod, ParameterGroup, Parameters, Trainable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LoRAPlus(LinearMethod):
    name: ClassVar[str] = "lora_plus"
    title: ClassVar[str] = "LoRA+"
    paper: ClassVar[str] = "Hayou et al. 2024, arXiv:2402.12354"
    formula: ClassVar[str] = "W + (alpha / r) B A, lr(B) = ratio lr(A)"

    r: int = 8
    alpha: float = 16.0
    ratio: float = 16.0
    """Learning rate of B over that of A; the paper's advice is about 16."""

    def validate(self) -> None:
        super().validate()
        api.check_at_least(self, "r", 1)
        api.check_fraction(self, "alpha", high=math.inf)
        api.check_at_least(self, "ratio", 1)

    def check_map(self, module: str, shape: tuple[int, int]) -> None:
        api.check_rank(self, "r", shape, module)

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        return (ParameterGroup((".adapter.B",), self.ratio),)

    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        m, n = weight.shape
        A = api.kaiming_uniform((self.r, n), weight.dtype, context.generator)
        return {"A": Trainable(A), "B": Trainable(A.new_zeros(m, self.r))}

    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        return y + self.alpha / self.r * (x @ p.A.T) @ p.B.T

    def low_rank(self, p: Parameters) -> tuple[Tensor, Tensor]:
        return self.alpha / self.r * p.B, p.A

    def count(self, m: int, n: int) -> int:
        return self.r * (m + n)
