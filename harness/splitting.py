"""A batch in parts of similar length: the same rows and the same gradient, less padding.

The loss of a step is a mean over its rows, so it may be summed over parts of them (`loop.fit` weighs each part by what
its loss is a mean over). Which rows share a batch stays random; only the arithmetic is ordered by length. With dropout
on, masks are drawn for each part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

WIDTH_TOKENS = 7680
"""Hidden size times the tokens that take one core as long as starting one more part: 66 to 48 tokens were measured at a
hidden size of 128, 24 to 15 at 384; with two cores 160 and 57."""


def overhead_for(model: nn.Module) -> float:
    """Tokens that take as long as starting one more part of a step."""
    hidden: int = getattr(getattr(model, "config", None), "hidden_size", 0) or 512
    return torch.get_num_threads() * WIDTH_TOKENS / hidden


def pays_on(device: torch.device) -> bool:
    """Whether parts of a batch keep the device busy: a CPU, yes; a GPU waits for launches, and pads instead."""
    return device.type == "cpu"


def by_length(rows: Sequence[int], lengths: Sequence[int], overhead: float) -> list[list[int]]:
    """`rows` in order of length, cut where tokens with padding plus `overhead` for each part are fewest.

    lengths: tokens of every row of the split; the best of all cuts, by dynamic programming over the sorted rows.
    """
    order = sorted(rows, key=lengths.__getitem__)
    cost = np.zeros(len(order) + 1)
    begins = np.zeros(len(order) + 1, dtype=np.int64)
    for end in range(1, len(order) + 1):
        through = cost[:end] + (end - np.arange(end)) * lengths[order[end - 1]] + overhead
        begins[end] = int(through.argmin())
        cost[end] = through[begins[end]]
    parts: list[list[int]] = []
    end = len(order)
    while end:
        begin = int(begins[end])
        parts.append(order[begin:end])
        end = begin
    return parts[::-1]
