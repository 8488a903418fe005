"""How many trials at a time."""

from __future__ import annotations

import torch

from harness.bench import Stage
from harness.pack.slots import Slot
from harness.pack.solo import times_of
from harness.trial import Recipe

MOST = 64
STEP_TOKENS = {"cpu": 256}
"""Tokens of a step with which a kind of device is busy. On a CPU, 24 trials of 16 short rows took 8 % less together
than alone, which measuring them alone uses up unless every row has many seeds."""
STEP_TOKENS_ELSEWHERE = 65536
"""Not measured yet."""
USABLE = 0.8
"""Share of the free memory that a pack may take."""


def paying_width(stage: Stage, recipe: Recipe) -> int:
    """Trials whose steps together keep the device busy; 1 where one alone does."""
    lengths = sorted(stage.encoded.lengths)
    tokens = lengths[len(lengths) * 3 // 4] * recipe.batch_size / recipe.accumulation
    limit = STEP_TOKENS.get(stage.device.type, STEP_TOKENS_ELSEWHERE)
    return max(1, min(MOST, int(limit / tokens)))


def fitting(slots: list[Slot]) -> int:
    """How many of these trials fit into memory together, at least one, by what a step of each was seen to take."""
    free = USABLE * _free_bytes(slots[0].stage.device)
    for number, slot in enumerate(slots):
        free -= times_of(slot).step_growth or 0
        if free < 0:
            return max(1, number)
    return len(slots)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    return int(psutil.virtual_memory().available)
