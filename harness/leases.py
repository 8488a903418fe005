"""Several drivers on one database without doing a trial twice: a driver takes a lease of a trial before it runs it.

A lease is a row of the table `leases`. It is renewed while the driver lives, and free to be taken when its time is up;
of a driver on this machine that is gone, at once. PostgreSQL locks the rows in question and lets others skip them; on
SQLite a write transaction has the file for itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import sqlalchemy as sa

from harness import rows
from harness.errors import UserError
from harness.schema import LEASES, RUNS
from harness.trial import Trial

if TYPE_CHECKING:
    from harness.store import Store

LEASE_SECONDS = 120.0
"""After so long without renewal others may take a driver's trials; it renews them four times as often."""
CHUNK = 500
"""Trials asked for in one statement."""


def this_driver() -> str:
    """This process: where its number means something, its number, and when it began."""
    return f"{_place()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def gone(owner: str) -> bool:
    """Whether a driver is known to be dead: only of those on this machine, since its last start, can one know."""
    place, number, began = owner.split(":")
    if place != _place():
        return False
    try:
        return f"{psutil.Process(int(number)).create_time():.2f}" != began
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _place() -> str:
    """Hash of what process numbers are unique in: the machine since its start, and its namespace of processes."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class Leases:
    """The leases of one driver on the trials of one plan."""

    def __init__(self, store: Store, trials: Iterable[Trial], owner: str = "", seconds: float = LEASE_SECONDS) -> None:
        self._store = store
        self._seconds = seconds
        self.owner = owner or this_driver()
        ids = [trial.id for trial in trials]
        with store.reading() as connection:
            self._before = {run_id for found in _runs(connection, ids).values() for run_id in found}
        self._own: set[str] = set()
        self.taken: set[str] = set()
        """Trials that this driver has had a lease of."""

    def take(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those of the trials that this driver may run now: no other one has them, and none has ended meanwhile."""
        with self._store.database.writing() as connection:
            rows.insert_trials(connection, trials)
            free: set[str] = set()
            for part in _chunks([trial.id for trial in trials]):
                free |= self._take(connection, part)
        self.taken |= free
        return [trial for trial in trials if trial.id in free]

    def _take(self, connection: sa.Connection, ids: Sequence[str]) -> set[str]:
        rows.insert_missing(connection, LEASES, [{"trial_id": trial_id} for trial_id in ids])
        query = sa.select(LEASES.c.trial_id, LEASES.c.owner, LEASES.c.expires_at).where(LEASES.c.trial_id.in_(ids))
        now = _now(connection)
        free = {
            row.trial_id
            for row in connection.execute(query.with_for_update(skip_locked=True))
            if row.owner in (None, self.owner) or row.expires_at < now or gone(row.owner)
        }
        # the rows are ours now: whoever had them before has stored what came out, which this statement sees
        ended = self._ends(_runs(connection, free))
        connection.execute(sa.delete(LEASES).where(LEASES.c.trial_id.in_(ended)))
        free -= ended.keys()
        taken = sa.update(LEASES).where(LEASES.c.trial_id.in_(free))
        connection.execute(taken.values(owner=self.owner, expires_at=now + timedelta(seconds=self._seconds)))
        return free

    def add_own(self, run_id: str) -> None:
        """Say that a run was stored by this driver."""
        self._own.add(run_id)

    def ended_elsewhere(self, trial_ids: Collection[str]) -> dict[str, str]:
        """Those of the trials of which another driver has stored a run since this one began, with its status."""
        with self._store.reading() as connection:
            found = _runs(connection, trial_ids)
        return self._ends(found)

    def _ends(self, found: dict[str, dict[str, str]]) -> dict[str, str]:
        """Trials that have ended by what was `found`, and how: an ok run is an end whoever stored it and when."""
        known = self._before | self._own
        new = {t: [s for run, s in of.items() if s == "ok" or run not in known] for t, of in found.items()}
        return {trial_id: "ok" if "ok" in of else of[-1] for trial_id, of in new.items() if of}

    @contextlib.contextmanager
    def renewed(self) -> Iterator[None]:
        """Inside, what this driver has is renewed in time; in the end it is given back."""
        ended = threading.Event()
        thread = threading.Thread(target=self._renew_until, args=(ended,), daemon=True, name="leases")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            # what cannot be given back runs out by itself
            with contextlib.suppress(UserError, sa.exc.DBAPIError), self._store.database.writing() as connection:
                connection.execute(sa.delete(LEASES).where(LEASES.c.owner == self.owner))

    def _renew_until(self, ended: threading.Event) -> None:
        while not ended.wait(self._seconds / 4):
            # a moment without the database costs nothing: the next try is long before the time is up
            with contextlib.suppress(UserError, sa.exc.DBAPIError), self._store.database.writing() as connection:
                later = _now(connection) + timedelta(seconds=self._seconds)
                connection.execute(sa.update(LEASES).where(LEASES.c.owner == self.owner).values(expires_at=later))


def _runs(connection: sa.Connection, trial_ids: Collection[str]) -> dict[str, dict[str, str]]:
    """Runs of the trials, oldest first: trial id -> run id -> status."""
    found: dict[str, dict[str, str]] = {}
    for part in _chunks(list(trial_ids)):
        query = sa.select(RUNS.c.trial_id, RUNS.c.id, RUNS.c.status).where(RUNS.c.trial_id.in_(part))
        for row in connection.execute(query.order_by(RUNS.c.started_at, RUNS.c.id)):
            found.setdefault(row.trial_id, {})[row.id] = row.status
    return found


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(ids), CHUNK):
        yield ids[first : first + CHUNK]


def _now(connection: sa.Connection) -> datetime:
    """The time by the server's clock, which all drivers share; a file's drivers share this machine's."""
    if connection.dialect.name == "postgresql":
        return connection.execute(sa.select(sa.func.clock_timestamp(type_=sa.DateTime(timezone=True)))).scalar_one()
    return datetime.now(UTC)
