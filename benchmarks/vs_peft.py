"""Trials per hour of a grid: this harness against a loop of `transformers.Trainer` and `peft` on the same machine.

    python -m benchmarks.vs_peft                                    # the bundled starter encoder
    python -m benchmarks.vs_peft --backbone minilm --models-root DIR
    python -m benchmarks.vs_peft --backbone roberta-base            # random weights of its dimensions
    python -m benchmarks.vs_peft --quick

A grid of methods x learning rates x seeds on rows shaped like MRPC and RTE (`benchmarks/_rows.py`; real ones with
--data-root): batches of 32, one recipe, the same rows and maximal length on both sides, evaluation of `select` and the
test set after every epoch. For each task the grid is run whole by the harness, and before and after it the other side
runs a sample of it: how long one of its trials takes does not depend on what was trained before, so that its trials per
hour follow from some seeds. That sample is as many trials of each method as --peer-trials says.

Both are timed as a user waits for them: the harness from the request to the stored results, planning, decompositions,
counting of FLOPs, measuring of costs and database included, with empty caches; Trainer from loading the weights to
the last evaluation, without encoding of rows, which is done once and printed apart. What imports cost is paid by a
warm-up of both.

FLOPs are those of training, as the harness counts them, over the whole wall time, evaluation and all; the peak is the
fastest square matrix product on the same device. Methods that `peft` lacks are run and timed apart, without a ratio.
The grid is the issue's, 120 trials a task; on a CPU of fewer rows, so that it ends in about a quarter of an hour. Every
size is an option.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import _common as common
from benchmarks._grid import (
    Grid,
    GridRun,
    Row,
    Workplace,
    grid_parser,
    peak_matmul_rate,
    place_backbone,
    workplace,
)
from benchmarks._peer import KINDS, Peer, PeerRun, PeerTrial, with_rate
from benchmarks._rows import SHAPES, write_mirror
from harness.devices import pick_device
from harness.executors import automatic_jobs
from harness.trial import Recipe

ALONE = ("lora_xs", "lora_sb", "qr_lora", "svd_lora")
"""Methods that `peft` has none of: timed, but compared with nothing."""
SHARED = (*KINDS, "lora:gaussian")
"""Eight rows that both have; the last is LoRA with A drawn from a normal distribution."""
RATES = (1e-4, 5e-4, 2e-3)
SIZES = {"seeds": (5, 5, 1), "rows": (1024, 256, 32), "test_rows": (0, 128, 16), "epochs": (2, 1, 1)}
"""Defaults on CUDA, on a CPU, and with --quick."""
WANTED = {("cpu", "starter"): 2.0, ("cpu", "minilm"): 1.3, ("cuda", "minilm"): 8.0, ("cuda", "roberta-base"): 8.0}
"""Ratios to reach, by kind of device and backbone."""


@dataclass(frozen=True)
class Block:
    """One task: the harness's grid, and the other side's sample around it."""

    task: str
    grid: Grid
    ours: GridRun
    theirs: dict[str, list[PeerRun]]
    """By row label."""

    def our_hourly(self) -> float:
        """Trials per hour."""
        return 3600 * self.grid.trials / self.ours.seconds

    def their_hourly(self) -> float:
        """Trials per hour of a loop over the same rows: from the mean seconds of each."""
        return 3600 / statistics.fmean(_mean_seconds(runs) for runs in self.theirs.values())

    def our_flop_rate(self) -> float:
        """FLOP/s of training over the grid's wall time."""
        return float(self.ours.frame["train_flops"].sum()) / self.ours.seconds

    def their_flop_rate(self) -> float:
        """The same for the other side, with the harness's counts for the same rows."""
        flops = sum(float(self.ours.rows_of(label)["train_flops"].mean()) for label in self.theirs)
        return flops / sum(map(_mean_seconds, self.theirs.values()))


def _mean_seconds(runs: Sequence[PeerRun]) -> float:
    return statistics.fmean(run.seconds for run in runs)


def make_row(text: str, rate: float) -> Row:
    """The row of a method's name on the command line."""
    name, _, variant = text.partition(":")
    return Row(name, rate, {"a_init": variant} if variant else {})


