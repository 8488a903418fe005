"""One method under two names, trained for real: the board must not tell them apart.

    python -m benchmarks.twins
    python -m benchmarks.twins --quick

`lora_twin` is LoRA with other draws: a plugin of four lines that lets one number of its random stream pass by before it
initialises. On the starter tasks, under the starter's recipe for LoRA, both rows are trained under the same seeds. They
differ in nothing but luck, so that a trustworthy board gives them one rank; if it did not, one such table in twenty
would be the price of a level of 95 %. `benchmarks.calibration` asks the same of thousands of simulated tables.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import harness
from benchmarks import _common as common
from harness.predictions import StoredPredictions
from harness.python import FilterOptions
from harness.settings import Settings
from harness.standings import Place, table_scores
from harness.stats.pairs import differences, paired_blocks, permutation_p, probability_of_improvement
from harness.stats.power import detectable
from harness.stats.ranks import RankRange, judge_table
from harness.stats.resampling import TaskScores
from harness.store import open_store

ROWS = ("lora", "lora_twin")
TASKS = ("acceptability", "entailment", "paraphrase", "similarity", "arithmetic")
COLUMNS = ("task", "difference", "from", "to", "detectable", "p", "p, runs swapped", "P(first run above second)")
PLUGIN = '''"""LoRA under another name, with other draws.

Formula  as LoRA's.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from methods.lora import LoRA


@dataclass(frozen=True)
class LoRATwin(LoRA):
    name: ClassVar[str] = "lora_twin"
    title: ClassVar[str] = "LoRA, twin"

    def init(self, weight, context):
        torch.rand(1, generator=context.generator)
        return super().init(weight, context)
'''


def suite_text(seeds: int) -> str:
    """The starter's recipe and tasks with both rows, which share LoRA's parameters."""
    starter = (Path(harness.__file__).parent / "suites" / "starter.toml").read_text(encoding="utf-8")
    head = starter.partition("[[method]]")[0].replace('name = "starter"', 'name = "twins"', 1)
    head = re.sub(r"^seeds = .*$", f"seeds = {list(range(seeds))}", head, flags=re.MULTILINE)
    rows = (f'[[method]]\nname = "{row}"\nparameters = {{ targets = "q,v,o,up,down" }}\n' for row in ROWS)
    return head + "\n".join(rows)


def benchmark(options: argparse.Namespace) -> common.Result:
    """Train both rows and compare them as the board does."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        plugin, suite, db = place / "lora_twin.py", place / "twins.toml", str(place / "twins.db")
        plugin.write_text(PLUGIN, encoding="utf-8")
        suite.write_text(suite_text(options.seeds), encoding="utf-8")
        settings = Settings(plugin_files=(plugin,), device=options.device, threads=options.threads)
        facts = common.machine(settings)
        filters = FilterOptions(tasks=tuple(options.tasks))
        harness.run(str(suite), db=db, settings=settings, jobs=options.jobs, **filters)
        tasks, scores = _scores(db)
    table = judge_table(scores)
    summary = tuple(_line(task, [one]) for task, one in zip(tasks, scores, strict=True))
    ranges = [RankRange(0, 0) if found is None else found for found in table.ranges]  # 0: no rank
    ranks = tuple((row, found.best, found.worst) for row, found in zip(ROWS, ranges, strict=True))
    shared = ranges[0].best == ranges[1].best > 0
    return common.Result(
        name="twins-cuda" if common.is_cuda(facts) else "twins-cpu",
        title="One method under two names, the starter tasks",
        command=options.command,
        quick=options.quick,
        options=common.plain_options(options),
        notes=(f"{options.seeds} seeds; LoRA minus its twin; scores x 100, selected epoch",),
        tables=(
            common.Table("Differences", COLUMNS, (*summary, _line("all", scores))),
            common.Table("Ranks that a row may hold", ("row", "from", "to"), ranks),
        ),
        targets=(
            common.Target("both rows begin at one rank", "yes", float(shared), None if options.quick else shared),
        ),
        machine=facts,
    )


def _scores(db: str) -> tuple[tuple[str, ...], list[TaskScores]]:
    """The tasks, and the scores of both rows on each, from the stored predictions."""
    frame = harness.results("twins", db=db)
    if (frame["status"] != "ok").any():
        raise RuntimeError("a trial did not end well")
    tasks = tuple(dict.fromkeys(frame["task"]))
    places = [
        Place(run["label"], run["task"], int(run["seed"]), run["metric"], run["run_id"], int(run["epoch_selected"]))
        for run in frame.to_dict("records")
    ]
    with open_store(db) as store:
        return tasks, table_scores(StoredPredictions(store), places, ROWS, tasks)


def _line(name: str, scores: Sequence[TaskScores]) -> tuple[common.Cell, ...]:
    """What the board would say of the two rows on these tasks."""
    difference = differences(scores, [(0, 1)])
    low, high = difference.accepted()
    blocks = paired_blocks(scores, (0, 1))
    numbers = (difference.value, low, high, detectable(difference))
    return (
        name,
        *(100 * float(number[0]) for number in numbers),
        float(difference.p_value()[0]),
        permutation_p(*blocks, np.random.default_rng(0)),
        float(probability_of_improvement(scores, [(0, 1)])[0]),
    )


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    made = common.parser(__doc__)
    made.set_defaults(out=common.STATISTICS)
    made.add_argument("--seeds", type=int, default=5)
    made.add_argument("--tasks", nargs="+", default=list(TASKS))
    made.add_argument("--jobs", type=int, default=0, help="processes; 0: as `run` chooses")
    return common.parse(made, "twins", arguments, seeds=2, tasks=["similarity"])


def main(arguments: Sequence[str]) -> None:
    """Run, print, write."""
    options = parsed(arguments)
    common.report(benchmark(options), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
