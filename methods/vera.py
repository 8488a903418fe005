"""VeRA: random projections that all maps share; learn only how their outputs are scaled.

Paper    Kopiczko et al. 2024, arXiv:2310.11454.
Formula  y = W x + diag(b) B diag(d) A x       A: [r, in]   B: [out, r], frozen   d: [r]   b: [out]
Init     A, B ~ kaiming uniform with gain sqrt 2, drawn once at the largest map's size and cut to each map's;
         d = d_init, b = 0, so y = W x at step 0.
Cost     out + r parameters per map; A and B follow from a seed; merges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness import api
from harness.api import Frozen, InitContext, LinearMethod, Parameters, Trainable

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class VeRA(LinearMethod):
    name: ClassVar[str] = "vera"
    title: ClassVar[str] = "VeRA"
    paper: ClassVar[str] = "Kopiczko et al. 2024, arXiv:2310.11454"
    formula: ClassVar[str] = "W + diag(b) B diag(d) A"

    r: int = 256
    d_init: float = 0.1
    projection_seed: int = 0
    """Seed of A and B: the same for every trial seed, as in PEFT."""

    def validate(self) -> None:
        super().validate()
        api.check_at_least(self, "r", 1)

    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        import torch

        m, n = weight.shape
        shared, (largest_m, largest_n) = context.common.tensors, context.common.largest
        if not shared:
            generator = torch.Generator().manual_seed(self.projection_seed)
            shared["A"] = _projection(self.r, largest_n, generator).to(weight)
            shared["B"] = _projection(largest_m, self.r, generator).to(weight)
        A, B = shared["A"][:, :n], shared["B"][:m]
        d, b = weight.new_full((self.r,), self.d_init), weight.new_zeros(m)
        return {"A": Frozen(A), "B": Frozen(B), "d": Trainable(d), "b": Trainable(b)}

    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        return y + (x @ p.A.T * p.d) @ p.B.T * p.b

    def low_rank(self, p: Parameters) -> tuple[Tensor, Tensor]:
        return p.b[:, None] * p.B * p.d, p.A

    def count(self, m: int, n: int) -> int:
        return m + self.r


def _projection(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """[rows, columns] ~ U(-bound, bound), bound = sqrt(6 / columns): kaiming uniform with gain sqrt 2."""
    import torch

    bound = (6 / columns) ** 0.5
    return torch.empty(rows, columns).uniform_(-bound, bound, generator=generator)
