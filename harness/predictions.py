"""Stored predictions, read and unpacked once however many tables ask for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from harness import schema
from harness.rows import plain_rows, unpack

if TYPE_CHECKING:
    from harness.store import Store

CHUNK = 500
"""Asked for in one query."""


@dataclass(frozen=True)
class Kept:
    """Stored predictions of one run on one test set."""

    split: str
    example_set: str
    values: list[Any]


@dataclass(frozen=True)
class Examples:
    """Rows that predictions were made for."""

    ids: list[Any]
    labels: list[Any]


class StoredPredictions:
    """Of one database. What has been read stays in memory: to be made for a suite, and let go with it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._packed: dict[str, dict[int, list[tuple[str, str, bytes]]]] = {}
        """By run and epoch: split, example set, predictions."""
        self._kept: dict[tuple[str, int], list[Kept]] = {}
        self._examples: dict[str, Examples] = {}
        self._stacks: dict[str, str | None] = {}

    def of(self, epochs: Mapping[str, int]) -> dict[str, list[Kept]]:
        """By run id: what runs predicted after these epochs; runs without stored predictions are left out."""
        kept, found = schema.PREDICTIONS.c, {}
        query = sa.select(kept.run_id, kept.epoch, kept.split, kept.example_set_id, kept.predicted)
        new = [run_id for run_id in epochs if run_id not in self._packed]
        with self._store.reading() as connection:
            self._packed |= {run_id: {} for run_id in new}
            for run_id, epoch, *packed in _read(connection, query, kept.run_id, new):
                self._packed[run_id].setdefault(epoch, []).append(tuple(packed))
            for run_id, epoch in epochs.items():
                if unpacked := self._unpacked(run_id, epoch):
                    found[run_id] = unpacked
        return found

    def examples(self, sets: Iterable[str]) -> dict[str, Examples]:
        """By id of the example set."""
        wanted, stored = set(sets), schema.EXAMPLE_SETS.c
        query = sa.select(stored.id, stored.ids, stored.labels)
        with self._store.reading() as connection:
            for name, ids, labels in _read(connection, query, stored.id, sorted(wanted - set(self._examples))):
                self._examples[name] = Examples(unpack(ids), unpack(labels))
        return {name: self._examples[name] for name in wanted}

    def on_one_stack(self, run_ids: Iterable[str]) -> set[str]:
        """Those of the runs that are on the stack of most of them."""
        wanted, run = list(dict.fromkeys(run_ids)), schema.RUNS.c
        query, new = sa.select(run.id, run.stack_id), [run_id for run_id in wanted if run_id not in self._stacks]
        with self._store.reading() as connection:
            self._stacks |= dict(_read(connection, query, run.id, new))
        stacks = {run_id: self._stacks[run_id] for run_id in wanted if run_id in self._stacks}
        counts = Counter(stacks.values())
        most = max(counts, key=lambda stack: (counts[stack], stack or ""), default=None)
        return {run_id for run_id, stack in stacks.items() if stack == most}

    def _unpacked(self, run_id: str, epoch: int) -> list[Kept]:
        if (run_id, epoch) not in self._kept:
            packed = self._packed[run_id].get(epoch, [])
            self._kept[run_id, epoch] = [Kept(split, examples, unpack(values)) for split, examples, values in packed]
        return self._kept[run_id, epoch]


def _read(
    connection: sa.Connection, query: sa.Select, column: sa.Column[str], wanted: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """The rows of a query whose `column` is one of the wanted values."""
    for first in range(0, len(wanted), CHUNK):
        yield from plain_rows(connection, query.where(column.in_(wanted[first : first + CHUNK])))
