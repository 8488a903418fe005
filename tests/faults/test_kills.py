"""Campaigns killed with SIGKILL at random points: no stored run is lost or doubled, and the same command goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kills import Figures, kill_at_random, warm_up

from harness.settings import Settings

KILLS = 10
"""The whole run, `make faults`, has 60."""


def test_a_campaign_that_is_killed_at_random_points_loses_and_doubles_nothing(toys: Settings, tmp_path: Path) -> None:
    warm_up(toys, tmp_path / "warm")
    seen = kill_at_random(tmp_path / "kills", toys, KILLS, seed=7, workers=False)
    assert dataclasses.replace(seen, finished_runs=0, resumed=0) == Figures(kills=KILLS)
    assert seen.finished_runs >= 12
