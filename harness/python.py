"""The command line's work from Python: `harness.run(...)`, `harness.results(...)`, `harness.load_adapter(...)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import pandas as pd

from harness.campaign import Request, execute
from harness.cluster.machines import Cluster
from harness.export.loading import load_adapter
from harness.overrides import Override
from harness.progress import make_reporter
from harness.scoring import results as results_frame
from harness.settings import Settings
from harness.store import open_store
from harness.suite import Filters, Selection

__all__ = ["load_adapter", "results", "run"]


class FilterOptions(TypedDict, total=False):
    """The part of a suite to run; what is left out is not narrowed. See `harness.suite.Filters`."""

    methods: Sequence[str]
    tasks: Sequence[str]
    seeds: Sequence[int]
    train_sizes: Sequence[int]
    backbones: Sequence[str]
    grids: Sequence[str]


def run(
    suite: str = "starter",
    *,
    db: str = "leaderboard.db",
    overrides: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
    jobs: int = 1,
    cluster: Cluster | None = None,
    **filters: Unpack[FilterOptions],
) -> pd.DataFrame:
    """Run what is missing of a suite (built-in name or TOML file) and return the results of the selected part.

    filters: `methods`, `tasks`, `seeds`, `train_sizes`, `backbones`, `grids`: sequences, as the command's options.
    overrides: method parameters and recipe fields to change, as `--set` does: `{"lora.r": 16, "epochs": 1}`.
    jobs: trials at a time; 1 runs in this process, 0 chooses by the machine. More than one starts processes, and
    so does one on a CUDA device, which an error may take from a process for good: call it under
    `if __name__ == "__main__":` in a script.
    cluster: `harness.cluster.machines.Cluster()`, to run trials on a Ray cluster as `--executor ray` does.

    Raises UserError for wrong use, KeyboardInterrupt if the user interrupted (what was finished is stored).
    """
    changes = tuple(Override(key, value) for key, value in (overrides or {}).items())
    wanted: dict[str, Any] = {name: tuple(values) for name, values in filters.items()}  # type: ignore[arg-type]
    selection = Selection(Filters(**wanted), changes)
    request = Request(suite, selection, settings or Settings(), db, jobs, cluster=cluster)
    info, outcome = execute(request, lambda tasks: make_reporter(tasks, quiet=True))
    if outcome.interrupted:
        raise KeyboardInterrupt
    frame = results(info.name, db=db)
    return frame[frame["trial_id"].isin([member.trial.id for member in info.members])].reset_index(drop=True)


def results(suite: str | None = None, *, db: str = "leaderboard.db") -> pd.DataFrame:
    """Stored results of one suite, or of all: one row per trial, columns as in `harness.scoring.results`."""
    with open_store(db, create=False) as store:
        return results_frame(store, suite)
