"""One trial alone: this harness against `transformers.Trainer` + `peft`, every method, A and B in turn.

    python -m benchmarks.solo --backbone starter --repeats 5
    python -m benchmarks.solo --quick

Rows, recipe and settings are those of `benchmarks.vs_peft`. For each method both sides run the same single trial
--repeats times, the order turning round each time; shown are medians, and the smallest and the largest of the
repetitions. "trial" is what a user waits for: for the harness a suite of one trial with an empty database
(decompositions and tokens are in its cache after the warm-up), for the other side from loading the weights to the
last evaluation. "step" is training alone, by each side's clock, over the number of optimizer steps. Methods that
`peft` lacks have no ratio.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import _common as common
from benchmarks._grid import Grid, Workplace, grid_parser, place_backbone, workplace
from benchmarks._peer import KINDS, Peer, PeerTrial, with_rate
from benchmarks._rows import SHAPES, write_mirror
from benchmarks.vs_peft import ALONE, SHARED, make_row
from harness.devices import pick_device
from harness.trial import Recipe

RATE = 5e-4


@dataclass(frozen=True)
class Seconds:
    """One trial that was run: wall time as a whole, and training alone."""

    trial: float
    train: float


def sides(name: str, grid: Grid, work: Workplace, peer: Peer) -> dict[str, Callable[[], Seconds]]:
    """Calls that run the one trial of `grid` on either side."""
    row, task, seed = grid.rows[0], grid.tasks[0], grid.seeds[0]

    def ours() -> Seconds:
        run = work.run(grid, "off")
        return Seconds(run.seconds, float(run.frame["train_seconds"].iloc[0]))

    def theirs() -> Seconds:
        recipe = with_rate(Recipe(**grid.recipe), row.rate)
        run = peer.run(PeerTrial(row.method, row.parameters, grid.backbone, task, recipe, seed, grid.train_size))
        return Seconds(run.seconds, run.train_seconds)

    return {"ours": ours} if name.partition(":")[0] not in KINDS else {"ours": ours, "theirs": theirs}


def table_row(name: str, found: Mapping[str, Sequence[Seconds]], steps: int) -> tuple[common.Cell, ...]:
    """Medians of both sides with their ratios."""
    trial = {side: statistics.median(run.trial for run in runs) for side, runs in found.items()}
    step = {side: statistics.median(run.train for run in runs) / steps for side, runs in found.items()}
    spread = "–".join(common.shown(end(run.trial for run in found["ours"])) for end in (min, max))
    if "theirs" not in found:
        return (name, trial["ours"], spread, None, None, 1000 * step["ours"], None, None)
    ratios = (trial["theirs"] / trial["ours"], step["theirs"] / step["ours"])
    return (
        name,
        trial["ours"],
        spread,
        trial["theirs"],
        ratios[0],
        1000 * step["ours"],
        1000 * step["theirs"],
        ratios[1],
    )


COLUMNS = (
    "method",
    "trial, harness, s",
    "from–to",
    "trial, peft, s",
    "ratio",
    "step, harness, ms",
    "step, peft, ms",
    "ratio of steps",
)


def benchmark(options: argparse.Namespace) -> common.Result:
    """Measure all methods."""
    device = pick_device(options.device)
    rows: list[tuple[common.Cell, ...]] = []
    with workplace(options.device, options.threads, options.models_root) as work:
        facts = common.machine(work.settings)
        write_mirror(work.folder / "data", [options.task], options.rows, options.test_rows, options.data_root)
        backbone, in_words = place_backbone(options.backbone, work)
        recipe = {"epochs": options.epochs, "batch_size": 32, "max_length": options.max_length}
        recipe |= {"eval_batch_size": 64, "precision": options.precision}
        peer = Peer(work.settings)
        steps = options.epochs * math.ceil(options.rows / 32)
        for name in options.methods:
            grid = Grid([make_row(name, RATE)], (options.task,), (0,), backbone, recipe, options.rows)
            calls = sides(name, grid, work, peer)
            common.interleaved(calls, 1)  # caches and imports
            rows.append(table_row(name, common.interleaved(calls, options.repeats), steps))
    return common.Result(
        name=f"solo-{options.backbone}-{device.type}",
        title=f"One trial alone against Trainer + peft: {in_words}",
        command=options.command,
        quick=options.quick,
        options=common.plain_options(options),
        notes=(
            f"{options.rows} rows of {options.task}, {steps} steps, medians of {options.repeats}",
            "the harness counts FLOPs, checks the plan and stores the run within its time",
        ),
        tables=(
            common.Table("Seconds of one trial; a ratio above 1 is in favour of the harness", COLUMNS, tuple(rows)),
        ),
        machine=facts,
    )


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    made = grid_parser(__doc__)
    made.add_argument("--data-root", type=Path, help="mirror of the real task; default: made-up rows")
    made.add_argument("--methods", nargs="+", choices=[*SHARED, *ALONE], default=[*SHARED, *ALONE])
    made.add_argument("--task", choices=list(SHAPES), default="mrpc")
    made.add_argument("--rows", type=int, default=256, help="training rows")
    made.add_argument("--test-rows", type=int, default=128)
    made.add_argument("--epochs", type=int, default=1)
    made.add_argument("--max-length", type=int, default=256)
    made.add_argument("--repeats", type=int, default=5)
    return common.parse(
        made, "solo", arguments, methods=["lora", "lora_xs"], rows=32, test_rows=16, max_length=32, repeats=1
    )


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write."""
    options = parsed(arguments)
    common.report(benchmark(options), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
