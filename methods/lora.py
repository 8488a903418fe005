"""LoRA: learn a low-rank update of each frozen weight.

Paper    Hu et al. 2021, arXiv:2106.09685, section 4.1.
Formula  y = W x + (alpha / r) B A x       A: [r, in]   B: [out, r]   W: [out, in], frozen
Init     A ~ kaiming uniform (the authors' code) or N(0, 1/r^2) (the paper's Gaussian, as PEFT scales it); B = 0,
         so y = W x at step 0.
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
class LoRA(LinearMethod):
    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "LoRA"
    paper: ClassVar[str] = "Hu et al. 2021, arXiv:2106.09685"
    formula: ClassVar[str] = "W + (alpha / r) B A"

    r: int = 8
    alpha: float = 16.0
    a_init: str = "kaiming"
    """How A starts: "kaiming" or "gaussian"."""

    def validate(self) -> None:
        super().validate()
        api.check_at_least(self, "r", 1)
        api.check_fraction(self, "alpha", high=math.inf)
        api.check_choice(self, "a_init", ("kaiming", "gaussian"))

    def check_map(self, module: str, shape: tuple[int, int]) -> None:
        api.check_rank(self, "r", shape, module)

    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        import torch

        m, n = weight.shape
        if self.a_init == "kaiming":
            A = api.kaiming_uniform((self.r, n), weight.dtype, context.generator)
        else:
            A = torch.randn(self.r, n, dtype=weight.dtype, generator=context.generator) / self.r
        return {"A": Trainable(A), "B": Trainable(A.new_zeros(m, self.r))}

    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        return y + self.alpha / self.r * (x @ p.A.T) @ p.B.T

    def low_rank(self, p: Parameters) -> tuple[Tensor, Tensor]:
        return self.alpha / self.r * p.B, p.A

    def count(self, m: int, n: int) -> int:
        return self.r * (m + n)
