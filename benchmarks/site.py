"""The site and `results` over the number of runs: seconds, memory, sizes.

    python -m benchmarks.site

Databases of made-up runs (`benchmarks._generated`), in suites of at most 1,000 runs. Each figure is of the command as
users run it, in a process of its own: start and imports are in it.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks._common import Result, Table, Target, machine, parse, parser, plain_options, report
from benchmarks._generated import add_one, generate, shape_of
from harness.settings import Settings

SIZES = (100, 10_000, 100_000)
JUDGED = 10_000
"""Runs at which the site's targets are set."""
LARGE = 100_000
"""Runs at which the target of `results` is set."""
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Command:
    """One command with its children."""

    seconds: float
    """Of the clock on the wall."""
    cpu: float
    """Seconds of processors: more than those of the clock where two work, less where others work too."""
    memory: int
    """Largest resident memory of all of them together, in bytes."""


@dataclass(frozen=True)
class Sizes:
    """What a built site takes, in bytes."""

    files: int
    total: int
    overview: int
    largest: int
    """Largest page. A page counts with all style and scripts."""


@dataclass(frozen=True)
class Measured:
    """All figures at one number of runs."""

    runs: int
    built: Command
    one_more: Command
    unchanged: Command
    sizes: Sizes
    all_suites: Command
    """`results`: of many suites, what each holds."""
    one_suite: Command
    """`results` of one suite: its table."""
    all_results: float
    """Seconds of `harness.results` for all suites: the data frame."""


def run(arguments: Sequence[str]) -> Command:
    """`python -m harness ...` to its end; RuntimeError with its last words if it fails."""
    began, used = time.perf_counter(), _cpu()
    process = psutil.Popen(
        [sys.executable, "-m", "harness", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    memory = 0
    while process.poll() is None:
        memory = max(memory, _resident(process))
        time.sleep(POLL_SECONDS)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"harness {arguments[0]} failed: {process.stderr.read().decode()[-500:]}")
    return Command(seconds, _cpu() - used, memory)


def _cpu() -> float:
    """Seconds that processes started here have used, theirs included."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for member in (process, *process.children(recursive=True)):
            total += member.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # it ended between two looks
    return total


def sizes(folder: Path) -> Sizes:
    """The sizes of a built site."""
    files = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    shared = sum(size for path, size in files.items() if path.suffix in (".css", ".js"))
    pages = {path: size + shared for path, size in files.items() if path.suffix == ".html"}
    return Sizes(len(files), sum(files.values()), pages[folder / "index.html"], max(pages.values()))


def measure(runs: int, folder: Path) -> Measured:
    """Build, build again with nothing new and with one more run, and ask for results."""
    shape = shape_of(runs)
    database, site = folder / f"{runs}.db", folder / f"site-{runs}"
    generate(database, shape)
    command = ["site", "--db", str(database), "--out", str(site)]
    built, unchanged = run(command), run(command)
    add_one(database, shape)
    one_more = run(command)
    results = ["results", "--db", str(database)]
    asked = run(results), run([*results, "--suite", "suite000"]), all_results(database)
    return Measured(shape.runs, built, one_more, unchanged, sizes(site), *asked)


def all_results(database: Path) -> float:
    """Seconds that `harness.results` takes for all runs of a database, imports not counted."""
    program = (
        "import sys, time, harness.python as harness; began = time.perf_counter(); "
        "harness.results(db=sys.argv[1]); print(time.perf_counter() - began)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(database)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    made = parser(__doc__)
    made.add_argument("--runs", type=int, nargs="+", default=list(SIZES))
    return parse(made, "site", arguments, runs=[100])


def benchmark(options: argparse.Namespace) -> Result:
    """All sizes, the smallest first."""
    facts = machine(Settings(device=options.device))
    with tempfile.TemporaryDirectory() as folder:
        found = [measure(runs, Path(folder)) for runs in sorted(options.runs)]
    return Result(
        "site",
        "The site",
        options.command,
        options.quick,
        plain_options(options),
        notes=(
            "Each figure is of a command in a process of its own, start and imports included; memory is of all its "
            "processes together. `results` names the suites when there are more than twelve. `harness.results` is the "
            "call alone: a data frame of every column of every run.",
        ),
        tables=(_seconds(found), _sizes(found)),
        targets=tuple(_targets(found, options.quick)),
        machine=facts,
    )


def _seconds(found: Sequence[Measured]) -> Table:
    built = ("site, s", "of CPUs, s", "MB")
    asked = ("results, s", "results --suite, s", "harness.results, s")
    columns = ("runs", *built, "one run more, s", "nothing new, s", *asked)
    rows = tuple(
        (
            f"{item.runs:,}",
            item.built.seconds,
            item.built.cpu,
            item.built.memory / 1e6,
            item.one_more.seconds,
            item.unchanged.seconds,
            item.all_suites.seconds,
            item.one_suite.seconds,
            item.all_results,
        )
        for item in found
    )
    return Table("Seconds and peak memory", columns, rows)


def _sizes(found: Sequence[Measured]) -> Table:
    columns = ("runs", "files", "all, MB", "overview, kB", "largest page, kB")
    rows = tuple(
        (
            f"{item.runs:,}",
            item.sizes.files,
            item.sizes.total / 1e6,
            item.sizes.overview / 1e3,
            item.sizes.largest / 1e3,
        )
        for item in found
    )
    return Table("Sizes; a page counts with all style and scripts", columns, rows)


def _targets(found: Sequence[Measured], quick: bool) -> list[Target]:
    """The issue's, each judged at the size that it names."""
    by_size = {item.runs: item for item in found}
    built, large = by_size.get(JUDGED), by_size.get(LARGE)
    wanted: list[tuple[str, float, str, float | None]] = [
        (f"site of {JUDGED:,} runs, s", 20, "under 20", built.built.seconds if built else None),
        (f"site of {JUDGED:,} runs, MiB", 1024, "under 1,024", built.built.memory / 2**20 if built else None),
        (f"site of {JUDGED:,} runs after one more, s", 3, "under 3", built.one_more.seconds if built else None),
        ("overview, kB", 300, "under 300", max(item.sizes.overview for item in found) / 1e3),
        ("largest page, kB", 1000, "under 1,000", max(item.sizes.largest for item in found) / 1e3),
        (f"results of {LARGE:,} runs, s", 2, "under 2", large.all_suites.seconds if large else None),
        (f"results --suite among {LARGE:,} runs, s", 2, "under 2", large.one_suite.seconds if large else None),
    ]
    return [
        Target(what, text, value, None if quick or value is None else value < limit)
        for what, limit, text, value in wanted
    ]


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write."""
    options = parsed(arguments)
    report(benchmark(options), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
