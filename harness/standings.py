"""What the rows of one table come to: scores of its runs, from their stored predictions, through `harness.stats`.

The one place where the store and the statistics meet. Resamples depend on the test rows alone, so that the same
database gives the same numbers, in every table that shows them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.predictions import Kept, StoredPredictions
from harness.stats.ranks import RankRange, Table, judge_table
from harness.stats.resampling import Split, TaskScores, task_scores


@dataclass(frozen=True)
class Place:
    """A run's place in a table."""

    row: str
    task: str
    seed: int
    metric: str
    run_id: str
    epoch: int
    """The epoch that the table shows."""


@dataclass(frozen=True)
class Standing:
    """What one row of a table comes to."""

    rank: RankRange | None
    interval: tuple[float, float] | None
    """95 %, for the average over tasks, within [-1, 1] where all metrics lie."""
    reason: str = ""
    """Why there is no rank."""


def standings(
    stored: StoredPredictions, places: Sequence[Place], rows: Sequence[str], tasks: Sequence[str]
) -> dict[str, Standing]:
    """The standing of every row among `rows`."""
    return standings_of(judge_table(table_scores(stored, places, rows, tasks)), places, rows, tasks)


def standings_of(
    table: Table, places: Sequence[Place], rows: Sequence[str], tasks: Sequence[str]
) -> dict[str, Standing]:
    """The standing of every row of a judged table, made of the scores of these places."""
    seeds, ends = _seeds(places), zip(*table.averages.interval(), strict=True)
    return {
        row: Standing(None, None, _reason([seeds[row, task] for task in tasks]))
        if rank is None
        else Standing(rank, (max(float(low), -1.0), min(float(high), 1.0)))
        for row, rank, (low, high) in zip(rows, table.ranges, ends, strict=True)
    }


def table_scores(
    stored: StoredPredictions, places: Sequence[Place], rows: Sequence[str], tasks: Sequence[str]
) -> list[TaskScores]:
    """The scores of a table, task by task; a run without stored predictions on the task's test sets has none.

    Neither has a run on another stack than most of the table's: what is compared was run alike. Places of other rows or
    tasks are left out.
    """
    asked = [place for place in places if place.row in rows and place.task in tasks]
    alike = stored.on_one_stack(place.run_id for place in asked)
    kept = stored.of({place.run_id: place.epoch for place in asked if place.run_id in alike})
    labels = {name: examples.labels for name, examples in stored.examples(_sets(kept)).items()}
    members = [[place for place in asked if place.task == task] for task in tasks]
    return [_task(of_task, rows, kept, labels) for of_task in members]


def _sets(kept: Mapping[str, list[Kept]]) -> set[str]:
    return {item.example_set for items in kept.values() for item in items}


def _task(
    places: Sequence[Place], rows: Sequence[str], kept: Mapping[str, list[Kept]], labels: Mapping[str, list[Any]]
) -> TaskScores:
    seeds = sorted({place.seed for place in places})
    cells = {(rows.index(place.row), seeds.index(place.seed)): place for place in places}
    shape = (len(rows), max(len(seeds), 1))
    of_cell = {
        cell: tuple(sorted((item.split, item.example_set) for item in kept.get(place.run_id, ())))
        for cell, place in cells.items()
    }
    known = Counter(sets for sets in of_cell.values() if sets)
    if not known:
        return TaskScores(np.full(shape, np.nan), np.full((*shape, *shape), np.nan))
    # Runs on other test rows than most cannot be paired with them by example.
    common = max(known, key=lambda sets: (known[sets], sets))
    used = [cell for cell, sets in of_cell.items() if sets == common]
    splits = [
        Split(
            places[0].metric,
            labels[example_set],
            [next(k.values for k in kept[cells[cell].run_id] if k.split == split) for cell in used],
        )
        for split, example_set in common
    ]
    generator = np.random.default_rng([int(example_set, 16) for _, example_set in common])
    return task_scores(splits, used, shape, generator)


def _reason(seeds: Sequence[int]) -> str:
    """Why a row with these numbers of runs on the tasks has no rank."""
    missing = sum(count == 0 for count in seeds)
    if missing:
        return f"no score on {missing} of {len(seeds)} tasks" if len(seeds) > 1 else "no score"
    if min(seeds) == 1:
        return "one seed: nothing is known of its spread"
    return "no stored predictions of the shown epoch, or on other test rows or another stack than the rest"


def _seeds(places: Iterable[Place]) -> Counter[tuple[str, str]]:
    return Counter((row, task) for row, task, _ in {(place.row, place.task, place.seed) for place in places})
