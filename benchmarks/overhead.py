"""Wall time of a run over its step time: what loading, encoding, initialising and bookkeeping add to training.

    python -m benchmarks.overhead
    python -m benchmarks.overhead --quick

    ratio = (wall - evaluation) / steps

- wall: seconds of the whole request, from the plan to the stored results: checks, loading of weights, encoding of rows,
  decompositions, counting of FLOPs, measuring of memory, database.
- steps: training seconds of its trials as the harness measures them (`harness.measure.train_seconds`): batches to the
  device, forward, backward, clipping, update.
- evaluation: `eval_seconds`, on `select` and the test set after every epoch. It is work that was asked for, neither
  training nor overhead, and is left out of both.

The grid (some methods that decompose and some that do not, one learning rate, trials one after the other) is run
--repeats times with an empty cache ("cold") and as often with what an earlier run left there ("warm"), in turn, after a
first run that pays for imports. A loop of Trainer + peft over the methods that peft has is measured beside it, by the
same formula: its wall time is loading, attaching and `Trainer.train`, with the encoding of rows once for each trial;
its steps are its epochs, batches included, without evaluation and without what `Trainer.train` prepares.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import _common as common
from benchmarks._grid import Grid, GridRun, Workplace, grid_parser, place_backbone, workplace
from benchmarks._peer import KINDS, Peer, PeerTrial, with_rate
from benchmarks._rows import write_mirror
from benchmarks.vs_peft import ALONE, SHARED, make_row
from harness.devices import pick_device
from harness.trial import Recipe

RATE = 5e-4
WANTED = 1.2
TASK = "mrpc"


@dataclass(frozen=True)
class Parts:
    """Seconds of one run of a grid, added up over its trials."""

    wall: float
    steps: float
    evaluation: float
    load: float | None = None
    init: float | None = None

    @property
    def ratio(self) -> float:
        """The definition of this benchmark."""
        return (self.wall - self.evaluation) / self.steps

    @property
    def rest(self) -> float | None:
        """What no clock of a trial saw; None if some part is unknown."""
        if self.load is None or self.init is None:
            return None
        return self.wall - self.steps - self.evaluation - self.load - self.init


def parts(run: GridRun) -> Parts:
    """Of the harness."""
    sums = run.frame[["train_seconds", "eval_seconds", "load_seconds", "init_seconds"]].sum()
    return Parts(run.seconds, *map(float, sums))


def theirs(grid: Grid, peer: Peer) -> Parts:
    """Of the other side, on the rows that it has."""
    encoding = peer.encoding_seconds
    runs = []
    for row in grid.rows:
        if row.method in KINDS:
            recipe = with_rate(Recipe(**grid.recipe), row.rate)
            runs.append(
                peer.run(PeerTrial(row.method, row.parameters, grid.backbone, TASK, recipe, 0, grid.train_size))
            )
    encoding = (peer.encoding_seconds - encoding) * len(runs)
    steps, evaluation = sum(run.train_seconds for run in runs), sum(run.eval_seconds for run in runs)
    return Parts(sum(run.seconds for run in runs) + encoding, steps, evaluation)


def measure(grid: Grid, work: Workplace, repeats: int) -> dict[str, list[Parts]]:
    """All sides in turn, after one run that pays for imports and fills the warm cache."""
    work.run(grid, "off")
    return common.interleaved(
        {
            "harness, cold": lambda: parts(work.fresh_cache().run(grid, "off")),
            "harness, warm": lambda: parts(work.run(grid, "off")),
            "Trainer + peft": lambda: theirs(grid, Peer(work.settings)),
        },
        repeats,
    )


def table(found: dict[str, list[Parts]]) -> common.Table:
    """Medians of each side."""
    rows: list[tuple[common.Cell, ...]] = []
    for side, runs in found.items():
        shown = sorted(runs, key=lambda run: run.ratio)[len(runs) // 2]
        spread = "–".join(common.shown(end(run.ratio for run in runs)) for end in (min, max))
        rows.append(
            (side, shown.wall, shown.steps, shown.load, shown.init, shown.evaluation, shown.rest, shown.ratio, spread)
        )
    columns = ("side", "wall", "steps", "load", "init", "evaluation", "rest", "ratio", "from–to")
    return common.Table("Seconds, all trials of the run whose ratio is the median", columns, tuple(rows))


def benchmark(options: argparse.Namespace) -> common.Result:
    """Measure cold, warm and the other side."""
    device = pick_device(options.device)
    with workplace(options.device, options.threads, options.models_root) as work:
        facts = common.machine(work.settings)
        write_mirror(work.folder / "data", [TASK], options.rows, options.test_rows, options.data_root)
        backbone, in_words = place_backbone(options.backbone, work)
        recipe = {"epochs": options.epochs, "batch_size": 32, "max_length": options.max_length}
        recipe |= {"eval_batch_size": 64, "precision": options.precision}
        rows = [make_row(name, RATE) for name in options.methods]
        found = measure(Grid(rows, (TASK,), (0,), backbone, recipe, options.rows), work, options.repeats)
    warm = statistics.median(run.ratio for run in found["harness, warm"])
    reached = None if options.quick else warm <= WANTED
    return common.Result(
        name=f"overhead-{options.backbone}-{device.type}",
        title=f"Wall time over step time: {in_words}",
        command=options.command,
        quick=options.quick,
        options=common.plain_options(options),
        notes=(
            f"{len(rows)} trials, {options.rows} rows, {options.epochs} epochs, one by one, {options.repeats} times",
            "ratio = (wall - evaluation) / steps; rest: plan, checks, counting of FLOPs, memory, database",
            "init counts a cached decomposition with the seconds it once took, so that rest can be negative when warm",
        ),
        tables=(table(found),),
        targets=(common.Target("wall over step time, warm cache", f"at most {WANTED:g}", warm, reached),),
        machine=facts,
    )


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    made = grid_parser(__doc__)
    made.add_argument("--data-root", type=Path, help="mirror of the real MRPC; default: made-up rows")
    made.add_argument("--methods", nargs="+", choices=[*SHARED, *ALONE], default=["lora", "pissa", "dora", "lora_xs"])
    made.add_argument("--rows", type=int, default=1024, help="training rows")
    made.add_argument("--test-rows", type=int, default=128)
    made.add_argument("--epochs", type=int, default=2)
    made.add_argument("--max-length", type=int, default=128)
    made.add_argument("--repeats", type=int, default=3)
    quick = {"methods": ["lora", "lora_xs"], "rows": 32, "test_rows": 16, "epochs": 1, "max_length": 32, "repeats": 1}
    return common.parse(made, "overhead", arguments, **quick)


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write."""
    options = parsed(arguments)
    common.report(benchmark(options), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