def measure(task: str, grid: Grid, work: Workplace, peer: Peer, options: argparse.Namespace) -> Block:
    """The other side's first half, the harness's grid, the other side's second half."""
    recipe = Recipe(**grid.recipe)

    def said(row: Row, seed: int) -> PeerTrial:
        trained = with_rate(recipe, row.rate)
        return PeerTrial(row.method, row.parameters, grid.backbone, task, trained, seed, grid.train_size)

    once = [row for row in grid.rows if row.rate == options.rates[0]]
    sample = [(row, said(row, seed)) for row in once for seed in grid.seeds[: options.peer_trials]]
    theirs: dict[str, list[PeerRun]] = {row.label: [] for row, _ in sample}

    def loop(part: Sequence[tuple[Row, PeerTrial]]) -> None:
        for row, trial in part:
            theirs[row.label].append(peer.run(trial))

    loop(sample[::2])
    ours = work.fresh_cache().run(grid, options.pack, options.jobs)
    loop(sample[1::2])
    return Block(task, grid, ours, theirs)


def alone(task: str, rows: Sequence[str], grid: Grid, work: Workplace, options: argparse.Namespace) -> GridRun | None:
    """The grid of the methods that only the harness has."""
    if not rows:
        return None
    made = [make_row(name, rate) for name in rows for rate in options.rates]
    return work.fresh_cache().run(dataclasses.replace(grid, rows=made), options.pack, options.jobs)


def summary(blocks: Sequence[Block], peak: float) -> common.Table:
    """The table that the benchmark is for."""
    rows: list[tuple[common.Cell, ...]] = []
    for block in blocks:
        ours, theirs = block.our_hourly(), block.their_hourly()
        timed = sum(map(len, block.theirs.values()))
        rows += [
            (
                block.task,
                "harness",
                block.grid.trials,
                ours,
                ours / theirs,
                block.our_flop_rate() / 1e9,
                block.our_flop_rate() / peak,
            ),
            (
                block.task,
                "Trainer + peft",
                timed,
                theirs,
                1.0,
                block.their_flop_rate() / 1e9,
                block.their_flop_rate() / peak,
            ),
        ]
    columns = ("task", "side", "trials timed", "trials per hour", "ratio", "GFLOP/s", "of the peak")
    return common.Table(f"Trials per hour; peak of the device {peak / 1e9:,.0f} GFLOP/s", columns, tuple(rows))


def by_method(blocks: Sequence[Block]) -> common.Table:
    """Seconds of the other side, and whether both sides learn the same: accuracy over the sampled trials."""
    rows: list[tuple[common.Cell, ...]] = []
    for block in blocks:
        for label, runs in block.theirs.items():
            frame = block.ours.rows_of(label)
            same = frame[frame["seed"].isin(list(block.grid.seeds)[: len(runs)])]
            trained = {int(count) for count in same["adapter_params"] + same["head_params"]}
            agree = "yes" if trained == {run.trainable for run in runs} else "no"
            theirs = statistics.fmean(run.accuracy for run in runs)
            rows.append((block.task, label, _mean_seconds(runs), float(same["score_last"].mean()), theirs, agree))
    columns = ("task", "row", "Trainer + peft, s", "accuracy, harness", "accuracy, peft", "same trained count")
    return common.Table("Each method: the first seeds at the first rate", columns, tuple(rows))


def of_alone(found: Mapping[str, GridRun]) -> common.Table:
    """Trials per hour of what peft lacks."""
    rows = tuple((task, len(run.frame), 3600 * len(run.frame) / run.seconds) for task, run in found.items())
    return common.Table("Methods that peft lacks, harness alone", ("task", "trials", "trials per hour"), rows)


def target(options: argparse.Namespace, kind: str, blocks: Sequence[Block]) -> common.Target:
    """The issue's ratio: all tasks of the grid together."""
    wanted = WANTED.get((kind, options.backbone))
    ours = sum(1 / block.our_hourly() for block in blocks)
    ratio = sum(1 / block.their_hourly() for block in blocks) / ours
    judged = None if wanted is None or options.quick else ratio >= wanted
    what = f"trials per hour over Trainer + peft, {options.backbone} on {kind}"
    return common.Target(what, "no figure set" if wanted is None else f"at least {wanted:g}", ratio, judged)


