"""What the database holds for claims: one number for each suite, row, task, test set, seed, protocol and metric."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from harness.analyses.start_cost import timed_runs
from harness.protocols import PROTOCOLS
from harness.records import SELECT
from harness.scoring import Frame, results, scores
from harness.store import Store

INITIALISATION_SHARE = "initialisation_share"
"""Beside the tasks' metrics: seconds of initialising the adapter over seconds of one epoch of training."""
KEY = ["suite", "grid", "label", "task", "train_size", "seed"]
COLUMNS = [*KEY, "split", "protocol", "metric", "first", "value"]
MEAN = ""
"""The split of a number that is a mean over all of a task's test sets."""


def load(store: Store, suites: Collection[str] | None = None) -> Frame:
    """The columns COLUMNS, for every ok run of every suite; `first` marks the task's first metric.

    suites: only these, also with changes in brackets (claims name built-in suites alone). Scores are times 100: each
    test set's, and (split MEAN) their mean.
    """
    named = [s.name for s in store.suites() if suites is None or s.name.partition("[")[0] in suites]
    parts = [_of_suite(store, name) for name in named]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def _of_suite(store: Store, suite: str) -> Frame:
    runs = results(store, suite)
    runs = runs[runs["status"] == "ok"]
    found = scores(store, suite)
    found = found[found["split"] != SELECT]
    means = found.groupby(["run_id", "protocol", "metric"], as_index=False)["value"].mean().assign(split=MEAN)
    values = pd.concat([means, found[means.columns]])
    scored = runs[[*KEY, "run_id", "metric"]].rename(columns={"metric": "first_metric"}).merge(values, on="run_id")
    scored = scored.assign(first=scored["metric"] == scored["first_metric"], value=100 * scored["value"])
    return pd.concat([scored[COLUMNS], _initialisation(runs)], ignore_index=True)


def _initialisation(runs: Frame) -> Frame:
    """INITIALISATION_SHARE of every run that was timed, the same under each protocol, in per cent."""
    timed = timed_runs(runs)
    known = timed[KEY].assign(split=MEAN, metric=INITIALISATION_SHARE, first=False, value=100 * timed["share"])
    return pd.concat([known.assign(protocol=protocol) for protocol in PROTOCOLS])[COLUMNS]


@dataclass(frozen=True)
class Points:
    """The numbers that one claim may use: one suite, grid, protocol and metric; label, task, train_size, seed, value.

    A seed counts where every task that has runs of all the rows has one of it.
    """

    frame: Frame
    tasks: tuple[str, ...]
    """Tasks that the rows have runs of under a common seed and size."""

    def scores(self, label: str, train_size: int = 0) -> tuple[float, ...]:
        """The row's mean over the tasks, one for each seed in order; train size 0 is the only one there is."""
        return tuple(self._by_seed(label, train_size).dropna())

    def differences(self, first: str, second: str, train_size: int = 0) -> tuple[float, ...]:
        """The first row minus the second, under each seed that both have."""
        return tuple((self._by_seed(first, train_size) - self._by_seed(second, train_size)).dropna())

    def _by_seed(self, label: str, train_size: int) -> pd.Series[float]:
        rows = self.frame[(self.frame["label"] == label) & self.frame["task"].isin(self.tasks)]
        if train_size:
            rows = rows[rows["train_size"] == train_size]
        wide = rows.pivot_table(index="seed", columns="task", values="value")
        return wide.reindex(columns=list(self.tasks)).mean(axis=1, skipna=False)


def points_of(frame: Frame, labels: Sequence[str], tasks: Sequence[str], sizes: Sequence[int]) -> Points:
    """The points of a suite's rows, with those of `tasks` that every label has under one seed at every size.

    `frame` has label, task, train_size, seed, value; size 0 stands for the only one.
    """
    seeds: dict[tuple[str, str, int], set[int]] = defaultdict(set)
    for label, task, size, seed in zip(*(frame[name] for name in ("label", "task", "train_size", "seed")), strict=True):
        seeds[label, task, size].add(seed)
        seeds[label, task, 0].add(seed)
    wanted = list(itertools.product(labels, sizes))
    common = [task for task in tasks if set.intersection(*(seeds[label, task, size] for label, size in wanted))]
    return Points(frame, tuple(common))
