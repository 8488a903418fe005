"""Head only: the backbone stays frozen, the task head alone is trained.

Formula  y = W x, W frozen, everywhere below the head.
Init     the head as the harness draws it; a decoder has no fresh head, so its pretrained output embedding is trained
         (where it is tied to the input embedding, that one moves with it).
Cost     no adapter parameters with a fresh head; the output embedding's on a decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from harness.api import AttachContext, Method, require

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class HeadOnly(Method):
    name: ClassVar[str] = "head_only"
    title: ClassVar[str] = "Head only"
    formula: ClassVar[str] = "W"
    control: ClassVar[bool] = True
    packable: ClassVar[bool] = True

    def attach(self, model: nn.Module, context: AttachContext) -> None:
        """Nothing beside a fresh head, which the harness trains; else unfreeze the output embedding."""
        if context.head:
            return
        embedding = cast("Any", model).get_output_embeddings()
        require(self, embedding is not None, "this backbone has neither a head nor an output embedding to train.")
        embedding.requires_grad_(True)
