"""Sums over runs: what one cell and one row of a table say. Rows in, numbers out."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from reports.rows import Row

T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """Scores of one row on one task, over seeds."""

    mean: float | None
    spread: float | None
    """Sample standard deviation over seeds; None for fewer than two."""
    n: int
    """Number of seeds with a score."""


EMPTY = Cell(None, None, 0)


@dataclass(frozen=True)
class Span:
    """Smallest and largest value over a row's runs: parameter counts differ where tasks or backbones do."""

    low: int
    high: int


@dataclass(frozen=True)
class RowCosts:
    """What one row cost. Means are over tasks, each task a mean over its seeds, and need a score on every task."""

    adapter_params: Span | None
    head_params: Span | None
    train_flops: float | None
    """Mean per run."""
    train_seconds: float | None
    """Mean per run, on the board's stack only."""
    peak_memory_bytes: int | None
    """Largest of all runs on the board's stack."""
    adapter_bytes: int | None
    """Largest of all runs."""


@dataclass(frozen=True)
class Perplexities:
    """Perplexity of held-out text before and after training: means over tasks, each a mean over its seeds."""

    before: float | None
    after: float | None


UNKNOWN = Perplexities(None, None)


@dataclass(frozen=True)
class StartCosts:
    """Seconds of training that made a row's starts, per run: means over tasks. Empty for the pretrained start."""

    whole: float | None
    """Of the start, as if the row had made it for itself."""
    share: float | None
    """Of the start, divided by the table's runs that share it."""


def start_shares(rows: Iterable[Row]) -> dict[str, float]:
    """Each run's share of the seconds of its start, by run id; a run without one is left out.

    A start is computed once, and every run that takes it shows the very seconds that it took: by them runs share it.
    """
    started = [row for row in rows if row.start_seconds is not None and row.status == "ok"]
    counts = Counter((row.start, row.start_seconds) for row in started)
    return {
        row.run_id: row.start_seconds / counts[row.start, row.start_seconds]
        for row in started
        if row.run_id is not None and row.start_seconds is not None
    }


def start_costs(by_task: Sequence[Sequence[Row]], shares: Mapping[str, float]) -> StartCosts:
    """What one row's starts took, given its ok runs task by task and `start_shares` of the table."""
    return StartCosts(
        _mean_over_tasks(by_task, lambda row: row.start_seconds),
        _mean_over_tasks(by_task, lambda row: shares.get(row.run_id or "")),
    )


def scores_by_seed(rows: Iterable[Row], protocol: str) -> dict[int, float]:
    """Known scores by seed."""
    return {row.seed: score for row in rows if (score := row.score(protocol)) is not None}


def cell(scores: Sequence[float]) -> Cell:
    """Mean and spread of the scores of one seed each."""
    if not scores:
        return EMPTY
    return Cell(statistics.fmean(scores), statistics.stdev(scores) if len(scores) > 1 else None, len(scores))


def average_over_tasks(scores: Sequence[Mapping[int, float]]) -> Cell:
    """Mean over tasks of the task means; spread over seeds of the mean over tasks under one seed."""
    if not scores or not all(scores):
        return EMPTY
    shared = set.intersection(*(set(by_seed) for by_seed in scores))
    under_one_seed = cell([statistics.fmean(by_seed[seed] for by_seed in scores) for seed in sorted(shared)])
    return Cell(statistics.fmean(statistics.fmean(s.values()) for s in scores), under_one_seed.spread, len(shared))


def costs_of(by_task: Sequence[Sequence[Row]], stack: str | None) -> RowCosts:
    """Costs of one row from its ok runs, given task by task; times and memory from those on `stack`."""
    rows = [row for members in by_task for row in members]
    timed = [[row for row in members if row.stack_id == stack] for members in by_task]
    return RowCosts(
        adapter_params=_span(row.adapter_params for row in rows),
        head_params=_span(row.head_params for row in rows),
        train_flops=_mean_over_tasks(by_task, lambda row: row.train_flops),
        train_seconds=_mean_over_tasks(timed, lambda row: row.train_seconds),
        peak_memory_bytes=max(_known(row.peak_memory_bytes for members in timed for row in members), default=None),
        adapter_bytes=max(_known(row.adapter_bytes for row in rows), default=None),
    )


def perplexities_of(by_task: Sequence[Sequence[Row]]) -> Perplexities:
    """Perplexities of one row from its ok runs, given task by task."""
    return Perplexities(
        _mean_over_tasks(by_task, lambda row: row.perplexity_before),
        _mean_over_tasks(by_task, lambda row: row.perplexity_after),
    )


def _mean_over_tasks(by_task: Sequence[Sequence[Row]], quantity: Callable[[Row], float | None]) -> float | None:
    values = [_known(quantity(row) for row in members) for members in by_task]
    return statistics.fmean(statistics.fmean(v) for v in values) if values and all(values) else None


def _span(values: Iterable[int | None]) -> Span | None:
    known = _known(values)
    return Span(min(known), max(known)) if known else None


def _known(values: Iterable[T | None]) -> list[T]:
    return [value for value in values if value is not None]
