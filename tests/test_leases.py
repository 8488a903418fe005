"""Several drivers on one SQLite file do no trial twice, and a dead driver holds nobody up."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import lease_support
import pytest
from lease_support import Quick, dead_here, elsewhere, plan

from harness.execution import run_members
from harness.leases import Leases, gone, this_driver
from harness.progress import Silent
from harness.settings import Settings
from harness.store import Store, open_store
from harness.workers import Workers
from harness.workers import _Order as Order


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "leaderboard.db")) as opened:
        yield opened


def test_drivers_of_one_file_share_the_trials(tmp_path: Path) -> None:
    lease_support.check_drivers_share(str(tmp_path / "leaderboard.db"))


def test_a_lease_is_one_drivers_and_an_end_elsewhere_is_respected(store: Store) -> None:
    lease_support.check_rules(store)


def test_a_lease_runs_out_unless_it_is_renewed(store: Store) -> None:
    lease_support.check_an_expired_lease_is_free(store)


def test_a_failure_elsewhere_is_told(store: Store) -> None:
    lease_support.check_a_failure_elsewhere_is_told(store)


def test_what_a_dead_driver_of_this_machine_had_is_free_at_once(store: Store) -> None:
    members = plan(store, 2)
    trials = [member.trial for member in members]
    assert Leases(store, trials, dead_here()).take(trials) == trials
    outcome = run_members(members, store, Quick(), Silent())
    assert (outcome.ok, outcome.left) == (2, 0)


def test_who_is_gone_can_be_known_of_this_machine_alone() -> None:
    mine = this_driver()
    place, number, _ = mine.split(":")
    assert not gone(mine)
    assert int(number) == os.getpid()
    assert gone(f"{place}:{number}:1.00")  # another process had the number before
    assert gone(dead_here())
    assert not gone(elsewhere("x"))
    assert len(mine) <= 64


def test_an_executor_that_leaves_a_trial_out_is_not_asked_for_ever(store: Store) -> None:
    class Forgets(Quick):
        def run(self, packs: Iterable[Any], listener: Any) -> None:
            assert len(list(packs)) == 2

    outcome = run_members(plan(store, 2), store, Forgets(), Silent())
    assert (outcome.ok, outcome.left) == (0, 2)


def test_packs_are_drawn_one_at_a_time_and_those_put_back_come_first_when_they_are_due(settings: Settings) -> None:
    drawn: list[int] = []

    def packs() -> Iterator[Any]:
        for number in range(3):
            drawn.append(number)
            yield (number,)

    workers = Workers(1, settings)
    workers._packs = packs()
    assert drawn == []
    assert workers._next_order() == Order((0,))  # type: ignore[arg-type]
    assert drawn == [0]
    workers._again = [Order((7,), 1, math.inf), Order((8,), 1, 0.0)]  # type: ignore[arg-type]
    assert [order and order.pack for order in (workers._next_order() for _ in range(4))] == [(8,), (1,), (2,), None]
