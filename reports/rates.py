"""Which learning rate suits which row: the scores on `select` of a tuning search."""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from reports.rows import Row

MOST_COLUMNS = 12
LEAST_FILLED = 0.6
"""More learning rates, or so many that less than this share of the cells has a trial, are sorted into ranges: from 1 to
2, from 2 to 5 and from 5 to 10 times a power of ten."""


@dataclass(frozen=True)
class RateCell:
    """The trials of one row in one column."""

    score: float
    """The best one's, on `select`: mean over tasks of the mean over seeds."""
    trials: int
    """Configurations that were tried."""


@dataclass(frozen=True)
class RateRow:
    """One row of the search; None where it has no trial."""

    label: str
    title: str
    cells: tuple[RateCell | None, ...]


@dataclass(frozen=True)
class RateMap:
    """Rows by learning rate."""

    columns: tuple[str, ...]
    """Learning rates as text, or ranges of them, ascending."""
    binned: bool
    """Whether a column is a range."""
    rows: tuple[RateRow, ...]
    tasks: int


def rate_map(rows: Sequence[Row]) -> RateMap | None:
    """The map of a search's rows, which are named LABEL#1, LABEL#2, ...

    A configuration counts that has a score on every task of the search and one learning rate. None if fewer than two
    learning rates were tried.
    """
    known = [row for row in rows if "#" in row.label and row.status == "ok" and row.select_selected is not None]
    tasks = {row.task for row in known}
    tried: dict[str, list[Row]] = defaultdict(list)
    for row in known:
        tried[row.label].append(row)
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    titles: dict[str, str] = {}
    for label, members in tried.items():
        rates = {_learning_rate(row) for row in members}
        rate = next(iter(rates))
        if len(rates) == 1 and rate is not None and {row.task for row in members} == tasks:
            base = label.rpartition("#")[0]
            titles[base] = members[0].method_title if base == members[0].method else base
            found[base].append((rate, _score(members)))
    rates_tried = sorted({rate for trials in found.values() for rate, _ in trials})
    if len(rates_tried) < 2:
        return None
    filled = sum(len({rate for rate, _ in trials}) for trials in found.values())
    binned = len(rates_tried) > MOST_COLUMNS or filled < LEAST_FILLED * len(rates_tried) * len(found)
    places = list(dict.fromkeys(_bin(rate) for rate in rates_tried)) if binned else rates_tried
    table = []
    for base, trials in found.items():
        cells: list[RateCell | None] = []
        for place in places:
            scores = [score for rate, score in trials if (_bin(rate) if binned else rate) == place]
            cells.append(RateCell(max(scores), len(scores)) if scores else None)
        table.append(RateRow(base, titles[base], tuple(cells)))
    names = tuple(f"{_plain(p)}–{_plain(_above(p))}" if binned else _plain(p) for p in places)
    return RateMap(names, binned, tuple(table), len(tasks))


def _learning_rate(row: Row) -> float | None:
    rate = json.loads(row.recipe).get("learning_rate")
    return float(rate) if isinstance(rate, int | float) and rate > 0 else None


def _score(members: Sequence[Row]) -> float:
    by_task: dict[str, list[float]] = defaultdict(list)
    for row in members:
        by_task[row.task].append(row.select_selected or 0.0)
    return statistics.fmean(statistics.fmean(scores) for scores in by_task.values())


def _bin(rate: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above the rate."""
    power = 10.0 ** math.floor(math.log10(rate) + 1e-12)
    times = max(times for times in (1, 2, 5) if times * power <= rate * (1 + 1e-9))
    return float(f"{times * power:.1e}")


def _above(place: float) -> float:
    return place * (2.5 if f"{place:e}".startswith("2") else 2)


def _plain(rate: float) -> str:
    """5e-4, 0.01, 2.5e-5: as short as it gets."""
    mantissa, _, exponent = f"{rate:.2e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{rate:g}" if 0.01 <= rate < 1000 else f"{mantissa}e{int(exponent)}"
