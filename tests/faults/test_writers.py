"""A disk that fills at random places, in the middle of any write: what was stored stays, nothing is damaged."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import resource
import sqlite3
from pathlib import Path

from factories import METHODS, TASKS, make_record

from harness.errors import UserError
from harness.store import open_store

ROUNDS = 12


def write_until_full(db: Path, log: Path, room: int, first: int) -> None:
    """Add runs while there is room for files of so many bytes; write down those that were stored."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    lines = log.open("a")
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))  # a write beyond it is cut short, as on a full disk
    with contextlib.suppress(UserError, sqlite3.Error), open_store(str(db)) as store:
        for seed in range(first, first + 20):
            record = make_record(seed=seed, losses=[(step, 0.5) for step in range(40)])
            store.add_run(record)
            lines.write(f"{record.trial.id}\n")
            lines.flush()


def test_a_disk_that_fills_in_the_middle_of_a_write_loses_and_damages_nothing(tmp_path: Path) -> None:
    db, log, draw = tmp_path / "full.db", tmp_path / "stored.txt", random.Random(3)
    with open_store(str(db)) as store:
        store.describe(METHODS, TASKS)
    ended_by_room = 0
    for number in range(ROUNDS):
        room = db.stat().st_size + draw.randint(-40_000, 120_000)
        process = multiprocessing.get_context("fork").Process(
            target=write_until_full, args=(db, log, max(1000, room), 20 * number)
        )
        process.start()
        process.join()
        assert process.exitcode == 0
        stored = log.read_text().split()
        ended_by_room += len(stored) % 20 != 0
        with contextlib.closing(sqlite3.connect(db)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            found = [row[0] for row in connection.execute("SELECT trial_id FROM runs")]
            assert sorted(found) == sorted(stored)
            whole = "SELECT COUNT(*) FROM losses GROUP BY run_id"
            assert {row[0] for row in connection.execute(whole)} <= {40}
    assert stored
    assert ended_by_room > 0
