"""Similarity: how much of what two sentences say do they have in common, from 0 to 1?

The label is the weighted share of the parts that agree (see `WEIGHTS`); a part that only one sentence
has does not agree. Wording does not count: synonyms agree fully, two things of one kind (a hammer, a saw) by half.
Half of the pairs are about one event, told differently; the others about two.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from harness.api import DataRoot, Task, Text
from tasks._content.events import Event, Extras, World
from tasks._content.relations import Statement, filled
from tasks._content.splits import Split

WEIGHTS: dict[str, float] = {
    "person": 0.15,
    "action": 0.15,
    "thing": 0.2,
    "denied": 0.2,
    "quality": 0.15,
    "place": 0.15,
}
"""What each part adds to the label; they sum to 1."""


class Similarity(Task):
    """Sentence pairs, a number: the shape of STS-B."""

    name = "similarity"
    title = "Similarity"
    kind = "regression"
    label_range = (0.0, 1.0)
    metrics = ("pearson", "spearman")
    columns = ("first", "second")
    source = "generated, tasks/similarity.py (seed 14)"

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        return {"train": _frame("train", 2400), "test": _frame("test", 400)}

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["first"], row["second"])


def similarity(world: World, first: Statement, second: Statement) -> float:
    """The label of two statements; `world` knows the kinds of the first one's thing."""
    one, other = _parts(first), _parts(second)
    score = sum(weight for part, weight in WEIGHTS.items() if one[part] == other[part])
    kinds = world.vocabulary.kind_of
    if one["thing"] != other["thing"] and kinds[first.event.thing] == kinds.get(second.event.thing):
        score += WEIGHTS["thing"] / 2
    return round(score, 3)


def _parts(said: Statement) -> dict[str, Any]:
    return {"denied": said.denied, **vars(said.event)}


def _frame(split: Split, rows: int) -> pd.DataFrame:
    rng = random.Random(f"similarity/{split}/14")
    worlds = [World("village", split, rng), World("harbour", split, rng)]
    return pd.DataFrame([_row(rng.choice(worlds), f"{split}-{i}") for i in range(rows)])


def _row(world: World, row_id: str) -> dict[str, Any]:
    first = _statement(world)
    second = _retold(world, first) if world.rng.random() < 0.5 else _statement(world)
    return {
        "id": row_id,
        "first": first.worded(world),
        "second": second.worded(world),
        "label": similarity(world, first, second),
    }


def _statement(world: World) -> Statement:
    return Statement(world.event(Extras(quality=0.7, place=0.6, time=0.0)), world.rng.random() < 0.3)


def _retold(world: World, said: Statement) -> Statement:
    """The same event; its quality, its place and whether it happened may differ."""
    event = said.event
    for part, exchange in (("quality", world.other_quality), ("place", world.other_place)):
        if world.rng.random() < 0.5:
            event = _differing(world, event, part, exchange)
    return Statement(event, said.denied != (world.rng.random() < 0.4))


def _differing(world: World, event: Event, part: str, exchange: Callable[[Event], Event]) -> Event:
    """The event with `part` added, left out or exchanged."""
    if getattr(event, part) is None:
        return filled(world, event, part)
    without: dict[str, Any] = {part: None}
    return replace(event, **without) if world.rng.random() < 0.5 else exchange(event)
