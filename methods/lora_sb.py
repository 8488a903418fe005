"""LoRA-SB: LoRA-XS on bases, and from a start, that approximate the first step of full fine-tuning.

Paper    Ponkshe et al. 2024, arXiv:2411.19557.
Formula  y = W x + B R A x       A = V_r^T: [r, in]   R: [r, r]   B = U_r: [out, r]   D = U S V^T: [out, in]
         D = -eta sign(G), AdamW's first step: G is the loss gradient of W summed over the first samples, eta the
         learning rate of the first step.
Init     A and B frozen, R = diag(S_r): the update starts at the best rank-r part of D, not at zero.
Cost     r^2 parameters per map, one gradient estimate and one SVD of D; A and B are stored; merges into W.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness import api
from harness.api import Frozen, GradientRequest, InitContext, LinearMethod, Parameters, Trainable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LoraSB(LinearMethod):
    name: ClassVar[str] = "lora_sb"
    title: ClassVar[str] = "LoRA-SB"
    paper: ClassVar[str] = "Ponkshe et al. 2024, arXiv:2411.19557"
    formula: ClassVar[str] = "W + U_r R V_r^T, U S V^T = -eta sign(G)"

    targets: str = "q,v,o,down"
    r: int = 16
    n_init: int = 0
    """Training samples in the gradient estimate; 0 takes 0.1 % of the training rows, at least one."""
    grad_mode: str = "sign"
    """"sign" for AdamW's first step; "raw" (D = -eta G, G summed over the samples) for SGD's."""
    dropout_in_estimate: bool = True
    """Leave the backbone's dropout on while the gradient is estimated, as the authors' code does."""
    estimate: str = api.later("gradient")
    """What D comes from: the "gradient", or a random "kaiming" matrix (the paper's ablation: no estimate at all)."""
    noise: float = api.later(0.0)
    """Standard deviation of Gaussian noise added to D (the paper's ablation)."""
    noise_unit: str = api.later("absolute")
    """Whether `noise` is "absolute" or in units of eta ("entry"), the size of D's entries where these are signs."""
    split: str = "R"
    """Where the singular values go: "R", or "B" (B = U_r S_r, R = I), which loses the orthonormal basis."""

    def validate(self) -> None:
        super().validate()
        api.check_at_least(self, "r", 1)
        api.check_at_least(self, "n_init", 0)
        api.check_choice(self, "grad_mode", ("sign", "raw"))
        api.check_choice(self, "split", ("R", "B"))
        api.check_choice(self, "estimate", ("gradient", "kaiming"))
        api.check_choice(self, "noise_unit", ("absolute", "entry"))
        api.check_at_least(self, "noise", 0)

    def gradient_request(self, train_rows: int) -> GradientRequest | None:
        if self.estimate == "kaiming":
            return None
        samples = self.n_init or max(1, round(0.001 * train_rows))
        return GradientRequest(min(samples, train_rows), self.dropout_in_estimate)

    def check_map(self, module: str, shape: tuple[int, int]) -> None:
        api.check_rank(self, "r", shape, module)

    def exemptions(self) -> Mapping[str, str]:
        return {"starts_as_backbone": "it starts from the first step of full fine-tuning that it estimates"}

    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        import torch

        D = self._first_step(weight, context)
        if self.noise:
            unit = context.first_step_learning_rate if self.noise_unit == "entry" else 1.0
            D = D + self.noise * unit * torch.randn(D.shape, dtype=D.dtype, generator=context.generator).to(D.device)
        U, S, Vt = torch.linalg.svd(D, full_matrices=False)
        B, S, A = U[:, : self.r], S[: self.r], Vt[: self.r]
        B, R = (B, S.diag()) if self.split == "R" else (B * S, torch.eye(self.r, dtype=S.dtype, device=S.device))
        return {"A": Frozen(A, stored=True), "B": Frozen(B, stored=True), "R": Trainable(R)}

    def _first_step(self, weight: Tensor, context: InitContext) -> Tensor:
        """D [m, n]."""
        if self.estimate == "kaiming":
            m, n = weight.shape
            return api.kaiming_uniform((m, n), weight.dtype, context.generator).to(weight.device)
        if context.gradient is None:
            raise ValueError(f"{self.name}: no gradient of {context.module} was estimated")
        G = context.gradient.to(weight)
        return -context.first_step_learning_rate * (G.sign() if self.grad_mode == "sign" else G)

    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        return y + (x @ p.A.T) @ p.R.T @ p.B.T

    def low_rank(self, p: Parameters) -> tuple[Tensor, Tensor]:
        return p.B @ p.R, p.A

    def count(self, m: int, n: int) -> int:
        return self.r**2
