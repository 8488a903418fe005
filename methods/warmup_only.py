"""Warm-up only: the full fine-tuning that a suite starts its rows from, and nothing after it.

Formula  y = W' x, W' the weight at the end of the warm-up, frozen; its head likewise.
Init     the warm-up's checkpoint.
Cost     no trainable parameters: what the other rows gain over this one is the method's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api import AttachContext, Method

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class WarmupOnly(Method):
    name: ClassVar[str] = "warmup_only"
    title: ClassVar[str] = "Warm-up only"
    formula: ClassVar[str] = "W after the warm-up"
    trains_head: ClassVar[bool] = False
    control: ClassVar[bool] = True
    requires_start: ClassVar[str] = "warmup"

    def attach(self, model: nn.Module, context: AttachContext) -> None:
        """Leave everything frozen."""
