"""Trials on Ray: how many a minute with 1, 2, 4 workers, and what each costs beside its own work.

    python -m benchmarks.cluster
    python -m benchmarks.cluster --quick

Ray is started on this machine, or reached with --address. Measured beside it, in turn: the worker processes that the
harness uses without Ray (`--executor local`), one thread each.

- real trials: a small grid, one trial at a time in each worker, with caches and workers warm. Seconds from the first
  order to the last stored run. overhead = (seconds x workers - the trials' own seconds) / trials, where there is a core
  for each worker; elsewhere it is left out.
- trials that do nothing (`benchmarks._no_op`): what is left is the executor and the store. Handed out in packs, as by
  `run`, and a tenth of them alone. Start: Ray, the check of its nodes, workers that have run one trial each.

More workers than cores show what a bigger cluster costs the driver, not how much faster trials become.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import _common as common
from benchmarks._grid import STARTER, Grid, Workplace, workplace
from benchmarks._no_op import run_nothing
from benchmarks._rows import write_mirror
from benchmarks.vs_peft import make_row
from harness.campaign import Request, make_plan, record_plan
from harness.cluster.machines import Cluster, RayMachines
from harness.execution import Packer, one_by_one, run_members
from harness.executors import available_cores
from harness.links import Processes
from harness.pack.plan import make_packs
from harness.plugins import Plugins
from harness.progress import Silent
from harness.records import Member, RunRecord, SuiteInfo
from harness.settings import Settings
from harness.store import open_store
from harness.workers import Workers

WANTED_SECONDS = 120.0
"""For --no-op trials, as many as the issue names."""
NO_OP_TRIALS = 10_000
TASK = "mrpc"


@dataclass(frozen=True)
class Campaign:
    """Trials, and what the store must know of them."""

    info: SuiteInfo
    plugins: Plugins

    def run(self, executor: Workers, members: Sequence[Member], packer: Packer = one_by_one) -> tuple[float, float]:
        """(seconds from the first order to the last stored run, the trials' own seconds), with an empty database."""
        watcher = _Seconds()
        with tempfile.TemporaryDirectory() as folder, open_store(str(Path(folder) / "benchmark.db")) as store:
            record_plan(store, replace(self.info, members=tuple(members)), self.plugins)
            began = time.perf_counter()
            outcome = run_members(members, store, executor, watcher, packer)
            seconds = time.perf_counter() - began
        if outcome.ok != len(members):
            raise RuntimeError(f"trials of the benchmark did not end well: {watcher.bad}")
        return seconds, watcher.seconds


class _Seconds(Silent):
    """Adds up what trials took by their own clocks."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.bad = ""

    def finished(self, record: RunRecord) -> None:
        self.seconds += (record.finished_at - record.started_at).total_seconds()
        if record.status != "ok":
            self.bad = record.reason


def campaign(work: Workplace, options: argparse.Namespace) -> Campaign:
    """The grid of real trials; of its first one the trials that do nothing are made."""
    recipe = {"epochs": 1, "batch_size": 32, "max_length": options.max_length, "eval_batch_size": 64}
    rows = [make_row(name, 5e-4) for name in ("lora", "pissa")]
    grid = Grid(rows, (TASK,), range(options.trials // len(rows)), STARTER, recipe, options.rows)
    plans = make_plan(Request(str(work.suite(grid)), settings=work.settings, db=str(work.folder / "none.db")))
    return Campaign(plans.info, plans.plugins)


Place = Callable[[int], Workers]
"""Makes so many workers."""


def processes(settings: Settings) -> Place:
    """Worker processes of this machine with one thread each, as on Ray."""
    alone = replace(settings, threads=1)
    return lambda jobs: Workers(jobs, alone, Processes(alone))


@contextlib.contextmanager
def on_ray(settings: Settings, options: argparse.Namespace) -> Iterator[Place]:
    """Workers on a cluster with room for the most that are measured."""
    with contextlib.closing(RayMachines(Cluster(options.address), settings)) as machines:
        machines.jobs(max(options.workers))

        def make(jobs: int) -> Workers:
            made = machines.executor(jobs)
            assert isinstance(made, Workers)
            return made

        yield make


def real_trials(found: Campaign, sides: dict[str, Place], options: argparse.Namespace) -> common.Table:
    """Rates with so many workers; medians over the repeats."""
    rows: list[tuple[common.Cell, ...]] = []
    trials = found.info.members
    for workers in options.workers:
        for side, make in sides.items():
            with contextlib.closing(make(workers)) as executor:
                executor.run([(member.trial,) for member in trials[:workers]], Silent())  # loads libraries
                runs = sorted(found.run(executor, trials) for _ in range(options.repeats))
            seconds, own = runs[len(runs) // 2]
            overhead = (seconds * workers - own) / len(trials) if workers <= available_cores() else None
            rows.append((side, workers, len(trials), seconds, 60 * len(trials) / seconds, own / len(trials), overhead))
    columns = ("side", "workers", "trials", "seconds", "a minute", "own seconds", "overhead a trial")
    return common.Table("Real trials, one at a time in each worker", columns, tuple(rows))


def no_op_trials(found: Campaign, settings: Settings, options: argparse.Namespace) -> common.Table:
    """What executor and store take for trials that do nothing, and what it takes until there are workers."""
    first = found.info.members[0]
    members = [replace(first, trial=replace(first.trial, seed=seed)) for seed in range(options.no_op)]
    jobs = min(max(options.workers), available_cores())
    packer = partial(make_packs, plugins=found.plugins, pack="auto", jobs=jobs)
    rows: list[tuple[common.Cell, ...]] = []
    for side in ("ray", "processes"):
        with contextlib.ExitStack() as stack:
            began = time.perf_counter()
            make = stack.enter_context(on_ray(settings, options)) if side == "ray" else processes(settings)
            executor = stack.enter_context(contextlib.closing(make(jobs)))
            executor.runner = run_nothing
            executor.run([(member.trial,) for member in members[:jobs]], Silent())
            start = time.perf_counter() - began
            for handed, count, cut in (("packs", len(members), packer), ("alone", -(-len(members) // 10), one_by_one)):
                seconds, _ = found.run(executor, members[:count], cut)
                rows.append((side, handed, jobs, count, start, seconds, 1000 * seconds / count, start + seconds))
    columns = ("side", "handed out", "workers", "trials", "start, s", "trials, s", "ms a trial", "in all, s")
    return common.Table("Trials that do nothing, through executor and store", columns, tuple(rows))


def benchmark(options: argparse.Namespace) -> common.Result:
    """Measure both kinds of trials."""
    with workplace(options.device, 1) as work:
        facts = common.machine(work.settings)
        write_mirror(work.folder / "data", [TASK], options.rows, 64, None)
        found = campaign(work, options)
        nothing = no_op_trials(found, work.settings, options)
        with on_ray(work.settings, options) as ray:
            real = real_trials(found, {"ray": ray, "processes": processes(work.settings)}, options)
    seconds = float(nothing.rows[0][-1] or 0)
    judged = not options.quick and options.no_op == NO_OP_TRIALS
    return common.Result(
        name="cluster",
        title="Trials on Ray",
        command=options.command,
        quick=options.quick,
        options=common.plain_options(options),
        notes=(
            f"real trials: lora and pissa on the starter encoder, {options.rows} rows, one epoch, one thread, "
            f"median of {options.repeats}",
            "Ray, its nodes and the workers share the cores of one machine: no network is in these figures",
        ),
        tables=(nothing, real),
        targets=(
            common.Target(
                f"{NO_OP_TRIALS:,} trials that do nothing, in packs, with the start of Ray, in seconds",
                f"less than {WANTED_SECONDS:g}",
                seconds,
                seconds < WANTED_SECONDS if judged else None,
            ),
        ),
        machine=facts,
    )


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    made = common.parser(__doc__)
    made.add_argument("--address", default="", help="of a Ray cluster; default: Ray is started here")
    made.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    made.add_argument("--no-op", type=int, default=NO_OP_TRIALS, help="trials that do nothing")
    made.add_argument("--trials", type=int, default=40, help="real ones")
    made.add_argument("--rows", type=int, default=256, help="training rows")
    made.add_argument("--max-length", type=int, default=64)
    made.add_argument("--repeats", type=int, default=3)
    quick = {"workers": [1, 2], "no_op": 100, "trials": 4, "rows": 32, "max_length": 32, "repeats": 1}
    return common.parse(made, "cluster", arguments, **quick)


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write."""
    options = parsed(arguments)
    common.report(benchmark(options), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
