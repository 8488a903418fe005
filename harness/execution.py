"""A plan becomes runs in the store: what is done is skipped, equal trials run once, every end leaves a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import Stop, Unavailable
from harness.executors import Executor, interrupts_deferred
from harness.leases import Leases
from harness.pack.plan import Pack
from harness.progress import Reporter
from harness.records import Member, RunRecord
from harness.redaction import redacted
from harness.retrying import AGAIN
from harness.trial import Trial

if TYPE_CHECKING:
    from harness.store import Store

POLL_SECONDS = 1.0
"""How often a driver that waits for others looks again."""


@dataclass(frozen=True)
class PairState:
    """What adaptive seeds have decided of two rows of a table, all looks corrected for."""

    grid: str
    first: str
    second: str
    state: str
    """separated, equivalent (within the margin) or open."""


@dataclass(frozen=True)
class Conduct:
    """What becomes of trials that end badly, or did so before."""

    retry: frozenset[str] | None = None
    """Of trials that ended badly before, only those whose last run ended so are tried again; None: all of them.

    Interrupted ones never ended: they are gone on with in any case.
    """
    fail_fast: bool = False
    """Stop at the first trial that does not end well."""
    stored: Callable[[RunRecord], None] = lambda record: None
    """Told each record once it is in the database."""

    def wants(self, latest: str | None) -> bool:
        """Whether a trial without an ok run is to be run; `latest` is how its last run ended, None if there is none."""
        return self.retry is None or latest in (None, "interrupted") or latest in self.retry


@dataclass
class Outcome:
    """How the trials of a plan ended."""

    ok: int = 0
    failed: int = 0
    skipped: int = 0
    """Had an ok run before."""
    elsewhere: int = 0
    """Were run well by another driver on the same database meanwhile."""
    left: int = 0
    """Not begun, or stopped, when the user interrupted."""
    interrupted: bool = False
    passed_over: int = 0
    """Ended badly before, in a way that was not to be tried again."""
    stopped: bool = False
    """Whether a bad end was to be the last, and was."""
    run_ids: list[str] = field(default_factory=list)
    pairs: list[PairState] = field(default_factory=list)
    """Of a run until rows are separated: all pairs of its tables."""
    ended: str = ""
    """Why such a run left pairs open; empty if it left none."""

    def __add__(self, other: Outcome) -> Outcome:
        """Two plans, one after the other."""
        return Outcome(
            self.ok + other.ok,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.elsewhere + other.elsewhere,
            self.left + other.left,
            self.interrupted or other.interrupted,
            self.passed_over + other.passed_over,
            self.stopped or other.stopped,
            self.run_ids + other.run_ids,
            self.pairs + other.pairs,
            self.ended or other.ended,
        )

    @property
    def all_well(self) -> bool:
        """Whether every trial of the plan has an ok run now."""
        return not self.failed and not self.cut_short and not self.passed_over

    @property
    def cut_short(self) -> bool:
        """Whether trials were left out on the way."""
        return self.interrupted or self.stopped


Packer = Callable[[Sequence[Trial]], Sequence[Pack]]
ORDINARY = Conduct()


def one_by_one(trials: Sequence[Trial]) -> list[Pack]:
    """Every trial alone."""
    return [(trial,) for trial in trials]


def run_members(
    members: Sequence[Member],
    store: Store,
    executor: Executor,
    reporter: Reporter,
    packer: Packer = one_by_one,
    conduct: Conduct = ORDINARY,
) -> Outcome:
    """Run what `members` lack. After Ctrl-C the outcome says `interrupted`; nothing finished is lost.

    Several drivers may run the same members on one database: each trial is run by one of them; all wait for the end.
    """
    trials = distinct_trials(members)
    leases = Leases(store, trials)  # before it is asked what is done: what ends in between has ended elsewhere
    finished = store.finished([trial.id for trial in trials])
    missing = [trial for trial in trials if trial.id not in finished]
    latest = store.latest_status([trial.id for trial in missing])
    todo = [trial for trial in missing if conduct.wants(latest.get(trial.id))]
    outcome = Outcome(skipped=len(finished), left=len(todo), passed_over=len(missing) - len(todo))
    labels: dict[str, str] = {}
    for member in members:
        labels.setdefault(member.trial.id, member.label)
    reporter.begin(labels, total=len(todo), skipped=outcome.skipped)
    try:
        if todo:
            with store.database.kept_open(), leases.renewed():
                _run_shared(todo, _Recorder(store, reporter, outcome, leases, conduct), executor, packer)
    except KeyboardInterrupt:
        outcome.interrupted = True
    except Stop as stop:
        if stop.cause is not None:
            raise stop.cause from None
        outcome.stopped = True
    finally:
        reporter.end()
    return outcome


def _run_shared(todo: Sequence[Trial], recorder: _Recorder, executor: Executor, packer: Packer) -> None:
    """Run those of the trials that no other driver is at work on, until each has ended, here or there."""
    waits = False
    while todo:
        executor.run(_taken(packer(todo), recorder.leases), recorder)
        todo = [trial for trial in todo if trial.id not in recorder.leases.taken]
        there = recorder.leases.ended_elsewhere([trial.id for trial in todo])
        for status in there.values():
            recorder.ended_elsewhere(status)
        todo = [trial for trial in todo if trial.id not in there]
        if todo and not there:
            if not waits:
                recorder.note(f"{len(todo)} trials are under way in another driver; waiting for them")
            waits = True
            time.sleep(POLL_SECONDS)


def _taken(packs: Sequence[Pack], leases: Leases) -> Iterator[Pack]:
    """The packs without the trials that another driver has; a lease is taken when a pack is drawn."""
    for pack in packs:
        if taken := leases.take(pack):
            yield tuple(taken)


def distinct_trials(members: Sequence[Member]) -> list[Trial]:
    """Each trial once, those of one backbone and task together (a process keeps their data), else in plan order."""
    trials = {member.trial.id: member.trial for member in members}
    groups: dict[tuple[str, str, str], list[Trial]] = {}
    for trial in trials.values():
        groups.setdefault((trial.backbone.name, trial.backbone.revision, trial.task), []).append(trial)
    return [trial for group in groups.values() for trial in group]


class _Recorder:
    """Stores each record before anybody hears of it."""

    def __init__(self, store: Store, reporter: Reporter, outcome: Outcome, leases: Leases, conduct: Conduct) -> None:
        self._store = store
        self._reporter = reporter
        self._outcome = outcome
        self.leases = leases
        self._conduct = conduct
        self._broken = False
        """Whether the database takes no more records."""

    def note(self, text: str) -> None:
        """Say something beside the trials."""
        self._reporter.note(text)

    def ended_elsewhere(self, status: str) -> None:
        """Count a trial that another driver has run."""
        self._outcome.left -= 1
        if status == "ok":
            self._outcome.elsewhere += 1
        else:
            self._outcome.failed += 1

    def started(self, trial: Trial) -> None:
        self._reporter.started(trial)

    def progress(self, trial: Trial, done: int, total: int) -> None:
        self._reporter.progress(trial, done, total)

    def finished(self, record: RunRecord) -> None:
        """Raises Stop when no more trials are to be run: a record cannot be stored, or an end was bad enough."""
        if self._broken:
            return
        record = redacted(record)
        for wait in (*AGAIN, None):
            with interrupts_deferred():
                if self._stored(record, wait):
                    break
            time.sleep(wait or 0.0)
        if self._conduct.fail_fast and record.status not in ("ok", "interrupted"):
            raise Stop("stopped: another trial did not end well, and the first one was to be the last")

    def _stored(self, record: RunRecord, wait: float | None) -> bool:
        """Whether the record could be stored; False if that is to be tried again after `wait` seconds."""
        try:
            run_id = self._store.add_run(record, self.leases.owner)
        except Exception as error:
            if isinstance(error, Unavailable) and wait is not None:
                self._reporter.note(f"a run is not stored yet, next try in {wait:g} s: {error}")
                return False
            self._broken = True
            raise Stop("stopped: the database took no more runs", error) from error
        self._count(record, run_id)
        return True

    def _count(self, record: RunRecord, run_id: str) -> None:
        self.leases.add_own(run_id)
        self._conduct.stored(record)
        self._outcome.run_ids.append(run_id)
        if record.status == "ok":
            self._outcome.ok += 1
        elif record.status != "interrupted":
            self._outcome.failed += 1
        self._outcome.left -= record.status != "interrupted"
        self._reporter.finished(record)
