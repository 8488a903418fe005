"""Wall time of a grid against the number of trials, training rows, rank and depth; memory against finished trials.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --backbone roberta-base --device cuda
    python -m benchmarks.scaling --quick

Each axis is varied alone, LoRA on made-up MRPC rows, one grid for each point, --repeats rounds with the axis walked
up and down in turn; a point is the smallest of its rounds, for whatever else runs only adds. Time should grow along a
line: printed are the line of least squares and the largest distance of a point from it, in shares of the largest
value. Resident memory of the process is read whenever a trial of the largest grid has finished; over the trials after
the first quarter it should stay flat. "depth" counts layers of random weights in the backbone's other dimensions.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks import _common as common
from benchmarks._grid import (
    Grid,
    GridRun,
    Row,
    Workplace,
    grid_parser,
    place_backbone,
    workplace,
)
from benchmarks._rows import write_mirror
from harness.devices import pick_device

RATES = (1e-4, 2e-4, 5e-4, 1e-3)
"""Trials of a grid differ in seed and in these."""
FLAT = 0.05
"""Growth of memory after the first quarter of trials that still counts as flat."""
STRAIGHT = 0.1
"""Distance from the line that still counts as one."""


def rows_at(rank: int) -> list[Row]:
    """LoRA at all rates."""
    return [Row("lora", rate, {"r": rank}) for rate in RATES]


def walk(
    axis: Sequence[int], make: Callable[[int], Grid], work: Workplace, options: argparse.Namespace
) -> list[GridRun]:
    """The fastest run of each point."""
    work.run(make(axis[0]), options.pack)  # caches
    calls = {str(value): partial(work.run, make(value), options.pack) for value in axis}
    found = common.interleaved(calls, options.repeats)
    return [min(found[str(value)], key=lambda run: run.seconds) for value in axis]


def line(title: str, x: str, axis: Sequence[int], runs: Sequence[GridRun]) -> common.Line:
    """Wall seconds along an axis."""
    return common.Line(
        title, x, "wall seconds", tuple((value, run.seconds) for value, run in zip(axis, runs, strict=True))
    )


def table(lines: Sequence[common.Line]) -> common.Table:
    """All points."""
    rows = tuple((item.x, int(x), y, item.deviation) for item in lines for x, y in item.points)
    return common.Table("Points", ("axis", "value", "wall seconds", "axis off its line"), rows)


def memory(run: GridRun) -> tuple[common.Line | None, common.Target]:
    """Resident memory over finished trials, and whether it stays flat after the first quarter."""
    settled = run.memory[len(run.memory) // 4 :]
    growth = max(settled) / settled[0] - 1 if settled else None
    target = common.Target(
        f"growth of resident memory after the first quarter of {len(run.memory)} trials",
        f"at most {FLAT:.0%}",
        growth,
        None if growth is None else growth <= FLAT,
    )
    points = tuple((float(number), bytes_ / 2**20) for number, bytes_ in enumerate(run.memory, start=1))
    if len(points) < 2:
        return None, target
    return common.Line("Memory", "finished trials", "resident MiB", points), target


def straight(item: common.Line, quick: bool) -> common.Target:
    """Whether an axis is a line."""
    reached = None if quick else item.deviation <= STRAIGHT
    return common.Target(f"{item.title}: distance from the line", f"at most {STRAIGHT:.0%}", item.deviation, reached)


def benchmark(options: argparse.Namespace) -> common.Result:
    """Walk along the four axes."""
    device = pick_device(options.device)
    with workplace(options.device, options.threads, options.models_root) as work:
        facts = common.machine(work.settings)
        write_mirror(work.folder / "data", ["mrpc"], max(options.train_rows), options.test_rows, None)
        backbone, in_words = place_backbone(options.backbone, work)
        recipe = {"epochs": 1, "batch_size": 32, "max_length": options.max_length, "precision": options.precision}
        recipe |= {"eval_batch_size": 64, "select_rows": min(16, min(options.train_rows) // 10 + 1)}
        base = Grid(rows_at(8), ("mrpc",), (0,), backbone, recipe, min(options.train_rows))

        def trials(count: int) -> Grid:
            rates = rows_at(8)[: min(count, len(RATES))]
            return dataclasses.replace(base, rows=rates, seeds=range(max(1, count // len(RATES))))

        depths = {count: place_backbone(options.backbone, work, count)[0] for count in options.depths}
        by_trials = walk(options.trials, trials, work, options)
        by_rows = walk(options.train_rows, lambda count: dataclasses.replace(base, train_size=count), work, options)
        by_rank = walk(options.ranks, lambda rank: dataclasses.replace(base, rows=rows_at(rank)), work, options)
        by_depth = walk(options.depths, lambda count: dataclasses.replace(base, backbone=depths[count]), work, options)
    lines = [
        line("Trials", "trials", options.trials, by_trials),
        line("Training rows", "training rows", options.train_rows, by_rows),
        line("Rank", "rank", options.ranks, by_rank),
        line("Depth", "layers", options.depths, by_depth),
    ]
    curve, flat = memory(by_trials[-1])
    return common.Result(
        name=f"scaling-{options.backbone}-{device.type}",
        title=f"How wall time grows: {in_words}",
        command=options.command,
        quick=options.quick,
        options=common.plain_options(options),
        notes=(
            f"pack = {options.pack}",
            f"but for its axis a grid is {len(RATES)} trials of LoRA, r = 8, {min(options.train_rows)} rows, one epoch",
        ),
        tables=(table(lines),),
        lines=(*lines, *([curve] if curve else [])),
        targets=(*(straight(item, options.quick) for item in lines), flat),
        machine=facts,
    )


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    made = grid_parser(__doc__)
    made.add_argument("--trials", nargs="+", type=int, default=[1, 4, 16, 64, 256])
    made.add_argument("--train-rows", nargs="+", type=int, default=[64, 128, 256, 512])
    made.add_argument("--ranks", nargs="+", type=int, default=[2, 8, 32, 64])
    made.add_argument("--depths", nargs="+", type=int, default=[2, 4, 8, 12])
    made.add_argument("--test-rows", type=int, default=32)
    made.add_argument("--max-length", type=int, default=64)
    made.add_argument("--repeats", type=int, default=1)
    made.add_argument("--pack", default="auto", help="auto, off or a number of trials")
    quick = {"trials": [1, 4], "train_rows": [16, 32], "ranks": [2, 4], "depths": [1, 2]}
    return common.parse(made, "scaling", arguments, **quick, test_rows=8, max_length=32)


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write."""
    options = parsed(arguments)
    common.report(benchmark(options), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
