"""QR-LoRA: train one coefficient per leading direction of the pivoted QR of each weight.

Paper    Liang and Bharadwaj 2025, arXiv:2508.21810, section 2.2 and equation 4.
Formula  y = W x + Q_r diag(lam) R_r P^T x       Q_r: [out, r]   lam: [r]   R_r: [r, in]   W P = Q R, P a permutation
         r is the smallest rank whose sum of R_ii^2 reaches tau times the whole, map by map.
Init     Q_r and R_r P^T frozen, lam = 0, so y = W x at step 0.
Cost     r parameters per map (known once W is), one pivoted QR of W; merges into W.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness import api
from harness.api import Frozen, InitContext, LinearMethod, Parameters, Trainable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class QrLoRA(LinearMethod):
    name: ClassVar[str] = "qr_lora"
    title: ClassVar[str] = "QR-LoRA"
    paper: ClassVar[str] = "Liang and Bharadwaj 2025, arXiv:2508.21810"
    formula: ClassVar[str] = "W + Q_r diag(lam) R_r P^T"

    layers: str = "last:4"
    tau: float = 0.5
    rank_rule: str = "energy"
    """Smallest r whose sum of R_ii^2 ("energy") or |R_ii| ("absolute") reaches tau times the whole, or the number of
    |R_ii| > tau |R_11| ("relative"): the three rules in the paper's text."""
    unpivot: bool = True
    """Undo the column permutation. The paper's formula omits P^T; without it the inputs do not match W's."""
    transpose: bool = False
    """Factor W^T instead of W, which gives other directions and ranks."""
    basis_from: str = "pretrained"
    """Weight to factor: the "pretrained" one, or the one after "warmup"; the paper does not say."""
    lam_init: float = 0.0

    def validate(self) -> None:
        super().validate()
        api.check_fraction(self, "tau")
        api.check_choice(self, "rank_rule", ("energy", "absolute", "relative"))
        api.check_choice(self, "basis_from", ("pretrained", "warmup"))

    def rank(self, diagonal: Tensor) -> int:
        """Directions kept, at least one, given the diagonal [k] of R, whose magnitudes do not increase."""
        size = diagonal.abs().double()
        if self.rank_rule == "relative":
            return max(1, int((size > self.tau * size[0]).sum()))
        reached = (size**2 if self.rank_rule == "energy" else size).cumsum(0)
        return int((reached < self.tau * reached[-1]).sum()) + 1

    def exemptions(self) -> Mapping[str, str]:
        return {"starts_as_backbone": f"lam_init = {self.lam_init}"} if self.lam_init else {}

    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        source = context.pretrained.to(weight) if self.basis_from == "pretrained" else weight
        Q, R, P = context.decompositions.pivoted_qr(source.T if self.transpose else source)
        r = self.rank(R.diagonal())
        Q, R = Q[:, :r], R[:r]
        if self.unpivot:
            R = R[:, P.argsort()]
        if self.transpose:
            Q, R = R.T, Q.T
        return {"Q": Frozen(Q), "R": Frozen(R), "lam": Trainable(R.new_full((r,), self.lam_init))}

    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        return y + (x @ p.R.T * p.lam) @ p.Q.T

    def low_rank(self, p: Parameters) -> tuple[Tensor, Tensor]:
        return p.Q * p.lam, p.R

    def count(self, m: int, n: int) -> None:
        """None: the rank depends on the weight's values."""
