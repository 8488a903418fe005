"""Where the model of one trial lies, and which of its rows this process computes. Here: all of both, in one process.

`harness.sharding` has the other answer. What a trial does is the same under both; only what is said here differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.api import Kind
from harness.compiling import PLAIN, Way
from harness.devices import pick_device
from harness.settings import Settings

if TYPE_CHECKING:
    from harness.adapt import Attachment
    from harness.bench import Stage


class Placement:
    """One process, one device, the whole model."""

    way: Way = PLAIN
    """How training steps are computed."""
    salt: tuple[str, ...] = ()
    """Tells apart the dropout streams of processes that compute different rows of one batch."""
    leads: bool = True
    """Whether this process writes what all of them have computed."""

    def device(self, settings: Settings) -> torch.device:
        """What this process computes on."""
        return pick_device(settings.device)

    def take_turn(self) -> None:
        """Return when this process may load the whole model; `placed` ends its turn."""

    def loads_on(self, device: torch.device) -> torch.device:
        """Where the model is loaded, started and attached to."""
        return device

    def placed(self, stage: Stage, attachment: Attachment, device: torch.device) -> Stage:
        """The stage with its attached model where it is trained."""
        return stage

    def answering(self, model: nn.Module, kind: Kind) -> nn.Module:
        """The model as evaluation calls it: its answers are those to all rows that it is given."""
        return model

    def whole(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The tensors with all their elements."""
        return tensors

    def largest(self, count: int | None) -> int | None:
        """The largest of what all processes say, None if one of them does not know."""
        return count


ALONE = Placement()
