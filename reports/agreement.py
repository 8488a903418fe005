"""Where two rows disagree example by example, counted over the seeds that both have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.predictions import StoredPredictions
from harness.standings import Place

NAMED = 40
"""Examples that a page names, of each kind."""
Right = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class RowAnswers:
    """Which test rows of one task the runs of one row of the table got right."""

    seeds: tuple[int, ...]
    """In ascending order."""
    right: Right
    """[seeds, test rows]."""

    def under(self, seeds: Sequence[int]) -> Right:
        """Those of some of the seeds."""
        every = len(seeds) == len(self.seeds)
        return self.right if every else self.right[[self.seeds.index(seed) for seed in seeds]]


@dataclass(frozen=True)
class Answers:
    """Those of one task."""

    ids: tuple[str, ...]
    """Of the test rows, as their task names them."""
    rows: Mapping[str, RowAnswers]
    """By row label."""


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
    right: dict[str, dict[int, Right]] = defaultdict(dict)
    for (row, seed), values in by_sets[used].items():
        of_sets = [np.asarray(values[set_id], object) == examples[set_id][1] for set_id in used]
        right[row][seed] = np.concatenate(of_sets).astype(bool)
    rows = {
        row: RowAnswers(tuple(sorted(by_seed)), np.stack([by_seed[seed] for seed in sorted(by_seed)]))
        for row, by_seed in right.items()
    }
    return Answers(tuple(str(name) for set_id in used for name in examples[set_id][0]), rows)


def agreement(found: Answers, first: str, second: str) -> Agreement | None:
    """How the answers of two rows compare; None without a common seed."""
    known = [found.rows[label] for label in (first, second) if label in found.rows]
    seeds = sorted(set.intersection(*(set(row.seeds) for row in known))) if len(known) == 2 else []
    if not seeds:
        return None
    a, b = (row.under(seeds) for row in known)
    both, of_first, of_second = (int(np.count_nonzero(part)) for part in (a & b, a, b))
    return Agreement(
        len(seeds),
        both,
        of_first - both,
        of_second - both,
        a.size - of_first - of_second + both,
        _named(found.ids, np.asarray((a & ~b).all(0))),
        _named(found.ids, np.asarray((~a & b).all(0))),
    )


def _named(ids: Sequence[str], chosen: Right) -> tuple[str, ...]:
    return tuple(ids[int(index)] for index in np.flatnonzero(chosen))
