"""Which split a piece of content belongs to: decided by its hash, so that no two splits can share it."""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["pretrain", "train", "test"]

# Shares of 256: half of all content is for pretraining text, the rest for the tasks.
_PRETRAIN_BELOW = 128
_TRAIN_BELOW = 205


def split_of(key: str) -> Split:
    """The one split in which the content named by `key` may appear."""
    bucket = hashlib.sha256(key.encode()).digest()[0]
    if bucket < _PRETRAIN_BELOW:
        return "pretrain"
    return "train" if bucket < _TRAIN_BELOW else "test"