def benchmark(options: argparse.Namespace) -> common.Result:
    """Measure all tasks."""
    device = pick_device(options.device)
    with workplace(options.device, options.threads, options.models_root) as work:
        facts = common.machine(work.settings)
        write_mirror(work.folder / "data", options.tasks, options.rows, options.test_rows, options.data_root)
        backbone, in_words = place_backbone(options.backbone, work)
        recipe = {"epochs": options.epochs, "batch_size": 32, "max_length": options.max_length}
        recipe |= {"eval_batch_size": 64, "precision": options.precision}
        shared = [name for name in options.methods if name.partition(":")[0] in KINDS]
        rows = [make_row(name, rate) for name in shared for rate in options.rates]
        peer = Peer(work.settings)
        peak = peak_matmul_rate(device, options.precision)
        warm = Grid(rows[:1], options.tasks[:1], (0,), backbone, recipe, 32)
        work.run(warm, options.pack)
        peer.run(PeerTrial(rows[0].method, {}, backbone, options.tasks[0], Recipe(**recipe), 0, 32))
        blocks: list[Block] = []
        others: dict[str, GridRun] = {}
        for task in options.tasks:
            grid = Grid(rows, (task,), range(options.seeds), backbone, recipe, options.rows)
            blocks.append(measure(task, grid, work, peer, options))
            ours_alone = alone(task, [name for name in options.methods if name not in shared], grid, work, options)
            others |= {} if ours_alone is None else {task: ours_alone}
    padding = statistics.fmean(block.ours.frame["padding_share"].mean() for block in blocks)
    return common.Result(
        name=f"vs_peft-{options.backbone}-{device.type}",
        title=f"Grid against Trainer + peft: {in_words}",
        command=options.command,
        quick=options.quick,
        options=common.plain_options(options),
        notes=(
            f"harness: pack = {options.pack}, {options.jobs or automatic_jobs(work.settings)} processes; "
            "the other side: one process",
            f"encoding of rows took the other side {peer.encoding_seconds:.2f} s, in none of its figures",
            f"share of padding in the harness's batches: {padding:.1%}",
            "rows: real ones" if options.data_root else "rows: made up, with the lengths of the real ones",
        ),
        tables=(summary(blocks, peak), by_method(blocks), *([of_alone(others)] if others else [])),
        targets=(target(options, device.type, blocks),),
        machine=facts,
    )


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; sizes that were not given depend on the device."""
    made = grid_parser(__doc__)
    made.add_argument("--data-root", type=Path, help="mirror of the real MRPC and RTE; default: made-up rows")
    made.add_argument("--methods", nargs="+", choices=[*SHARED, *ALONE], default=[*SHARED, *ALONE])
    made.add_argument("--tasks", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    made.add_argument("--rates", nargs="+", type=float, default=list(RATES))
    made.add_argument("--seeds", type=int, help="how many; default: 5")
    made.add_argument("--rows", type=int, help="training rows; default: 1024 on CUDA, 256 on a CPU")
    made.add_argument("--test-rows", type=int, help="default: the real number on CUDA, 128 on a CPU")
    made.add_argument("--epochs", type=int, help="default: 2 on CUDA, 1 on a CPU")
    made.add_argument("--max-length", type=int, default=256)
    made.add_argument("--peer-trials", type=int, default=2, help="trials of each method that the other side runs")
    made.add_argument("--pack", default="auto", help="auto, off or a number of trials")
    made.add_argument("--jobs", type=int, default=0, help="processes of the harness; default: as `run` chooses")
    small = {"methods": ["lora", "vera", "lora_xs"], "tasks": ["mrpc"], "rates": [1e-3], "max_length": 32}
    options = common.parse(made, "vs_peft", arguments, **small)
    column = 2 if options.quick else 0 if pick_device(options.device).type == "cuda" else 1
    for name, values in SIZES.items():
        if getattr(options, name) is None:
            setattr(options, name, values[column])
    return options


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write."""
    options = parsed(arguments)
    common.report(benchmark(options), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
