"""`make run` from a warm cache: seconds of the starter suite and its site, memory, and whether its scores are the same.

    python -m benchmarks.starter_suite
    python -m benchmarks.starter_suite --quick

Runs what `make run` runs, `python -m harness run --all` and `python -m harness site`, in processes of their own, with
an empty database, --repeats times; the first run fills the caches and is not counted. Memory is the largest sum of
resident bytes over all its processes, read five times a second: pages that they share count in each.

With --before, the database that an earlier version's `make run` left, scores are compared: for each row and task the
mean over the seeds of both. Differences are shown over the standard error of the two means (Welch's t).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

import harness
from benchmarks import _common as common
from harness.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
BEFORE_SECONDS = 9 * 60 + 9
"""`make run` before trial packing, as the README had it: empty caches, 2 cores of an Intel Xeon at 2 GHz."""
WANTED_SECONDS = 300
SUITE = "starter"


@dataclass(frozen=True)
class SuiteRun:
    """One `make run`."""

    seconds: float
    memory: int
    frame: pd.DataFrame


def run_suite(words: Sequence[str]) -> SuiteRun:
    """Run the suite into an empty database and build its site. words: further options of `run`."""
    with tempfile.TemporaryDirectory() as folder:
        db = str(Path(folder) / "leaderboard.db")
        began = time.perf_counter()
        memory = _watched(["run", "--all", "--quiet", "--db", db, *words])
        memory = max(memory, _watched(["site", "--db", db, "--out", str(Path(folder) / "site")]))
        return SuiteRun(time.perf_counter() - began, memory, harness.results(SUITE, db=db))


def _watched(words: Sequence[str]) -> int:
    """Run a command of the harness; its largest resident memory, children included."""
    most = 0
    with tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-m", "harness", *words]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
        family = psutil.Process(process.pid)
        while process.poll() is None:
            most = max(most, _resident(family))
            time.sleep(0.2)
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"harness {words[0]} ended with {process.returncode}: {errors.read()}")
    return most


def _resident(family: psutil.Process) -> int:
    total = 0
    try:
        for member in [family, *family.children(recursive=True)]:
            total += member.memory_info().rss
    except psutil.NoSuchProcess:  # ended while it was looked at
        pass
    return total


def score_changes(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """For each place that both frames scored: the difference of means, and that over its standard error.

    Columns difference and ratio; the ratio is missing where there is no spread over seeds.
    """
    key = ["grid", "task", "label", "train_size", "start", "seed"]
    both = before.merge(after, on=key, suffixes=("_before", "_after"))
    both = both[both["score_last_before"].notna() & both["score_last_after"].notna()]
    groups = both.groupby(key[:-1])[["score_last_before", "score_last_after"]]
    means, errors = groups.mean(), groups.sem()
    difference = means["score_last_after"] - means["score_last_before"]
    error = (errors**2).sum(axis=1, min_count=2) ** 0.5
    return pd.DataFrame({"difference": difference, "ratio": difference / error.where(error > 0)}).reset_index()


def scores_table(changes: pd.DataFrame) -> common.Table:
    """How scores moved, in short."""
    known = changes["ratio"].dropna().abs()
    rows: tuple[tuple[common.Cell, ...], ...] = (
        ("rows compared", len(changes)),
        ("mean difference, × 100", 100 * float(changes["difference"].mean()) if len(changes) else None),
        ("largest difference, × 100", 100 * float(changes["difference"].abs().max()) if len(changes) else None),
        ("share beyond 2 standard errors", float((known > 2).mean()) if len(known) else None),
    )
    return common.Table("Scores against those before, each row's mean over its seeds", ("what", "value"), rows)


def benchmark(options: argparse.Namespace) -> common.Result:
    """Run the suite and compare."""
    facts = common.machine(Settings())
    words = ["--method", "majority", "--task", "similarity", "--seed", "0"] if options.quick else []
    first = run_suite(words)
    runs = [run_suite(words) for _ in range(options.repeats)]
    seconds = statistics.median(run.seconds for run in runs)
    rows: tuple[tuple[common.Cell, ...], ...] = (
        ("first run", first.seconds, first.memory / 2**20),
        *((f"warm run {number}", run.seconds, run.memory / 2**20) for number, run in enumerate(runs, start=1)),
    )
    compared = []
    if options.before is not None:
        before = harness.results(SUITE, db=str(options.before))
        compared.append(scores_table(score_changes(before, runs[-1].frame)))
    judged = None if options.quick else seconds <= WANTED_SECONDS
    return common.Result(
        name="starter_suite-cuda" if common.is_cuda(facts) else "starter_suite-cpu",
        title="The starter suite and its site",
        command=options.command,
        quick=options.quick,
        options=common.plain_options(options),
        notes=(
            f"before trial packing the README had {BEFORE_SECONDS} s, with empty caches and on another machine",
            "the harness's own choice of processes; memory: all of them together",
        ),
        tables=(
            common.Table("Runs", ("run", "seconds", "peak MiB"), rows),
            *compared,
        ),
        targets=(common.Target("seconds from a warm cache", f"at most {WANTED_SECONDS}", seconds, judged),),
        machine=facts,
    )


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    made = common.parser(__doc__)
    made.add_argument("--repeats", type=int, default=1, help="warm runs")
    made.add_argument("--before", type=Path, help="database that `make run` of an earlier version left")
    return common.parse(made, "starter_suite", arguments)


def main(arguments: Sequence[str]) -> None:
    """Run, print, write."""
    options = parsed(arguments)
    common.report(benchmark(options), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
