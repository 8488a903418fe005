"""Sequence packing: a batch of rows as one long row without padding, each row attending to itself alone.

Positions begin again with every row; from that transformers makes a block-diagonal attention mask. An architecture that
does not look at positions would mix the rows silently, so the first batch is tried both ways before any training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness import loop
from harness.encoded import Encoded, Ragged
from harness.errors import UserError

_TOLERANCE = 1e-3
"""Largest relative difference of the two losses that counts as rounding (half precision included)."""


def pack(encoded: Encoded, indices: Sequence[int]) -> dict[str, Tensor]:
    """One batch of a generation task as one row: input_ids, labels and position_ids, int64 [1, tokens] each.

    The first label of every row is ignored already: it belongs to the prompt. So no row predicts the next one's token.
    """
    labels = encoded.labels
    assert isinstance(labels, Ragged), "rows of a generation task have one label per token"
    rows = [encoded.input_ids[index] for index in indices]
    return {
        "input_ids": torch.tensor([[token for row in rows for token in row]]),
        "labels": torch.tensor([[label for index in indices for label in labels[index]]]),
        "position_ids": torch.tensor([[position for row in rows for position in range(len(row))]]),
    }


@contextlib.contextmanager
def without_cache(model: nn.Module) -> Iterator[None]:
    """No key-value cache in training steps: they never read it, and with one transformers takes packed rows for one."""
    config: Any = model.config
    if not getattr(config, "use_cache", False):
        yield
        return
    config.use_cache = False
    try:
        yield
    finally:
        config.use_cache = True


def check_apart(model: nn.Module, packed: Mapping[str, Tensor], padded: Mapping[str, Tensor]) -> None:
    """Raise UserError unless a packed batch has the loss of the padded one: the rows do not see each other."""
    device = next(model.parameters()).device
    with loop.evaluating(model), without_cache(model):
        losses = [
            float(model(**{name: value.to(device) for name, value in batch.items()}).loss) for batch in (packed, padded)
        ]
    if abs(losses[0] - losses[1]) > _TOLERANCE * max(1.0, abs(losses[1])):
        raise UserError(
            f"{type(model).__name__} does not keep packed rows apart (loss {losses[0]:.4g} instead of "
            f"{losses[1]:.4g}); set packing = false."
        )
