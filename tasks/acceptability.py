"""Acceptability: is this sentence English?

Half of the sentences carry one violation: of agreement between subject and verb (across an attractor, half
of the time), of number between determiner and noun, of verb form, of tense, or of word order. Good and bad
sentences are about different events.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.api import DataRoot, Task, Text
from tasks._content.events import World, sentence
from tasks._content.splits import Split
from tasks._content.syntax import VIOLATIONS, draw_clause, words


class Acceptability(Task):
    """Single sentences, two classes: the shape of CoLA."""

    name = "acceptability"
    title = "Acceptability"
    kind = "classification"
    labels = ("unacceptable", "acceptable")
    metrics = ("matthews",)
    columns = ("sentence",)
    source = "generated, tasks/acceptability.py (seed 11)"

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        return {"train": _frame("train", 2400), "test": _frame("test", 400)}

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["sentence"])


def _frame(split: Split, rows: int) -> pd.DataFrame:
    world = World("village", split, random.Random(f"acceptability/{split}/11"))
    return pd.DataFrame([_row(world, f"{split}-{i}") for i in range(rows)])


def _row(world: World, row_id: str) -> dict[str, Any]:
    label = world.rng.randrange(2)
    violation = None if label else world.rng.choice(VIOLATIONS)
    return {"id": row_id, "sentence": sentence(words(world, draw_clause(world, violation), violation)), "label": label}
