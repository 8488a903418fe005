"""Parts of a singular value decomposition: what a weight keeps of itself, and of its fine-tuning update.

LoRA-XS, arXiv:2405.17604, tables 6 to 8 (keep only some singular triplets of the fine-tuned weights) and 9 (keep only
the part of the update that lies in some singular directions of the pretrained weights).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from torch import Tensor

Part = Literal["top", "middle", "bottom"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class Factors:
    """The thin SVD of a weight [m, n], k = min(m, n): U [m, k], S [k] not increasing, Vt [k, n]."""

    U: Tensor
    S: Tensor
    Vt: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> Self:
        """Exact, in the weight's own precision, on its device."""
        return cls(*torch.linalg.svd(weight, full_matrices=False))

    def window(self, part: Part, fraction: float) -> slice:
        """The round(fraction k) neighbouring triplets with the largest, the middle or the smallest values."""
        size = len(self.S)
        kept = round(fraction * size)
        first = {"top": 0, "middle": (size - kept) // 2, "bottom": size - kept}[part]
        return slice(first, first + kept)

    def retained(self, window: slice) -> Tensor:
        """U_w S_w V_w^T [m, n]: the weight with the singular values outside the window set to zero."""
        return (self.U[:, window] * self.S[window]) @ self.Vt[window]

    def projected(self, update: Tensor, window: slice) -> Tensor:
        """U_w U_w^T update V_w V_w^T [m, n]: the part of an update that LoRA-XS on these vectors could have learned."""
        U, Vt = self.U[:, window], self.Vt[window]
        return U @ (U.T @ update @ Vt.T) @ Vt
