"""Similarity: how much do two sentences have in common, from 0 to 5?

The label is five times the weighted share of the parts that agree (see `WEIGHTS`). Wording does not count:
synonyms agree fully, two things of one kind (a hammer, a saw) by half.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from harness.api import DataRoot, Task, Text
from tasks._content.events import Event, Extras, World, clause, sentence
from tasks._content.splits import Split

WEIGHTS: dict[str, float] = {"person": 1.0, "action": 1.0, "thing": 1.5, "quality": 0.75, "place": 0.75}
"""What each part adds to the label; they sum to 5."""


class Similarity(Task):
    """Sentence pairs, a number: the shape of STS-B."""

    name = "similarity"
    title = "Similarity"
    kind = "regression"
    label_range = (0.0, 5.0)
    metrics = ("pearson", "spearman")
    columns = ("first", "second")
    source = "generated, tasks/similarity.py (seed 14)"

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        return {"train": _frame("train", 2400), "test": _frame("test", 400)}

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["first"], row["second"])


def similarity(world: World, first: Event, second: Event) -> float:
    """The label of two events of one world."""
    score = sum(weight for part, weight in WEIGHTS.items() if getattr(first, part) == getattr(second, part))
    kinds = world.vocabulary.kind_of
    if first.thing != second.thing and kinds[first.thing] == kinds[second.thing]:
        score += WEIGHTS["thing"] / 2
    return score


def _frame(split: Split, rows: int) -> pd.DataFrame:
    rng = random.Random(f"similarity/{split}/14")
    worlds = [World("village", split, rng), World("harbour", split, rng)]
    return pd.DataFrame([_row(rng.choice(worlds), f"{split}-{i}") for i in range(rows)])


def _row(world: World, row_id: str) -> dict[str, Any]:
    first = world.event(Extras(quality=1.0, place=1.0, time=0.0))
    second = _distorted(world, first, world.rng.randrange(len(WEIGHTS) + 1))
    return {
        "id": row_id,
        "first": sentence(clause(first, world.style())),
        "second": sentence(clause(second, world.style())),
        "label": similarity(world, first, second),
    }


def _distorted(world: World, event: Event, parts: int) -> Event:
    """The event with `parts` of its parts exchanged (fewer if no free triple is near)."""
    changes: tuple[Callable[[Event], Event | None], ...] = (
        world.other_person,
        world.other_action,
        lambda e: world.other_thing(e, same_kind=world.rng.random() < 0.5),
        world.other_quality,
        world.other_place,
    )
    for change in world.rng.sample(changes, parts):
        event = change(event) or event
    return event
