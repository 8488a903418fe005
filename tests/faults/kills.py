"""Campaigns that are killed at random points, again and again, and what became of their runs.

    python -m tests.faults.kills --kills 60 --seed 0 --json docs/reliability.json     # or: make faults

Each campaign runs in a process of its own (forked, so that nothing is imported anew) and writes down every run that it
was told is stored. It is killed (SIGKILL) after a random time, and the same command runs again. Every
`WORKERS_EVERY`-th time trials run in two worker processes; then one of these is killed first, and the driver later.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from harness.campaign import Request, execute
from harness.progress import Silent
from harness.records import RunRecord
from harness.settings import Settings
from tests.cli_support import make_backbone

TESTS = Path(__file__).resolve().parent.parent
SUITE = """
name = "killed"
seeds = [{seeds}]
[recipe]
epochs = 2
batch_size = 8
max_length = 16
[[task]]
name = "parity"
backbone = "tiny"
[[method]]
name = "lora"
parameters = {{ r = 2 }}
[[method]]
name = "head_only"
[[method]]
name = "majority"
[[grid]]
name = "main"
"""
LONGEST = 1.5
"""Seconds after which a campaign in one process is killed at the latest."""
LONGEST_WITH_WORKERS = 25.0
"""The same where worker processes have to import their libraries first."""
WORKERS_EVERY = 10
SEEDS = 4
"""Of a campaign: 12 trials. One that ends before it is killed is followed by one with other seeds."""


@dataclass
class Figures:
    """What the kills did."""

    kills: int = 0
    """Drivers killed."""
    workers_killed: int = 0
    orphans: int = 0
    """Worker processes that were still there 10 s after their driver was killed."""
    finished_runs: int = 0
    """Runs that a campaign had been told were stored."""
    losses: int = 0
    """Of these, how many were not in the database afterwards."""
    duplicates: int = 0
    """Trials with more than one ok run."""
    damaged: int = 0
    """Kills after which `PRAGMA integrity_check` or the references were not sound."""
    resumed: int = 0
    """Runs that went on from a checkpoint."""
    different: int = 0
    """Runs whose scores, losses or predictions were not those of the same trial in a campaign that nobody killed."""


class Told(Silent):
    """Writes down the trials whose runs are stored, each line at once."""

    def __init__(self, log: Path) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def finished(self, record: RunRecord) -> None:
        if record.status == "ok":
            os.write(self._log, f"{record.trial.id}\n".encode())


def kill_at_random(folder: Path, settings: Settings, kills: int, seed: int, workers: bool) -> Figures:
    """Kill campaigns on one database until there were so many kills; then let the last one end, and compare.

    workers: whether some of the campaigns run in worker processes, which takes longer.
    """
    figures, draw = Figures(), random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    db, log, first = folder / "killed.db", folder / "told.txt", 0
    saved = dataclasses.replace(settings, checkpoint_steps=3)
    while figures.kills < kills:
        # packed trials have no checkpoints: both kinds are killed
        chosen = saved if draw.random() < 0.7 else dataclasses.replace(settings, pack="4")
        request = _request(folder, db, chosen, first)
        if workers and figures.kills % WORKERS_EVERY == WORKERS_EVERY - 1:
            killed = _killed_with_workers(dataclasses.replace(request, jobs=2), log, draw, figures)
        else:
            killed = _killed(request, log, draw.uniform(0, LONGEST))
        if killed:
            figures.kills += 1
            figures.damaged += not _sound(db)
        else:
            first += SEEDS
    _campaign(_request(folder, db, saved, first), log)
    _count(figures, db, log)
    _compare(figures, db, folder / "whole.db", settings, first)
    return figures


def _request(folder: Path, db: Path, settings: Settings, first: int) -> Request:
    suite = folder / "killed.toml"
    suite.write_text(SUITE.format(seeds=", ".join(map(str, range(first, first + SEEDS)))))
    return Request(str(suite), settings=settings, db=str(db), jobs=1)


def _started(request: Request, log: Path) -> Any:
    process = multiprocessing.get_context("fork").Process(target=_campaign, args=(request, log))
    process.start()
    return process


def _killed(request: Request, log: Path, after: float) -> bool:
    """Whether the campaign was still at work when it was killed."""
    process = _started(request, log)
    process.join(after)
    if process.exitcode is None:
        process.kill()
    process.join()
    assert process.exitcode in (0, -9), f"a campaign ended with exit code {process.exitcode}; see {log}.err"
    return bool(process.exitcode == -9)


def _killed_with_workers(request: Request, log: Path, draw: random.Random, figures: Figures) -> bool:
    """The same; before that one of the campaign's worker processes is killed."""
    process = _started(request, log)
    process.join(draw.uniform(0, LONGEST_WITH_WORKERS / 2))
    with contextlib.suppress(psutil.NoSuchProcess):
        if children := psutil.Process(process.pid).children():
            draw.choice(children).kill()
            figures.workers_killed += 1
    process.join(draw.uniform(0, LONGEST_WITH_WORKERS / 2))
    children = []
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
    if process.exitcode is None:
        process.kill()
    process.join()
    _, left = psutil.wait_procs(children, timeout=10)
    figures.orphans += len(left)
    return bool(process.exitcode == -9)


