"""FT: every parameter of the backbone is trained.

Paper    Devlin et al. 2019, arXiv:1810.04805, section 3.2.
Formula  y = (W + dW) x       dW: [out, in], any matrix; embeddings, norms and biases likewise
Init     dW = 0.
Cost     all parameters; nothing to merge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api import AttachContext, Method

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FT(Method):
    name: ClassVar[str] = "ft"
    title: ClassVar[str] = "FT"
    paper: ClassVar[str] = "Devlin et al. 2019, arXiv:1810.04805"
    formula: ClassVar[str] = "W + dW, dW unconstrained"

    def attach(self, model: nn.Module, context: AttachContext) -> None:
        """Unfreeze everything; the harness counts the head apart."""
        model.requires_grad_(True)
