"""BitFit: train the biases of the backbone, nothing else.

Paper    Ben Zaken et al. 2022, arXiv:2106.10199.
Formula  y = W x + b, layer norms included       W frozen, every bias b: [out] trained
Init     the pretrained biases.
Cost     one parameter per output of every map and layer norm that has a bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api import AttachContext, Method, require

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class BitFit(Method):
    name: ClassVar[str] = "bitfit"
    title: ClassVar[str] = "BitFit"
    paper: ClassVar[str] = "Ben Zaken et al. 2022, arXiv:2106.10199"
    formula: ClassVar[str] = "W x + b, every b trained"

    def exemptions(self) -> Mapping[str, str]:
        return {"works_on_decoder": "Llama has no biases"}

    def attach(self, model: nn.Module, context: AttachContext) -> None:
        biases = [
            parameter
            for name, parameter in model.named_parameters()
            if name.endswith("bias") and not name.startswith(tuple(f"{head}." for head in context.head))
        ]
        require(self, bool(biases), "this backbone has no biases; take a method that adapts linear maps.")
        for bias in biases:
            bias.requires_grad_(True)