def _campaign(request: Request, log: Path) -> None:
    with open(log.with_suffix(".err"), "a") as stream, contextlib.redirect_stderr(stream):
        _, outcome = execute(request, lambda tasks: Told(log))
    assert outcome.all_well, outcome


def _sound(db: Path) -> bool:
    if not db.exists():
        return True
    with closing(sqlite3.connect(db)) as connection:
        whole = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return whole and not connection.execute("PRAGMA foreign_key_check").fetchall()


def _count(figures: Figures, db: Path, log: Path) -> None:
    told = log.read_text().split()
    with closing(sqlite3.connect(db)) as connection:
        ok = [row[0] for row in connection.execute("SELECT trial_id FROM runs WHERE status = 'ok'")]
        found = connection.execute("SELECT COUNT(*) FROM runs WHERE provenance LIKE '%resumed_at_steps%'").fetchone()
    figures.finished_runs = len(told)
    figures.losses = len(set(told) - set(ok))
    figures.duplicates = len(ok) - len(set(ok))
    figures.resumed = found[0]


def _compare(figures: Figures, db: Path, whole: Path, settings: Settings, last: int) -> None:
    """Run the last campaigns again, without kills and checkpoints, and compare what came out."""
    undisturbed = dataclasses.replace(settings, pack="off")
    first = max(0, last - SEEDS)
    for seed in range(first, last + SEEDS, SEEDS):
        _campaign(_request(whole.parent, whole, undisturbed, seed), whole.with_suffix(".txt"))
    expected, found = dict(_contents(whole)), dict(_contents(db))
    figures.different = sum(found[trial] != content for trial, content in expected.items())


def _contents(db: Path) -> Iterator[tuple[str, object]]:
    with closing(sqlite3.connect(db)) as connection:
        for run, trial in connection.execute("SELECT id, trial_id FROM runs WHERE status = 'ok'").fetchall():
            parts = (
                "SELECT epoch, split, metric, value FROM scores",
                "SELECT step, loss FROM losses",
                "SELECT split, epoch, example_set_id, predicted FROM predictions",
            )
            yield trial, [sorted(connection.execute(f"{part} WHERE run_id = ?", (run,)).fetchall()) for part in parts]


def warm_up(settings: Settings, folder: Path) -> None:
    """Import and load in this process what every campaign forked from it would."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    _campaign(_request(folder, folder / "warm.db", settings, 900), folder / "warm.txt")
    print(f"a whole campaign took {time.monotonic() - began:.1f} s", file=sys.stderr)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Kill campaigns at random points and count what is lost.")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="Write the figures here, beside those of other parts.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        folder = Path(name)
        make_backbone(folder / "models" / "tiny")
        plugin = TESTS / "cli_support.py"
        settings = Settings(None, folder / "models", folder / "cache", "cpu", 1, (plugin,))
        warm_up(settings, folder / "warm")
        figures = kill_at_random(folder / "kills", settings, given.kills, given.seed, workers=True)
    told = dataclasses.asdict(figures)
    print(json.dumps(told, indent=2))
    if given.json is not None:
        known = json.loads(given.json.read_text()) if given.json.exists() else {}
        known["kills"] = {**told, "seed": given.seed}
        given.json.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    sys.exit(bool(figures.losses + figures.duplicates + figures.damaged + figures.different + figures.orphans))


if __name__ == "__main__":
    main()
