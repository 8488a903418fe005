"""Paraphrase: do two sentences say the same?

Both wordings are drawn freely (active or passive, the place in front or behind, synonyms), so equal meanings
often look different. In a negative pair the quality of a thing or the place differs, one sentence says more
than the other, or only one of them denies what happened.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from harness.api import DataRoot, Task, Text
from tasks._content.events import Event, Extras, World
from tasks._content.relations import Statement, filled
from tasks._content.splits import Split

_OPTIONAL = ("quality", "place", "time")
_DENIALS = 0.2
"""Share of the first sentences that deny."""


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
    first = Statement(world.event(Extras(quality=0.7, place=0.6, time=0.3)), world.rng.random() < _DENIALS)
    same = world.rng.random() < 0.5
    second = first if same else _changed(world, first)
    pair = [first, second]
    world.rng.shuffle(pair)
    return {"id": row_id, "first": pair[0].worded(world), "second": pair[1].worded(world), "label": int(same)}


def _changed(world: World, said: Statement) -> Statement:
    """What is said with one part exchanged, one part left out or added, or denied instead of told."""
    event = said.event
    changes: list[Event] = [_added_or_left_out(world, event)]
    if event.quality is not None:
        changes.append(world.other_quality(event))
    if event.place is not None:
        changes.append(world.other_place(event))
    choice = world.rng.randrange(len(changes) + 1)
    return replace(said, denied=not said.denied) if choice == len(changes) else replace(said, event=changes[choice])


def _added_or_left_out(world: World, event: Event) -> Event:
    part = world.rng.choice(_OPTIONAL)
    without: dict[str, Any] = {part: None}
    return filled(world, event, part) if getattr(event, part) is None else replace(event, **without)
