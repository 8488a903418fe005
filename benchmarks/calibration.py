"""Do the statistics keep their promises? On simulated runs whose truth is known.

    python -m benchmarks.calibration --simulations 1000

Prints coverage of 95 % intervals, false and true findings, rank ranges and adaptive seeds, and writes them to
benchmarks/results/statistics/calibration.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._simulated import World, simulate, simulate_split
from harness.stats.estimates import Estimate, average, contrast
from harness.stats.pairs import all_pairs, differences, paired_blocks, permutation_p
from harness.stats.power import detectable
from harness.stats.ranks import judge_table
from harness.stats.resampling import TaskScores, bootstrap
from harness.stats.sequential import Spend, State, follow, next_trial

OUT = Path(__file__).resolve().parent / "results" / "statistics" / "calibration.json"
MORE = 10
"""Times as many simulations for what is judged by a bound that it is expected to come close to."""


def cell_coverage(world: World, simulations: int, seed: int = 0) -> dict[str, float]:
    """How often the 95 % interval of a row's average holds the truth."""
    generator, truth = np.random.default_rng(seed), world.truth()[0]
    held, width = 0, 0.0
    for _ in range(simulations):
        estimate = average([contrast(task, np.eye(1)) for task in simulate(world, generator)])
        low, high = (float(end[0]) for end in estimate.interval())
        held += low <= truth <= high
        width += (high - low) / simulations
    return {"coverage": held / simulations, "mean_width": width}


def percentile_coverage(world: World, simulations: int, seed: int = 0) -> dict[str, float]:
    """The same of percentiles of the usual hierarchical bootstrap: seeds with replacement, then examples."""
    generator, truth, held = np.random.default_rng(seed), world.truth()[0], 0
    for _ in range(simulations):
        luck = np.zeros((1, world.seeds, 1))
        _, draws = bootstrap(simulate_split(world, luck, generator), generator, world.resamples)
        seeds = generator.integers(0, world.seeds, (world.resamples, world.seeds))
        low, high = np.quantile(np.take_along_axis(draws, seeds, axis=1).mean(1), [0.025, 0.975])
        held += bool(low <= truth <= high)
    return {"coverage": held / simulations}


def pair_findings(world: World, simulations: int, seed: int = 0, alike: bool = False) -> dict[str, float]:
    """Two rows: how often 95 % intervals of the difference hold the truth, and how often p <= 0.05."""
    generator, truth = np.random.default_rng(seed), world.truth()
    found, held, swapped, examples = 0, 0, 0, 0
    for _ in range(simulations):
        tasks = simulate(world, generator, alike)
        difference = differences(tasks, [(0, 1)])
        found += bool(difference.p_value()[0] <= 0.05)
        held += bool(difference.p_value(truth[0] - truth[1])[0] > 0.05)
        swapped += permutation_p(*paired_blocks(tasks, (0, 1)), generator, 2000) <= 0.05
        examples += _example_swaps(tasks, float(difference.value[0]))
    shares = {"rejected": found, "coverage": held, "rejected_run_swaps": swapped, "rejected_example_swaps": examples}
    return {name: count / simulations for name, count in shares.items()}


def same_method(world: World, simulations: int, seed: int = 0) -> dict[str, float]:
    """The same of one method under two names: ten times as many simulations, since an exact test meets its bound."""
    found = pair_findings(world, MORE * simulations, seed, alike=True)
    return {**found, "simulations": MORE * simulations}


def _example_swaps(tasks: list[TaskScores], value: float) -> bool:
    """What swapping example by example, all seeds together, would find: the trained models are all there is."""
    rows, seeds = tasks[0].points.shape
    mean = np.repeat([1.0, -1.0], seeds) / seeds / len(tasks)
    variance = sum(mean @ task.covariance.reshape(rows * seeds, -1) @ mean for task in tasks)
    return bool(abs(value) > 1.96 * np.sqrt(variance))


