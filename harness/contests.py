"""The tables of a planned suite whose rows are to be told apart, with what the store knows of their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.plugins import Plugins
from harness.predictions import StoredPredictions
from harness.records import Member, SuiteInfo
from harness.standings import Place, table_scores
from harness.stats.ranks import judge_table
from harness.stats.resampling import TaskScores
from harness.stats.sequential import ALPHA, further_seeds

if TYPE_CHECKING:
    import pandas as pd

    from harness.store import Store


@dataclass(frozen=True)
class Contest:
    """The contenders of one grid on its tasks, one training size each; controls compete with nobody."""

    grid: str
    rows: tuple[str, ...]
    """Labels; at least two."""
    tasks: tuple[str, ...]
    members: Mapping[tuple[str, str], tuple[Member, ...]]
    """What is planned, by (row, task): trials that differ in their seed alone."""


@dataclass(frozen=True)
class OpenPair:
    """Two rows that the runs so far do not separate."""

    grid: str
    first: str
    second: str
    seeds: int | None
    """About so many more seeds of both on every task would; None: no number up to `sequential.CAP` is expected to."""


def contests(info: SuiteInfo, plugins: Plugins) -> list[Contest]:
    """The contests of a plan: grids of one training size (others are curves) with two contenders on all tasks."""
    by_grid: dict[str, list[Member]] = {}
    for member in info.members:
        if not plugins.methods[member.trial.method].control:
            by_grid.setdefault(member.grid, []).append(member)
    found = []
    for grid, members in by_grid.items():
        cells: dict[tuple[str, str], tuple[Member, ...]] = {}
        for member in members:
            place = (member.label, member.trial.task)
            cells[place] = (*cells.get(place, ()), member)
        rows, tasks = (tuple(dict.fromkeys(place[side] for place in cells)) for side in (0, 1))
        sizes = {(member.trial.task, member.trial.train_size) for member in members}
        rows = tuple(row for row in rows if all((row, task) in cells for task in tasks))
        if len(rows) > 1 and len(sizes) == len(tasks):
            found.append(Contest(grid, rows, tasks, cells))
    return found


def places_of(contest: Contest, results: pd.DataFrame, protocol: str) -> list[Place]:
    """Places of the contest's runs, in the order in which their trials joined the suite.

    results: rows of `harness.scoring.results` of the suite. Runs without a score under `protocol` have none.
    """
    epoch = f"epoch_{protocol}"
    scored = results[(results["grid"] == contest.grid) & (results["status"] == "ok") & results[epoch].notna()]
    records = scored.sort_values("position", kind="stable").to_dict("records")
    return [
        Place(r["label"], r["task"], int(r["seed"]), r["metric"], r["run_id"], int(r[epoch]))
        for r in records
        if (r["label"], r["task"]) in contest.members
    ]


def open_pairs(store: Store, info: SuiteInfo, plugins: Plugins) -> list[OpenPair]:
    """The pairs of a suite's tables that are not separated, those that need the fewest further seeds first.

    Rows without two seeds on every task are left out, and so is everything of a suite that the database has not.
    """
    from harness.scoring import results

    if info.name not in {suite.name for suite in store.suites()}:
        return []
    frame, stored = results(store, info.name), StoredPredictions(store)
    found = []
    for contest in contests(info, plugins):
        scores = table_scores(stored, places_of(contest, frame, info.rank_by), contest.rows, contest.tasks)
        found += _open_pairs(contest, scores)
    return sorted(found, key=lambda pair: (pair.seeds is None, pair.seeds))


def _open_pairs(contest: Contest, scores: Sequence[TaskScores]) -> list[OpenPair]:
    table = judge_table(scores)
    still = [index for index, p in enumerate(table.adjusted) if p > ALPHA]
    needed = further_seeds(table.differences, ALPHA / max(len(still), 1))
    pairs = []
    for index in still:
        first, second = (contest.rows[row] for row in table.pairs[index])
        seeds = None if np.isnan(needed[index]) else int(needed[index])
        pairs.append(OpenPair(contest.grid, first, second, seeds))
    return pairs
