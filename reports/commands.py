"""The command that repeats a run, as a reader would type it."""

from __future__ import annotations

import re
import shlex

from reports.rows import Row
from reports.views import MAIN


def suite_options(name: str) -> list[str]:
    """Options that name a suite: `starter[backbone=B,r=4]` was planned with `--backbone B --set r=4`."""
    plain, bracket, overrides = name.partition("[")
    if not bracket or not name.endswith("]"):
        return ["--suite", name]
    changes = re.split(r",(?=[^,=]+=)", overrides[:-1])  # a value may hold commas itself: targets=q,v
    return ["--suite", plain, *(part for change in changes for part in _option(change))]


def _option(change: str) -> tuple[str, str]:
    key, _, value = change.partition("=")
    return ("--backbone", value) if key == "backbone" else ("--set", change)


def run_suite(name: str) -> str:
    """Command that runs all that a suite still lacks."""
    return shlex.join(["python", "-m", "harness", "run", *suite_options(name)])


def run_again(row: Row) -> str:
    """Command that runs one row's trial."""
    return run_cell(row.suite, row.grid, row.label, row.task, row.seed, row.train_size)


def run_cell(suite: str, grid: str, label: str, task: str, seed: int, train_size: int) -> str:
    """Command that runs one cell of a suite: one row label on one task with one seed."""
    axes = [] if grid == MAIN else ["--grid", grid]
    axes += ["--method", label, "--task", task, "--seed", str(seed)]
    size = ["--train-size", str(train_size)] if train_size else []
    return shlex.join(["python", "-m", "harness", "run", *suite_options(suite), *axes, *size])
