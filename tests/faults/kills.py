"""Kills the harness at random moments and looks at what is left: nothing that was finished may be lost or doubled.

    python tests/faults/kills.py --kills 50 --seed 0 --json kills.json

The command is started again after each kill, as a user would; when a suite is complete, its runs are compared bit for
bit with those of a run that nobody disturbed, and the next round begins with an empty database and empty caches.
Processes are forked off one that has loaded the libraries, so that most kills hit the work and not the imports.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

SUITE = """
name = "toys"
seeds = [0, 1, 2]
[recipe]
epochs = 3
batch_size = 8
max_length = 16
backbone_dropout = 0.1
[[task]]
name = "parity"
backbone = "tiny"
[[method]]
name = "lora"
parameters = { r = 2 }
[[method]]
name = "ft"
"""
TRIALS = 6
ROWS = "SELECT t.id, r.status, r.id, r.adapter_params FROM runs r JOIN trials t ON t.id = r.trial_id"


@dataclass
class Tally:
    """What was done to the harness, and what became of its runs."""

    kills: int = 0
    """SIGKILL to a whole run of the command."""
    interrupts: int = 0
    """Ctrl-C and SIGTERM."""
    worker_kills: int = 0
    """SIGKILL to one worker process."""
    rounds: int = 0
    """Suites that were completed all the same."""
    runs_compared: int = 0
    """Bit for bit with those of an undisturbed run."""
    resumed: int = 0
    """Of these: runs that went on from a checkpoint."""
    lost: int = 0
    doubled: int = 0
    different: int = 0
    damaged: int = 0
    """Databases that did not pass PRAGMA integrity_check and foreign_key_check."""
    seconds: float = 0.0


class Ground:
    """A suite of toys, and the command that runs it."""

    def __init__(self, folder: Path) -> None:
        from cli_support import make_backbone

        self.folder = folder
        (folder / "toys.toml").write_text(SUITE)
        make_backbone(folder / "models" / "tiny")

    def command(self, name: str, *more: str) -> list[str]:
        """Arguments after `python -m harness`."""
        options = {
            "--suite": self.folder / "toys.toml",
            "--db": self.database(name),
            "--models-root": self.folder / "models",
            "--cache-root": self.folder / f"{name}-cache",
            "--plugin": TESTS / "cli_support.py",
            "--device": "cpu",
            "--checkpoint-every": 2,
        }
        return ["run", *(str(part) for option in options.items() for part in option), *more]

    def database(self, name: str) -> Path:
        return self.folder / f"{name}.db"


def fork(arguments: list[str], log: Path) -> int:
    """The command in a child of this process, which has the libraries; its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    log.write_text("")  # here: a child that is killed at once would leave what the one before it had said
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        from harness.cli import app

        app(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def look(database: Path) -> tuple[bool, list[tuple[Any, ...]]]:
    """Whether the database is whole, and its runs (trial, status, run, parameters)."""
    if not database.exists():
        return True, []
    with contextlib.closing(sqlite3.connect(database)) as connection:
        whole = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        whole = whole and not connection.execute("PRAGMA foreign_key_check").fetchall()
        try:
            return whole, connection.execute(ROWS).fetchall()
        except sqlite3.OperationalError:  # no tables yet
            return whole, []


def contents(database: Path) -> dict[str, Any]:
    """By trial: everything of its ok run that must not depend on how often it was cut short."""
    from harness.store import open_store

    found: dict[str, Any] = {}
    with open_store(str(database), create=False) as store:
        for trial, status, run, parameters in look(database)[1]:
            if status == "ok":
                record = store.run(run).record
                kept = [
                    store.predictions(run, "test", epoch).values
                    for epoch in sorted({score.epoch for score in record.scores})[-1:]
                ]
                found[trial] = [parameters, record.scores, record.losses, kept, record.costs.train_flops]
    return found


@dataclass
class Killer:
    """One session of kills, drawn from one seed."""

    ground: Ground
    random: random.Random
    tally: Tally
    say: Callable[[str], None]

    def rounds(self, kills: int) -> None:
        """Complete suites under fire until so many kills have hit."""
        reference, took = self._undisturbed()
        name, number = "round-0", 0
        before: list[tuple[Any, ...]] = []
        while self.tally.kills < kills:
            log = self.ground.folder / "log"
            child = fork(self.ground.command(name, "--jobs", "1"), log)
            code = self._disturb(child, took)
            announced = len(re.findall(r"^\[\d+/\d+\]", log.read_text(errors="replace"), re.M))
            before = self._judge(self.ground.database(name), before, announced)
            if code == 0:
                self._compare(name, reference)
                number += 1
                name, before = f"round-{number}", []
            elif code is not None and code not in (1, 130):
                raise RuntimeError(f"the command ended with {code}:\n{log.read_text()}")
        child = fork(self.ground.command(name, "--jobs", "1"), self.ground.folder / "log")
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
            raise RuntimeError((self.ground.folder / "log").read_text())
        self._judge(self.ground.database(name), before, 0)
        self._compare(name, reference)

    def _undisturbed(self) -> tuple[dict[str, Any], float]:
        """What a run gives that nobody disturbs, and the seconds that it takes in a child of this process."""
        from harness.cli import app

        with contextlib.suppress(SystemExit):  # here, so that the children find every library loaded
            app([*self.ground.command("reference", "--jobs", "1"), "--quiet"])
        reference, began = contents(self.ground.database("reference")), time.monotonic()
        child = fork(self.ground.command("pace", "--jobs", "1"), self.ground.folder / "log")
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 or len(reference) != TRIALS:
            raise RuntimeError((self.ground.folder / "log").read_text())
        took = time.monotonic() - began
        self._compare("pace", reference)
        return reference, took

    def _disturb(self, child: int, took: float) -> int | None:
        """Let the command run for a while, then hit it. Its exit code; None if it was killed."""
        end = time.monotonic() + self.random.uniform(0.0, 0.8 * took)
        blow = self.random.choices([signal.SIGKILL, signal.SIGINT, signal.SIGTERM], [8, 1, 1])[0]
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(child, blow)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == -signal.SIGKILL:
            self.tally.kills += 1
        else:
            self.tally.interrupts += 1
        return None if code < 0 else code

    def _judge(self, database: Path, before: list[tuple[Any, ...]], announced: int) -> list[tuple[Any, ...]]:
        """Compare what is stored with what was stored, and with what the command had said to be done."""
        whole, rows = look(database)
        ids = {row[2] for row in rows}
        ok = [row[0] for row in rows if row[1] == "ok"]
        gone = sum(row[2] not in ids for row in before)
        unsaved = max(0, announced - (len(rows) - len(before)))
        self.tally.lost += gone + unsaved
        self.tally.doubled += len(ok) - len(set(ok))
        self.tally.damaged += not whole
        return rows

    def _compare(self, name: str, reference: dict[str, Any]) -> None:
        found = contents(self.ground.database(name))
        self.tally.rounds += 1
        self.tally.runs_compared += len(found)
        self.tally.lost += len(reference.keys() - found.keys())
        self.tally.different += sum(found[trial] != reference[trial] for trial in found)
        with contextlib.closing(sqlite3.connect(self.ground.database(name))) as connection:
            query = "SELECT count(*) FROM runs WHERE status = 'ok' AND provenance LIKE '%resumed_at_steps%'"
            self.tally.resumed += connection.execute(query).fetchone()[0]
        left = list((self.ground.folder / f"{name}-cache" / "checkpoints").glob("*"))
        if left:
            raise RuntimeError(f"checkpoints of stored runs are left: {left}")
        self.say(f"{self.tally.kills} kills, {self.tally.rounds} rounds, {self.tally.runs_compared} runs compared")

    def workers(self, kills: int) -> None:
        """The same with worker processes: one of them is killed, or the driver."""
        import psutil

        name, before = "workers", list[tuple[Any, ...]]()
        number, done = 0, 0
        while done < kills:
            log = self.ground.folder / "log"
            command = [sys.executable, "-m", "harness", *self.ground.command(f"{name}-{number}", "--jobs", "2")]
            with log.open("w") as stream:
                process = subprocess.Popen(command, cwd=TESTS.parent, stdout=stream, stderr=stream)
            hit_driver = done % 2 == 1
            time.sleep(self.random.uniform(6.0, 22.0))
            victims = [process.pid] if hit_driver else [p.pid for p in psutil.Process(process.pid).children()]
            if process.poll() is None and victims:
                os.kill(self.random.choice(victims), signal.SIGKILL)
                done += 1
                self.tally.kills += hit_driver
                self.tally.worker_kills += not hit_driver
            code = process.wait()
            announced = len(re.findall(r"^\[\d+/\d+\]", log.read_text(errors="replace"), re.M))
            before = self._judge(self.ground.database(f"{name}-{number}"), before, announced)
            if code == 0:
                number, before = number + 1, []
                self.tally.rounds += 1
            self.say(f"{done} kills with workers, exit code {code}")


def session(kills: int, worker_kills: int, seed: int, say: Callable[[str], None] = print) -> Tally:
    """Kill so often, drawn from `seed`; what came of it."""
    tally, began = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="harness-faults-") as folder:
        killer = Killer(Ground(Path(folder)), random.Random(seed), tally, say)
        killer.rounds(kills)
        killer.workers(worker_kills)
    tally.seconds = time.monotonic() - began
    return tally


def main() -> None:
    """Read the options, kill, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--worker-kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tally = session(options.kills, options.worker_kills, options.seed)
    text = json.dumps(dataclasses.asdict(tally), indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
