"""Paraphrase: do two sentences say the same?

Both wordings are drawn freely (active or passive, the place in front or behind, synonyms), so equal meanings
often look different. In a negative pair the quality of a thing, the place, or both differ.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.api import DataRoot, Task, Text
from tasks._content.events import Event, Extras, World, clause, sentence
from tasks._content.splits import Split


class Paraphrase(Task):
    """Sentence pairs, two classes: the shape of MRPC and QQP."""

    name = "paraphrase"
    title = "Paraphrase"
    kind = "classification"
    labels = ("different", "same")
    metrics = ("accuracy", "f1")
    columns = ("first", "second")
    source = "generated, tasks/paraphrase.py (seed 13)"

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        return {"train": _frame("train", 2400), "test": _frame("test", 400)}

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["first"], row["second"])


def _frame(split: Split, rows: int) -> pd.DataFrame:
    rng = random.Random(f"paraphrase/{split}/13")
    worlds = [World("village", split, rng), World("harbour", split, rng)]
    return pd.DataFrame([_row(rng.choice(worlds), f"{split}-{i}") for i in range(rows)])


def _row(world: World, row_id: str) -> dict[str, Any]:
    event = world.event(Extras(quality=1.0, place=1.0, time=0.2))
    same = world.rng.random() < 0.55
    other = event if same else _changed(world, event)
    return {
        "id": row_id,
        "first": sentence(clause(event, world.style())),
        "second": sentence(clause(other, world.style())),
        "label": int(same),
    }


def _changed(world: World, event: Event) -> Event:
    """The event with another quality, another place, or both."""
    other = event
    while other == event:
        for change in world.rng.sample((world.other_quality, world.other_place), world.rng.randint(1, 2)):
            other = change(other) or other
    return other
