"""Batches of many trials as one, and each trial's own loss from the outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.api import Kind
from harness.encoded import IGNORED
from harness.loop import Batch


def merge(batches: Sequence[Batch | None], pad_id: int) -> dict[str, Tensor]:
    """One batch of all trials' rows, [trials * rows, tokens]: equally many rows each, one length.

    What is added is padding: tokens that attention masks, and rows without a label (None: all of a trial's rows).
    """
    given = [batch for batch in batches if batch is not None]
    rows, length = (max(batch["input_ids"].shape[i] for batch in given) for i in (0, 1))
    fillers = {"input_ids": pad_id, "labels": IGNORED}
    merged: dict[str, Tensor] = {}
    for name, like in given[0].items():
        filler = float("nan") if like.is_floating_point() else fillers.get(name, 0)
        shape = (len(batches), rows) if like.ndim == 1 else (len(batches), rows, length)
        merged[name] = torch.full(shape, filler, dtype=like.dtype)
        for trial, batch in enumerate(batches):
            if batch is not None:
                value = batch[name]
                place = merged[name][trial][: len(value)]
                (place if value.ndim == 1 else place[:, : value.shape[1]]).copy_(value)
    mask = merged["attention_mask"]
    mask[..., 0].masked_fill_(mask.sum(-1) == 0, 1)  # attention over nothing is not a number
    return {name: value.flatten(0, 1) for name, value in merged.items()}


def trial_losses(logits: Tensor, labels: Tensor, items: Tensor, kind: Kind) -> Tensor:
    """Each trial's summed loss over its labels, divided by `items` [trials]: [trials].

    logits [trials * rows, classes], [trials * rows, 1] for regression, or [trials * rows, tokens, vocabulary];
    labels as `merge` makes them. The loss is the one of transformers' models.
    """
    trials = len(items)
    if kind == "regression":
        real = ~labels.isnan()
        errors = (logits[:, 0].float() - labels.masked_fill(~real, 0)).square() * real
        return errors.view(trials, -1).sum(1) / items
    if kind == "generation":
        logits, labels = logits[:, :-1], labels[:, 1:]
    losses = nn.functional.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view(trials, -1).sum(1) / items
