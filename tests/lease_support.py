"""What the leases must keep, on any database; the engines' own test files run it."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from factories import METHODS, TASKS, make_record, make_suite

from harness import execution
from harness.execution import Outcome, run_members
from harness.leases import Leases, this_driver
from harness.progress import Silent
from harness.records import RunRecord
from harness.schema import LEASES, RUNS
from harness.store import Store, open_store
from harness.trial import Trial

Listener = Any


class Quick:
    """An executor that writes down each trial and says that it ended well (or as `status`)."""

    def __init__(self, status: str = "ok", seconds: float = 0.0) -> None:
        self.status, self.seconds = status, seconds
        self.before: Callable[[Trial], None] = lambda trial: None

    def call(self, function: Any, argument: Any) -> Any:
        raise NotImplementedError

    def run(self, packs: Any, listener: Listener) -> None:
        for pack in packs:
            for trial in pack:
                listener.started(trial)
                self.before(trial)
                time.sleep(self.seconds)
                listener.finished(record_of(trial, self.status))

    def close(self) -> None: ...


def record_of(trial: Trial, status: str = "ok") -> RunRecord:
    return make_record(trial=trial, status=status, scores=[] if status != "ok" else make_record().scores)


def plan(store: Store, count: int) -> Any:
    trials = [make_record(seed=seed).trial for seed in range(count)]
    store.describe(METHODS, TASKS)
    suite = make_suite(trials)
    store.set_suite(suite)
    return suite.members


def drive(url: str, count: int, gate: Any) -> None:
    """One driver among several: its process."""
    execution.POLL_SECONDS = 0.02
    with open_store(url) as store:
        members = plan(store, count)
        gate.wait(30)
        outcome = run_members(members, store, Quick(), Silent())
        assert outcome.ok + outcome.elsewhere + outcome.skipped == count, outcome
        assert outcome.left == 0


def check_drivers_share(url: str, drivers: int = 3, count: int = 40) -> None:
    """Several processes on one plan: each trial is run once, and all see the end."""
    open_store(url).close()
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(drivers)
    processes = [context.Process(target=drive, args=(url, count, gate)) for _ in range(drivers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * drivers
    with open_store(url) as store, store.reading() as connection:
        runs = Counter(connection.scalars(sa.select(RUNS.c.trial_id)))
        assert len(runs) == count
        assert set(runs.values()) == {1}
        assert connection.execute(sa.select(LEASES.c.trial_id)).all() == []


def check_rules(store: Store) -> None:
    """Two drivers, step by step."""
    trials: Sequence[Trial] = [member.trial for member in plan(store, 4)]
    first, second = (Leases(store, trials, owner) for owner in (elsewhere("a"), elsewhere("b")))
    assert first.take(trials[:2]) == list(trials[:2])
    assert second.take(trials) == list(trials[2:])
    assert first.take(trials[:1]) == list(trials[:1])  # its own again
    first.add_own(store.add_run(record_of(trials[0], "failed"), first.owner))
    assert holders(store) == {trials[1].id: first.owner, **{trial.id: second.owner for trial in trials[2:]}}
    assert second.take(trials[:1]) == []  # has ended there, though badly
    assert second.ended_elsewhere([t.id for t in trials]) == {trials[0].id: "failed"}
    assert first.ended_elsewhere([t.id for t in trials]) == {}
    later = Leases(store, trials, elsewhere("c"))
    assert later.take(trials[:1]) == list(trials[:1])  # a driver that began after that may try again
    store.add_run(record_of(trials[1], "failed"), second.owner)  # which has no lease of it
    assert holders(store)[trials[1].id] == first.owner


def check_an_expired_lease_is_free(store: Store) -> None:
    """Time that has run out, and time that is renewed."""
    trials = [member.trial for member in plan(store, 2)]
    dead = Leases(store, trials, elsewhere("dead"), seconds=-1)
    assert dead.take(trials) == trials
    alive = Leases(store, trials, elsewhere("alive"), seconds=0.08)
    assert alive.take(trials) == trials
    with alive.renewed():
        begin, deadline = expiry(store), time.monotonic() + 20
        while expiry(store) - begin < timedelta(seconds=0.1) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert expiry(store) - begin >= timedelta(seconds=0.1)
    with store.reading() as connection:
        assert connection.execute(sa.select(LEASES.c.trial_id)).all() == []


def expiry(store: Store) -> Any:
    with store.reading() as connection:
        return connection.scalars(sa.select(sa.func.max(LEASES.c.expires_at, type_=LEASES.c.expires_at.type))).one()


def check_a_failure_elsewhere_is_told(store: Store) -> Outcome:
    """A trial that another driver has and that ends badly there."""
    members = plan(store, 3)
    held = members[0].trial
    other = Leases(store, [held], elsewhere("other"))
    assert other.take([held]) == [held]
    executor = Quick()

    def ends_there(trial: Trial) -> None:
        if trial.id == members[2].trial.id:
            store.add_run(record_of(held, "diverged"), other.owner)

    executor.before = ends_there
    outcome = run_members(members, store, executor, Silent())
    assert (outcome.ok, outcome.failed, outcome.elsewhere, outcome.left) == (2, 1, 0, 0)
    return outcome


def holders(store: Store) -> dict[str, str]:
    """Trials of which somebody has a lease, and who."""
    with store.reading() as connection:
        return {row.trial_id: row.owner for row in connection.execute(sa.select(LEASES.c.trial_id, LEASES.c.owner))}


def elsewhere(name: str) -> str:
    """A driver on another machine."""
    return f"{name}:1:0"


def dead_here() -> str:
    """A driver on this machine that is gone."""
    place, _, _ = this_driver().split(":")
    return f"{place}:{2**22 + 5}:0.00"
