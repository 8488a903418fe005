"""Entailment: does the second sentence follow from the first, contradict it, or neither?

Both are about the same event. The second one leaves parts out, words them otherwise or names the kind of
thing (entailment); adds a part (neutral); or denies or exchanges one (contradiction). A quarter of the first
sentences are denials, which turns the direction of inference round. `test_matched` is about the
village of the training rows, `test_mismatched` about the harbour: other people, things and places.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.api import DataRoot, Task, Text
from tasks._content.events import Extras, World, sentence
from tasks._content.lexicon import Domain
from tasks._content.relations import RELATIONS, related
from tasks._content.splits import Split


class Entailment(Task):
    """Sentence pairs, three classes, two test sets: the shape of MNLI."""

    name = "entailment"
    title = "Entailment"
    kind = "classification"
    labels = RELATIONS
    metrics = ("accuracy",)
    tests = ("test_matched", "test_mismatched")
    columns = ("premise", "hypothesis")
    source = "generated, tasks/entailment.py (seed 12)"

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        return {
            "train": _frame("village", "train", 2400),
            "test_matched": _frame("village", "test", 300),
            "test_mismatched": _frame("harbour", "test", 300),
        }

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["premise"], row["hypothesis"])


def _frame(domain: Domain, split: Split, rows: int) -> pd.DataFrame:
    world = World(domain, split, random.Random(f"entailment/{domain}/{split}/12"))
    return pd.DataFrame([_row(world, f"{domain}-{split}-{i}") for i in range(rows)])


def _row(world: World, row_id: str) -> dict[str, Any]:
    label = world.rng.randrange(len(RELATIONS))
    pair = related(world, world.event(Extras()), RELATIONS[label])
    return {"id": row_id, "premise": sentence(pair.first), "hypothesis": sentence(pair.second), "label": label}
