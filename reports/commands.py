"""The command that repeats a run, as a reader would type it."""

from __future__ import annotations

import re
import shlex

from reports.rows import Row


def suite_options(name: str) -> list[str]:
    """Options that name a suite: `starter[epochs=1,r=4]` was planned with `--set epochs=1 --set r=4`."""
    plain, bracket, overrides = name.partition("[")
    if not bracket or not name.endswith("]"):
        return ["--suite", name]
    settings = re.split(r",(?=[\w.]+=)", overrides[:-1])  # a value may hold commas itself: targets=q,v
    return ["--suite", plain, *(part for setting in settings for part in ("--set", setting))]


def run_suite(name: str) -> str:
    """Command that runs all that a suite still lacks."""
    return shlex.join(["python", "-m", "harness", "run", *suite_options(name)])


def run_again(row: Row) -> str:
    """Command that runs one row's trial."""
    return run_cell(row.suite, row.label, row.task, row.seed, row.train_size)


def run_cell(suite: str, label: str, task: str, seed: int, train_size: int) -> str:
    """Command that runs one cell of a suite: one row label on one task with one seed."""
    axes = ["--method", label, "--task", task, "--seed", str(seed)]
    size = ["--train-size", str(train_size)] if train_size else []
    return shlex.join(["python", "-m", "harness", "run", *suite_options(suite), *axes, *size])
