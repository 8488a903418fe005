"""Where two rows disagree example by example, counted over the seeds that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.predictions import StoredPredictions
from harness.standings import Place

NAMED = 40
"""Examples that a page names, of each kind."""


@dataclass(frozen=True)
class Answers:
    """Which test rows of one task each run got right."""

    ids: tuple[str, ...]
    """Of the test rows, as their task names them."""
    right: Mapping[tuple[str, int], np.ndarray[Any, np.dtype[np.bool_]]]
    """By (row label, seed): [test rows]."""


@dataclass(frozen=True)
class Agreement:
    """Answers of two rows on the test rows of one task, a count for each test row and common seed."""

    seeds: int
    both: int
    first_only: int
    second_only: int
    neither: int
    always_first: tuple[str, ...]
    """Ids of test rows that the first row got right and the second wrong under every common seed."""
    always_second: tuple[str, ...]


def answers(stored: StoredPredictions, places: Sequence[Place], tasks: Sequence[str]) -> dict[str, Answers]:
    """Answers by task, of the tasks whose stored predictions are right or wrong; `tasks` names these."""
    asked = {place.run_id: place for place in places if place.task in tasks}
    found: dict[str, dict[tuple[str, ...], dict[tuple[str, int], dict[str, list[Any]]]]] = {}
    by_run = stored.of({run_id: place.epoch for run_id, place in asked.items()})
    sets = {kept.example_set for splits in by_run.values() for kept in splits}
    examples = {name: (rows.ids, np.asarray(rows.labels, object)) for name, rows in stored.examples(sets).items()}
    for run_id, splits in by_run.items():
        place = asked[run_id]
        used = tuple(kept.example_set for kept in sorted(splits, key=lambda kept: kept.split))
        values = {kept.example_set: kept.values for kept in splits}
        found.setdefault(place.task, {}).setdefault(used, {})[place.row, place.seed] = values
    return {task: _answers(by_sets, examples) for task, by_sets in found.items()}


def _answers(
    by_sets: Mapping[tuple[str, ...], Mapping[tuple[str, int], Mapping[str, list[Any]]]],
    examples: Mapping[str, tuple[list[str], np.ndarray[Any, Any]]],
) -> Answers:
    """Of the runs on the test rows that most runs have."""
    used = max(by_sets, key=lambda sets: (len(by_sets[sets]), sets))
    right = {
        place: np.concatenate([np.asarray(values[set_id], object) == examples[set_id][1] for set_id in used])
        for place, values in by_sets[used].items()
    }
    return Answers(tuple(str(name) for set_id in used for name in examples[set_id][0]), right)


def agreement(found: Answers, first: str, second: str) -> Agreement | None:
    """How the answers of two rows compare; None without a common seed."""
    seeds = sorted({seed for row, seed in found.right if row == first} & {s for row, s in found.right if row == second})
    if not seeds:
        return None
    a, b = (np.stack([found.right[row, seed] for seed in seeds]).astype(bool) for row in (first, second))
    both, first_only, second_only, neither = (int(part.sum()) for part in (a & b, a & ~b, ~a & b, ~a & ~b))
    return Agreement(
        len(seeds),
        both,
        first_only,
        second_only,
        neither,
        _named(found.ids, (a & ~b).all(0)),
        _named(found.ids, (~a & b).all(0)),
    )


def _named(ids: Sequence[str], chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[str, ...]:
    return tuple(ids[int(index)] for index in np.flatnonzero(chosen))
