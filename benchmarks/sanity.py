"""Does the harness train FT and LoRA as well as a plain script? The check before a board is filled.

    python -m benchmarks.sanity --models-root DIR --data-root DIR
    python -m benchmarks.sanity --models-root DIR --data-root DIR --quick

Both sides get the same settings. The plain script (`benchmarks/_plain.py`) is `transformers.Trainer` and `peft` on the
mirror's files and imports nothing of the harness: its rows, order, heads and padding are its own, so that scores agree
in distribution, not one by one. Shown for each task and method: means over the seeds after the last epoch, their
difference with its 95 % interval (Welch), and whether it is a difference.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks import _common as common
from benchmarks._grid import MINILM, Grid, Row, run_grid
from benchmarks._plain import TASKS, PlainTrial, train
from harness import backbones
from harness.devices import pick_device
from harness.settings import Settings
from harness.trial import Recipe

LORA_MAPS = "q,k,v,o,up,down"
PLAIN_LORA = {
    "r": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.0,
    "target_modules": ["query", "key", "value", "dense"],
    "exclude_modules": ["pooler.dense"],
}
"""The same maps, as BERT names them; its pooler has a `dense` too, which is no map of a layer."""
ALLOWED = 0.02
"""A smaller difference is none that a board would show."""
COLUMNS = ("task", "method", "harness", "plain", "difference", "from", "to", "agree")


def rows_of(options: argparse.Namespace) -> list[Row]:
    """What is trained on both sides."""
    return [Row("ft", options.ft_rate), Row("lora", options.lora_rate, {"targets": LORA_MAPS, "r": 8, "alpha": 16.0})]


def plain_scores(task: str, row: Row, recipe: Recipe, options: argparse.Namespace, settings: Settings) -> list[float]:
    """One score for each seed."""
    folder = backbones.find_folder(MINILM, settings)
    if folder is None:
        raise SystemExit(f"{MINILM} is not below --models-root")
    lora = PLAIN_LORA if row.method == "lora" else None
    length, ratio = recipe.max_length, recipe.warmup_ratio
    sizes = (options.rows, recipe.epochs, recipe.batch_size, row.rate, length, ratio, recipe.weight_decay, recipe.clip)
    with backbones.quiet():
        return [
            train(PlainTrial(task, folder, lora, *sizes, seed), options.data_root, pick_device(options.device))
            for seed in range(options.seeds)
        ]


def compared(task: str, method: str, ours: Sequence[float], plain: Sequence[float]) -> tuple[common.Cell, ...]:
    """One line of the table."""
    difference = float(np.mean(ours) - np.mean(plain))
    low, high = math.nan, math.nan
    if min(len(ours), len(plain)) > 1 and np.std(ours) + np.std(plain) > 0:
        found = stats.ttest_ind(ours, plain, equal_var=False).confidence_interval(0.95)
        low, high = float(found.low), float(found.high)
    agree = abs(difference) <= ALLOWED or low <= 0 <= high
    spans = (None if math.isnan(low) else low, None if math.isnan(high) else high)
    return (task, method, float(np.mean(ours)), float(np.mean(plain)), difference, *spans, "yes" if agree else "no")


def benchmark(options: argparse.Namespace) -> common.Result:
    """Train both sides."""
    made = {"epochs": options.epochs, "batch_size": options.batch_size, "select_rows": 100, "length_pool": 1}
    recipe = Recipe(**made)  # type: ignore[arg-type]
    lines: list[tuple[common.Cell, ...]] = []
    with tempfile.TemporaryDirectory() as name:
        settings = Settings(options.data_root, options.models_root, Path(name) / "cache", options.device)
        facts = common.machine(settings)
        for task in options.tasks:
            suite = Path(name) / f"{task}.toml"
            grid = Grid(rows_of(options), (task,), range(options.seeds), MINILM, made, options.rows)
            suite.write_text(grid.toml(), encoding="utf-8")
            run = run_grid(suite, "auto", settings, options.jobs)
            for row in grid.rows:
                ours = run.rows_of(row.label)["score_last"].astype(float).tolist()
                lines.append(compared(task, row.method, ours, plain_scores(task, row, recipe, options, settings)))
                common.print_table(common.Table(task, COLUMNS, tuple(lines[-1:])))
    every = all(line[-1] == "yes" for line in lines)
    return common.Result(
        name=f"sanity-{facts['stack']['device'].partition(':')[0]}",
        title="FT and LoRA against a plain script: MiniLM",
        command=options.command,
        quick=options.quick,
        options=common.plain_options(options),
        notes=(
            f"{options.rows or 'all'} rows, {options.epochs} epochs, batches of {options.batch_size}, "
            f"{options.seeds} seeds, score after the last epoch",
            "the plain script reads its rows, draws its head and orders its rows by itself",
        ),
        tables=(common.Table("Scores, and harness minus plain", COLUMNS, tuple(lines)),),
        targets=(
            common.Target(
                "rows that agree with a plain script",
                f"all: within {100 * ALLOWED:g} points, or no difference shown",
                sum(line[-1] == "yes" for line in lines) / len(lines),
                None if options.quick else every,
            ),
        ),
        machine=facts,
    )


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    made = common.parser(__doc__)
    made.set_defaults(out=common.STATISTICS)
    made.add_argument("--models-root", type=Path, default=Settings().models_root, help="where MiniLM's weights are")
    made.add_argument("--data-root", type=Path, default=Settings().data_root, help="mirror of GLUE")
    made.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    made.add_argument("--rows", type=int, default=0, help="training rows; 0: all")
    made.add_argument("--epochs", type=int, default=5)
    made.add_argument("--batch-size", type=int, default=32)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--ft-rate", type=float, default=1e-4, help="of head and backbone")
    made.add_argument("--lora-rate", type=float, default=1e-3, help="of head and adapter")
    made.add_argument("--jobs", type=int, default=0, help="processes of the harness; 0: as `run` chooses")
    options = common.parse(made, "sanity", arguments, tasks=["mrpc"], rows=150, epochs=1, seeds=2, jobs=1)
    if options.models_root is None or options.data_root is None:
        made.error(
            "name the weights with --models-root (or HARNESS_MODELS), the data with --data-root (or HARNESS_DATA)"
        )
    return options


def main(arguments: Sequence[str]) -> None:
    """Train, print, write."""
    options = parsed(arguments)
    common.report(benchmark(options), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