def detectable_power(world: World, simulations: int, seed: int = 0) -> dict[str, float]:
    """How often a difference is found that is as large as the design says it can find with a power of 80 %."""
    generator, planted = np.random.default_rng(seed), world
    for _ in range(2):  # the second time for rows as far apart, whose errors are a little larger
        size = _detectable(planted, min(simulations, 400), generator)
        planted = _apart(world, size)
    return {"planted": size, "found": pair_findings(planted, simulations, seed + 1)["rejected"]}


def _detectable(world: World, designs: int, generator: np.random.Generator) -> float:
    """Of the mean variances of so many simulated designs."""
    found = [differences(simulate(world, generator), [(0, 1)]) for _ in range(designs)]
    parts = [[getattr(design, field.name) for design in found] for field in dataclasses.fields(Estimate)]
    return float(detectable(Estimate(*(np.mean(part, axis=0) for part in parts)))[0])


def _apart(world: World, size: float) -> World:
    """Two rows that differ so much, one up and one down."""
    mean, steps = world.means[0], np.linspace(0, 1.5, 301)
    up, down = (dataclasses.replace(world, means=tuple(mean + sign * steps)).truth() for sign in (1, -1))
    step = float(steps[np.argmax(up - down >= size)])
    return dataclasses.replace(world, means=(mean + step, mean - step))


def rank_coverage(world: World, simulations: int, seed: int = 0) -> dict[str, float]:
    """How often all rows' ranges hold a true rank at once, any pair is called wrong, and how wide the ranges are."""
    generator, truth = np.random.default_rng(seed), world.truth()
    rows = len(truth)
    best = np.array([1 + (truth > mine + 1e-9).sum() for mine in truth])
    worst = np.array([rows - (truth < mine - 1e-9).sum() for mine in truth])
    held, width = 0, 0.0
    for _ in range(simulations):
        ranges = [r for r in judge_table(simulate(world, generator)).ranges if r is not None]
        low, high = np.array([r.best for r in ranges]), np.array([r.worst for r in ranges])
        held += bool(((low <= best) & (worst <= high)).all())
        width += float((high - low + 1).mean()) / simulations
    return {"all_hold": held / simulations, "mean_width": width}


def adaptive(world: World, simulations: int, budget: int, margin: float, seed: int = 0) -> dict[str, float]:
    """Adaptive seeds from three planned ones on: how often any pair is decided wrongly, and what was decided."""
    generator, truth = np.random.default_rng(seed), world.truth()
    pairs = all_pairs(len(truth))
    gaps = np.array([truth[i] - truth[j] for i, j in pairs])
    wrong, decided, spent_trials = 0, 0, 0
    for _ in range(simulations):
        states, values, trials = _until_separated(simulate(world, generator), pairs, budget, margin)
        apart, alike = np.array(states) == "separated", np.array(states) == "equivalent"
        wrong += bool(
            (apart & (np.sign(values) != np.sign(np.round(gaps, 9)))).any() or (alike & (abs(gaps) >= margin)).any()
        )
        decided += int((apart | alike).sum())
        spent_trials += trials
    count = simulations * len(pairs)
    return {"wrong": wrong / simulations, "decided": decided / count, "trials": spent_trials / simulations}


def _until_separated(
    whole: list[TaskScores], pairs: list[tuple[int, int]], budget: int, margin: float
) -> tuple[list[State], np.ndarray[Any, Any], int]:
    """Uncovers simulated seeds one by one; at the end: states, differences when decided, trials spent."""
    seen = [np.arange(task.points.shape[1])[None, :] < np.full((len(task.points), 1), 3) for task in whole]
    further: list[Spend] = []
    states: tuple[State, ...] = tuple("open" for _ in pairs)
    values = np.zeros(len(pairs))
    while True:
        tasks = [
            TaskScores(np.where(mask, task.points, np.nan), task.covariance)
            for task, mask in zip(whole, seen, strict=True)
        ]
        course = follow(tasks, pairs, further, margin)
        values = np.where(np.array(states) == "open", course.difference.value, values)
        states = course.states
        spend = next_trial(tasks, pairs, course.difference, states, course.look, margin)
        if spend is None or spend.seed >= seen[spend.task].shape[1] or len(further) == budget:
            return list(states), values, len(further)
        seen[spend.task][spend.row, spend.seed] = True
        further.append(spend)


