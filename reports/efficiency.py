"""Score against what it costs: which rows are on a front, where curves cross, what a tuning budget is worth."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.predictions import StoredPredictions
from harness.standings import Place, table_scores
from harness.stats.budgets import expected_best
from harness.stats.curves import Crossover, crossover
from harness.stats.draws import draw_means
from harness.stats.efficiency import front_probability
from reports.inventory import digest
from reports.judged import Judged
from reports.rows import Row
from reports.views import Board, BoardRow, CurvePanel, SuiteView, TaskColumn, task_column

DRAWS = 4000
MOST_CURVES = 6
"""Rows of one panel whose curves are compared with each other: those that are best at the largest size."""

COSTS: dict[str, Callable[[BoardRow], float | None]] = {
    "Adapter parameters": lambda row: float(row.costs.adapter_params.high) if row.costs.adapter_params else None,
    "Training FLOPs": lambda row: row.costs.train_flops,
    "Training seconds": lambda row: row.costs.train_seconds,
    "Peak memory": lambda row: row.costs.peak_memory_bytes,
}
"""Costs that a score is held against, by title."""


@dataclass(frozen=True)
class FrontRow:
    """How sure it is that a row is on the Pareto front of score against each cost; None where that is not known."""

    label: str
    title: str
    probabilities: tuple[float | None, ...]
    """In the order of `COSTS`."""


@dataclass(frozen=True)
class Crossing:
    """Where the curves of two rows cross."""

    first: str
    second: str
    """Titles; the first one leads at the smallest size."""
    sizes: tuple[int, int]
    """Smallest and largest training size that both have."""
    found: Crossover


@dataclass(frozen=True)
class BudgetCurve:
    """Expected test score of the best of k trials by `select`, for k = 1, 2, ..."""

    label: str
    title: str
    expected: tuple[float, ...]


@dataclass(frozen=True)
class BudgetPanel:
    """The budget curves of one task."""

    task: TaskColumn
    curves: tuple[BudgetCurve, ...]

    @property
    def budgets(self) -> range:
        """Numbers of trials that some curve has."""
        return range(1, 1 + max(len(curve.expected) for curve in self.curves))


def fronts(board: Board, judged: Judged) -> tuple[FrontRow, ...]:
    """The contenders that have an interval, in the order of the board."""
    draws = draw_means(judged.scores, DRAWS, _generator(judged.places))
    rows = {row.label: row for row in board.contenders}
    columns = []
    for cost in COSTS.values():
        values = [cost(rows[label]) for label in judged.labels]
        costs = np.array([math.nan if value is None else value for value in values])
        columns.append(front_probability(draws, costs))
    found = []
    for index, label in enumerate(judged.labels):
        shares = [float(column[index]) for column in columns]
        if not all(map(math.isnan, shares)):
            known = tuple(None if math.isnan(share) else share for share in shares)
            found.append(FrontRow(label, rows[label].title, known))
    return tuple(found)


def crossings(stored: StoredPredictions, view: SuiteView, panel: CurvePanel) -> tuple[Crossing, ...]:
    """The crossings of the panel's best curves, over the sizes that are numbers; two seeds at each are needed."""
    controls = {row.label for row in view.rows if row.control}
    sizes = [size for size in panel.sizes if size]
    whole = [c for c in panel.curves if c.label not in controls and all(c.at(size).n >= 2 for size in sizes)]
    best = sorted(whole, key=lambda curve: -(curve.at(sizes[-1]).mean or 0.0))[:MOST_CURVES] if len(sizes) > 1 else []
    if len(best) < 2:
        return ()
    names = {(curve.label, size): f"{index} {size}" for index, curve in enumerate(best) for size in sizes}
    places = tuple(
        Place(names[row.label, row.train_size], row.task, row.seed, row.metric, row.run_id, epoch)
        for row in view.rows
        if row.grid == panel.grid and row.task == panel.task.name and (row.label, row.train_size) in names
        if row.run_id is not None and (epoch := row.epoch(view.rank_by)) is not None
    )
    (scores,) = table_scores(stored, places, list(names.values()), [panel.task.name])
    found = []
    for one, other in itertools.combinations(range(len(best)), 2):
        first, second = ([index * len(sizes) + k for k in range(len(sizes))] for index in (one, other))
        if scores.present[first + second].sum(1).min() < 2:  # too few predictions are stored
            continue
        crossed = crossover(scores, np.array(sizes, float), first, second, _generator(places, one, other), DRAWS)
        ahead, behind = (best[one], best[other]) if crossed.first_leads_below else (best[other], best[one])
        found.append(Crossing(ahead.title, behind.title, (sizes[0], sizes[-1]), crossed))
    return tuple(found)


def budget_panels(rows: Sequence[Row]) -> tuple[BudgetPanel, ...]:
    """Budget curves of a tuning search, of rows named LABEL#1, LABEL#2, ...; a trial is a mean over its seeds."""
    tried: dict[str, dict[str, dict[str, list[Row]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        label, sign, _ = row.label.rpartition("#")
        known = row.score("selected") is not None and row.select_selected is not None
        if sign and known:
            tried[row.task][label][row.label].append(row)
    panels = []
    for labels in tried.values():
        curves = []
        for label, trials in labels.items():
            chosen_by, scores = (
                np.array([np.mean([value(row) for row in members]) for members in trials.values()])
                for value in (lambda row: row.select_selected, lambda row: row.score_selected)
            )
            first = next(iter(trials.values()))[0]
            title = first.method_title if label == first.method else label
            curves.append(BudgetCurve(label, title, tuple(map(float, expected_best(chosen_by, scores)))))
        panels.append(BudgetPanel(task_column(next(iter(next(iter(labels.values())).values()))[0]), tuple(curves)))
    return tuple(panels)


def _generator(*parts: object) -> np.random.Generator:
    """The same for the same runs: a page is to be the same twice."""
    return np.random.default_rng(int(digest(*parts), 16))
