"""Promises kept on simulated runs, in small; `benchmarks/calibration.py` has the full table.

Bounds are the promised ones with three standard errors of the simulation.
"""

from __future__ import annotations

import json
import math

import pytest

from benchmarks import calibration
from benchmarks._simulated import World


def error(share: float, simulations: int) -> float:
    return 3 * math.sqrt(share * (1 - share) / simulations)


@pytest.mark.parametrize(("metric", "seeds"), [("accuracy", 3), ("matthews", 5), ("f1", 3), ("pearson", 5)])
def test_intervals_cover(metric: str, seeds: int) -> None:
    world = World(seeds, 0.15, 100, metric=metric, means=(0.0 if metric == "pearson" else 0.8,), resamples=150)
    found = calibration.cell_coverage(world, 300)
    assert 0.93 - error(0.95, 300) <= found["coverage"] <= 0.97 + error(0.97, 300)


@pytest.mark.parametrize("tasks", [1, 2])
def test_one_method_under_two_names_is_rarely_told_apart(tasks: int) -> None:
    world = World(4, 0.2, 100, tasks=tasks, means=(0.8, 0.8), resamples=150)
    found = calibration.pair_findings(world, 300, alike=True)
    assert found["rejected"] <= 0.05 + error(0.05, 300)
    assert found["rejected_run_swaps"] <= 0.05 + error(0.05, 300)
    assert found["rejected_example_swaps"] > 0.1  # why examples are not swapped one by one


def test_a_detectable_difference_is_found() -> None:
    world = World(5, 0.1, 100, tasks=2, means=(0.8, 0.8), resamples=150)
    assert calibration.detectable_power(world, 200)["found"] >= 0.8 - error(0.8, 200)


def test_rank_ranges_hold_the_true_ranks() -> None:
    found = calibration.rank_coverage(World(4, 0.1, 100, tasks=2, means=(1.2, 0.8, 0.8, 0.4), resamples=150), 150)
    assert found["all_hold"] >= 0.95 - error(0.95, 150)
    assert found["mean_width"] < 3.5


def test_adaptive_seeds_err_no_more_than_they_may() -> None:
    world = World(6, 0.1, 100, means=(0.8, 0.8, 0.6), resamples=150)
    found = calibration.adaptive(world, 60, budget=5, margin=0.0)
    assert found["wrong"] <= 0.05 + error(0.05, 60)


def test_the_stored_table_is_that_of_the_benchmark() -> None:
    stored = json.loads(calibration.OUT.read_text())
    assert set(stored["cases"]) == set(calibration.CASES)
    assert stored["simulations"] >= 1000


def test_the_stored_table_keeps_every_promise() -> None:
    cases = json.loads(calibration.OUT.read_text())["cases"]
    named = {name: case for name, case in cases.items() if "luck" not in name}  # which breaks an assumption
    means = [case["coverage"] for name, case in named.items() if name.startswith(("cell, ", "average of "))]
    assert len(means) == 28
    assert all(0.93 <= share <= 0.97 for share in means)
    assert all(case["rejected"] <= 0.05 for name, case in cases.items() if name.startswith("A/A"))
    assert all(case["found"] >= 0.8 for name, case in cases.items() if name.startswith("planted"))
    assert all(case["all_hold"] >= 0.95 for name, case in cases.items() if name.startswith("ranks"))
    assert all(case["wrong"] <= 0.05 for name, case in cases.items() if name.startswith("adaptive"))
