"""The trainable tensors of like trials as the rows of one matrix, and the optimizer that works on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from harness.pack.slots import Slot
from harness.prefetch import sent

BETAS = (0.9, 0.999)
EPSILON = 1e-8
"""torch.optim.AdamW's defaults, which a trial alone is trained with."""
CLIP_EPSILON = 1e-6
"""As in torch.nn.utils.clip_grad_norm_."""


@dataclass(frozen=True)
class _Columns:
    """Neighbouring tensors that learn at the same rates."""

    place: slice
    rates: Tensor
    """[trials, 1], before the schedule."""


class Block:
    """The trainable scalars of k trials with tensors of the same names and shapes, as a matrix [k, scalars].

    A row belongs to one trial: its values, gradients and moments touch no other row. The trials' own parameters
    become views of their rows, so that each trial's modules always hold what it has learned.
    """

    def __init__(self, slots: Sequence[Slot], adopt: bool = True) -> None:
        self.slots = list(slots)
        first = slots[0].parameters
        device = next(iter(first.values())).device
        self.values = torch.stack([slot.flat() for slot in slots])
        self.gradients = torch.zeros_like(self.values)
        self._leaves: dict[str, Tensor] = {}
        start = 0
        for name, parameter in first.items():
            place = slice(start, start + parameter.numel())
            leaf = self.values[:, place].view(len(slots), *parameter.shape).detach().requires_grad_()
            leaf.grad = self.gradients[:, place].view(len(slots), *parameter.shape)
            self._leaves[name] = leaf
            start = place.stop
        self._columns = _columns(slots, device)
        self._decay = _column([slot.recipe.weight_decay for slot in slots], device)
        self._clip = _column([slot.recipe.clip or torch.inf for slot in slots], device)
        self._moments = torch.stack([slot.moments for slot in slots], dim=1)  # [2, k, scalars]
        if adopt:
            for row, slot in enumerate(slots):
                slot.adopt(self.values[row], self._moments[:, row])

    def leaf(self, name: str) -> Tensor:
        """The tensor of that name of all trials [k, ...]; its gradient is a part of `gradients`."""
        return self._leaves[name]

    @torch.no_grad()
    def update(self) -> None:
        """Clip each trial's gradient by its own norm, then one AdamW step for each at its own rate and step number."""
        device = self.values.device
        norms = self.gradients.norm(dim=1, keepdim=True)
        self.gradients.mul_((self._clip / (norms + CLIP_EPSILON)).clamp_(max=1.0))
        steps = [slot.progress.steps + 1 for slot in self.slots]
        factors = _column([slot.factor(step - 1) for slot, step in zip(self.slots, steps, strict=True)], device)
        first, second = self._moments
        first.lerp_(self.gradients, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(self.gradients, self.gradients, value=1 - BETAS[1])
        corrections = [_column([1 - beta**step for step in steps], device) for beta in BETAS]
        for columns in self._columns:
            rates = columns.rates * factors
            here = self.values[:, columns.place]
            here.mul_(1 - rates * self._decay)
            spread = (second[:, columns.place].sqrt() / corrections[1].sqrt()).add_(EPSILON)
            here.sub_(rates / corrections[0] * first[:, columns.place] / spread)
        self.gradients.zero_()


def _columns(slots: Sequence[Slot], device: torch.device) -> list[_Columns]:
    names = list(slots[0].parameters)
    sizes = [slots[0].parameters[name].numel() for name in names]
    rates = [tuple(slot.rates[name] for slot in slots) for name in names]
    starts = [0, *torch.tensor(sizes).cumsum(0).tolist()]
    changes = [0, *(i for i in range(1, len(names)) if rates[i] != rates[i - 1]), len(names)]
    return [
        _Columns(slice(starts[begin], starts[end]), _column(rates[begin], device)) for begin, end in pairwise(changes)
    ]


def _column(values: Sequence[float], device: torch.device) -> Tensor:
    return sent(torch.tensor(values, dtype=torch.float32), device)[:, None]
