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
    axes = ["--method", row.label, "--task", row.task, "--seed", str(row.seed)]
    size = ["--train-size", str(row.train_size)] if row.train_size else []
    return shlex.join(["python", "-m", "harness", "run", *suite_options(row.suite), *axes, *size])