TWO = (0.8, 0.8)
FIVE = (1.2, 1.0, 0.8, 0.8, 0.5)
CASES: dict[str, tuple[Callable[..., dict[str, float]], dict[str, Any]]] = {
    **{
        f"cell, {metric}, {seeds} seeds, seed sd {sd}": (
            cell_coverage,
            {"world": World(seeds, sd, metric=metric, means=(0.8 if metric != "pearson" else 0.0,))},
        )
        for metric in ("accuracy", "matthews", "f1", "pearson")
        for seeds in (3, 5)
        for sd in (0.0, 0.1, 0.3)
    },
    **{
        f"percentile bootstrap, {seeds} seeds, seed sd {sd}": (percentile_coverage, {"world": World(seeds, sd)})
        for seeds in (3, 5)
        for sd in (0.0, 0.1, 0.3)
    },
    **{
        f"average of 4 tasks, {seeds} seeds, seed sd {sd}": (cell_coverage, {"world": World(seeds, sd, tasks=4)})
        for seeds in (3, 5)
        for sd in (0.1, 0.3)
    },
    **{
        f"A/A, {tasks} tasks, {seeds} seeds, seed sd {sd}": (
            same_method,
            {"world": World(seeds, sd, tasks=tasks, means=TWO)},
        )
        for tasks in (1, 4)
        for seeds in (3, 5)
        for sd in (0.1, 0.3)
    },
    **{
        f"equal means, other errors, {tasks} tasks, 5 seeds": (
            pair_findings,
            {"world": World(5, 0.2, tasks=tasks, means=TWO)},
        )
        for tasks in (1, 4)
    },
    **{
        f"planted difference, {tasks} tasks, {seeds} seeds": (
            detectable_power,
            {"world": World(seeds, 0.1, tasks=tasks, means=TWO)},
        )
        for tasks in (1, 4)
        for seeds in (3, 5)
    },
    **{
        f"average of 4 tasks, 5 seeds, luck {lucky}": (cell_coverage, {"world": World(5, 0.2, tasks=4, lucky=lucky)})
        for lucky in (0.1, 0.3)
    },
    "ranks of 5 rows, 4 tasks, 5 seeds": (rank_coverage, {"world": World(5, 0.1, tasks=4, means=FIVE)}),
    "ranks of 5 equal rows, 4 tasks, 5 seeds": (rank_coverage, {"world": World(5, 0.1, tasks=4, means=(0.8,) * 5)}),
    "adaptive seeds, 3 equal rows": (
        adaptive,
        {"world": World(20, 0.1, tasks=2, means=(0.8,) * 3), "budget": 40, "margin": 0.0},
    ),
    "adaptive seeds, 3 rows, margin 5 points": (
        adaptive,
        {"world": World(20, 0.1, 500, tasks=2, means=(1.2, 0.8, 0.8)), "budget": 40, "margin": 0.05},
    ),
}


def main() -> None:
    """Print one line for each case and write them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--only", default="", help="cases whose name contains this; the others stay as stored")
    options = parser.parse_args()
    settings = {"simulations": options.simulations, "resamples": World.resamples}
    stored = json.loads(OUT.read_text()) if OUT.exists() else {}
    results: dict[str, dict[str, float]] = stored["cases"] if settings.items() <= stored.items() else {}
    for name, (check, arguments) in CASES.items():
        if options.only in name:
            found = check(simulations=options.simulations, **arguments)
            results[name] = {key: round(value, 4) for key, value in found.items()}
            print(f"{name:<48}" + "  ".join(f"{key} {value:.3f}" for key, value in results[name].items()), flush=True)
    OUT.parent.mkdir(exist_ok=True)
    ordered = {name: results[name] for name in CASES if name in results}
    OUT.write_text(json.dumps({**settings, "cases": ordered}, indent=1) + "\n")


if __name__ == "__main__":
    main()
