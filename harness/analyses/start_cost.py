"""What attaching a method costs against training it: initialisation seconds of stored runs as shares of an epoch.

LoRA-SB, arXiv:2411.19557, table 5, prints 1.1 to 1.5 % of an epoch for its gradient estimate and SVD. Reads the
database and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.scoring import results
from harness.store import Store


@dataclass(frozen=True)
class StartCost:
    """The ok runs of one row of a suite on one task, at one train size: means over its seeds."""

    suite: str
    grid: str
    task: str
    label: str
    train_size: int
    """0 is all rows."""
    runs: int
    init_seconds: float
    epoch_seconds: float
    """Training seconds over epochs; evaluation is left out."""
    share: float
    """init_seconds over epoch_seconds, each run by itself, then the mean: times on two machines never meet."""
    lowest: float
    highest: float
    """Smallest and largest share of a single run."""


_PLACE = ["suite", "grid", "task", "label", "train_size"]


def start_costs(store: Store, suite: str | None = None) -> list[StartCost]:
    """Initialisation against training, in the suite's order; UserError for an unknown suite.

    Runs that train nothing, did not end well, or were not timed are left out. The start (a warm-up) is no part of
    either number: it is shared by all methods.
    """
    return [_cost(place, runs) for place, runs in timed_runs(results(store, suite)).groupby(_PLACE, sort=False)]


def timed_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of `harness.scoring.results` that trained and were timed, with epoch_seconds and share."""
    timed = frame[(frame["status"] == "ok") & (frame["train_seconds"] > 0) & frame["init_seconds"].notna()]
    epochs = timed["recipe"].map(lambda recipe: json.loads(recipe)["epochs"]).astype("float64")
    epoch_seconds = timed["train_seconds"] / epochs
    return timed.assign(epoch_seconds=epoch_seconds, share=timed["init_seconds"] / epoch_seconds)


def _cost(place: Any, runs: pd.DataFrame) -> StartCost:
    suite, grid, task, label, size = place
    return StartCost(
        suite,
        grid,
        task,
        label,
        int(size),
        len(runs),
        float(runs["init_seconds"].mean()),
        float(runs["epoch_seconds"].mean()),
        float(runs["share"].mean()),
        float(runs["share"].min()),
        float(runs["share"].max()),
    )
