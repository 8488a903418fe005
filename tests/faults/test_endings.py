"""How trials end badly, what is tried again, and that nothing finished is lost on the way."""

from __future__ import annotations

import dataclasses
import errno
import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from factories import METHODS, TASKS, make_record
from factories import make_trial as planned_trial
from faulty import STICKY
from lease_support import Quick
from pack_support import Heard, assert_as_alone, make_trial, together

from harness import clocks, execution, executors, runner
from harness import workers as worker_processes
from harness.clocks import Began
from harness.errors import Stop, Unavailable, UserError
from harness.execution import Conduct, run_members
from harness.executors import InProcess, UnderWay, interrupts_deferred, make_executor
from harness.links import Gone, Refused
from harness.progress import Silent
from harness.records import Member, RunRecord
from harness.retrying import AGAIN
from harness.runner import run_trial
from harness.serving import Message
from harness.settings import Settings
from harness.store import Store, open_store
from harness.torch_errors import device_lost
from harness.trial import Trial
from harness.workers import Workers, _Order, _Worker

PLUGIN = Path(__file__).parent / "faulty.py"


@pytest.fixture
def faulty(toys: Settings) -> Settings:
    return dataclasses.replace(toys, plugin_files=(*toys.plugin_files, PLUGIN))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "leaderboard.db")) as store:
        store.describe(METHODS, TASKS)
        yield store


def members(*seeds: int) -> list[Member]:
    return [Member("main", "lora", planned_trial(seed=seed)) for seed in seeds]


# ------------------------------------------------------------------------- out of memory


def test_what_does_not_fit_is_computed_in_smaller_parts_with_the_same_result(
    faulty: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = dataclasses.replace(faulty, split_batches=False)
    small = make_trial(settings, "greedy", parameters={"rows": 2}, batch_size=8, eval_batch_size=8)
    record = run_trial(small, settings)
    roomy = run_trial(dataclasses.replace(small, parameters={**small.parameters, "rows": 99}), settings)
    assert (record.status, roomy.status) == ("ok", "ok"), record.traceback
    assert record.provenance["micro_batches"] == 4
    assert record.provenance["out_of_memory_with"] == [1, 2]
    assert "micro_batches" not in roomy.provenance
    for (_, loss), (_, expected) in zip(record.losses, roomy.losses, strict=True):
        assert loss == pytest.approx(expected, rel=1e-5)
    assert record.predictions == roomy.predictions
    assert record.costs.train_flops == pytest.approx(roomy.costs.train_flops)
    assert "out of memory with 1 micro-batches in a step; next 2" in capsys.readouterr().err


def test_main_memory_that_does_not_suffice_is_out_of_memory_too(faulty: Settings) -> None:
    settings = dataclasses.replace(faulty, split_batches=False)
    full = {"rows": 2, "main_memory": True}
    fits = run_trial(make_trial(settings, "greedy", parameters=full, batch_size=8, eval_batch_size=8), settings)
    assert (fits.status, fits.provenance["out_of_memory_with"]) == ("ok", [1, 2]), fits.traceback
    never = run_trial(make_trial(settings, "greedy", parameters={**full, "rows": 0}, batch_size=2), settings)
    assert (never.status, never.provenance["out_of_memory_with"]) == ("oom", [1, 2])
    assert "allocate memory" in never.reason


def test_what_runs_out_of_memory_on_its_way_goes_on_from_its_checkpoint(faulty: Settings) -> None:
    settings = dataclasses.replace(faulty, split_batches=False, checkpoint_steps=2)
    trial = make_trial(settings, "greedy", parameters={"rows": 8}, eval_batch_size=8, epochs=2)
    whole = run_trial(trial, dataclasses.replace(settings, checkpoint_steps=0))
    steps = []

    def progress(done: int, total: int) -> None:
        steps.append(done)
        if len(steps) == 7:
            raise torch.OutOfMemoryError("fragmented by now")

    record = run_trial(trial, settings, progress)
    assert steps == [*range(1, 8), 7, 8, 9, 10]
    assert (record.status, record.provenance["resumed_at_steps"]) == ("ok", [6])
    assert record.provenance["micro_batches"] == 2
    for (_, loss), (_, expected) in zip(record.losses, whole.losses, strict=True):
        assert loss == pytest.approx(expected, rel=1e-5)


def test_what_never_fits_is_out_of_memory_and_says_what_was_tried(faulty: Settings) -> None:
    trial = make_trial(faulty, "greedy", parameters={"rows": 0}, batch_size=4)
    record = run_trial(trial, faulty)
    assert record.status == "oom"
    assert record.provenance["out_of_memory_with"] == [1, 2, 4]


def test_a_packed_trial_that_does_not_fit_goes_on_alone_and_smaller(faulty: Settings) -> None:
    settings = dataclasses.replace(faulty, split_batches=False)
    trials = [make_trial(settings, "greedy", seed=seed, epochs=1, eval_batch_size=8) for seed in (0, 1)]
    records = together(trials, settings)
    assert {record.status for record in records.values()} == {"ok"}
    assert all(record.provenance["micro_batches"] == 4 for record in records.values())


# ------------------------------------------------------------------------- a device that is lost

ASSERTED = "AcceleratorError: CUDA error: device-side assert triggered"


def sound(settings: Settings, seed: int) -> Trial:
    return make_trial(settings, "asserts", seed=seed, parameters={"wrong": False}, epochs=1)


def ends(heard: Heard, trials: Sequence[Trial]) -> list[tuple[str, str]]:
    return [(heard.records[trial.id].status, heard.records[trial.id].reason) for trial in trials]


def test_after_an_error_on_the_device_the_next_trial_finds_another_process(faulty: Settings) -> None:
    trials = [sound(faulty, 0), make_trial(faulty, "asserts"), sound(faulty, 1)]
    heard, executor = Heard(), Workers(1, faulty)
    executor.run([(trial,) for trial in trials], heard)
    executor.close()
    assert ends(heard, trials) == [("ok", ""), ("failed", ASSERTED), ("ok", "")]
    failed = heard.records[trials[1].id]
    assert "in forward" in str(failed.traceback)
    assert failed.provenance["stack"]


def test_a_pack_that_loses_its_device_is_halved_until_the_culprit_is_alone(faulty: Settings) -> None:
    trials = (sound(faulty, 0), make_trial(faulty, "asserts"), sound(faulty, 1))
    heard, executor = Heard(), Workers(1, dataclasses.replace(faulty, pack="3"))
    executor.run([trials], heard)
    executor.close()
    assert ends(heard, trials) == [("ok", ""), ("failed", ASSERTED), ("ok", "")]


def test_in_process_a_lost_device_ends_the_plan_and_no_other_trial(
    faulty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(STICKY, raising=False)
    monkeypatch.setenv(STICKY, "")  # so that what the trial sets is taken back
    monkeypatch.delenv(STICKY)
    trials, heard = [make_trial(faulty, "asserts"), sound(faulty, 0)], Heard()
    with pytest.raises(Stop) as stop:
        InProcess(faulty).run([(trial,) for trial in trials], heard)
    assert isinstance(stop.value.cause, UserError)
    assert ends(heard, trials[:1]) == [("failed", ASSERTED)]
    assert trials[1].id not in heard.records


def test_one_job_on_a_cuda_device_has_a_process_of_its_own(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def kind(device: str) -> type:
        return type(make_executor(1, dataclasses.replace(settings, device=device)))

    assert (kind("cuda"), kind("cuda:1"), kind("cpu")) == (Workers, Workers, InProcess)
    monkeypatch.setattr(executors, "_accelerator_likely", lambda: True)
    monkeypatch.setattr("harness.executors.platform.system", lambda: "Linux")
    assert (kind("auto"), kind("cpu")) == (Workers, InProcess)


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: unspecified launch failure"), True),
        (raised(ValueError("a plugin's own"), RuntimeError("CUDA error: device-side assert triggered")), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False),
        (torch.AcceleratorError("CUDA error: out of memory"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (
            raised(UserError("device 'cuda:9' cannot be used"), RuntimeError("CUDA error: invalid device ordinal")),
            False,
        ),
    ],
)
def test_which_errors_cost_a_process_its_device(error: BaseException, lost: bool) -> None:
    assert device_lost(error) is lost


# ------------------------------------------------------------------------- plugins


def test_a_plugin_that_exits_has_failed_and_ends_nothing_else(faulty: Settings) -> None:
    heard = Heard()
    trials = tuple(make_trial(faulty, method) for method in ("exits", "lora"))
    InProcess(dataclasses.replace(faulty, pack="2")).run([trials], heard)
    InProcess(faulty).run([(make_trial(faulty, "exits", seed=1),)], heard)
    ends = [(heard.records[trial.id].status, heard.records[trial.id].reason) for trial in trials]
    assert ends == [("failed", "SystemExit: that is all"), ("ok", "")]
    assert_as_alone(heard.records[trials[1].id], faulty)


@pytest.mark.parametrize(("method", "task"), [("hangs", "parity"), ("lora", "stalls")])
def test_what_hangs_in_c_code_or_waits_for_rows_runs_out_of_time(faulty: Settings, method: str, task: str) -> None:
    executor = make_executor(1, dataclasses.replace(faulty, timeout=0.5))
    assert isinstance(executor, Workers)
    heard = Heard()
    executor.run([(make_trial(faulty, method, task),)], heard)
    executor.close()
    (record,) = heard.records.values()
    assert (record.status, record.reason) == ("timeout", "it took longer than 0.5 s, the limit that was set")
    assert record.finished_at - record.started_at >= timedelta(seconds=0.5)


def test_a_pack_has_time_for_each_of_its_trials_but_may_not_be_silent_for_longer_than_one(settings: Settings) -> None:
    def worker(trials: int, heard: float) -> _Worker:
        pack: Any = (planned_trial(),) * trials
        return _Worker(None, _Order(pack), {}, ready=100.0, heard=heard)

    assert worker(1, heard=109.0).deadline(10.0) == 110.0
    assert worker(4, heard=105.0).deadline(10.0) == 115.0
    assert worker(4, heard=139.0).deadline(10.0) == 140.0
    assert worker(4, heard=105.0).deadline(0.0) == math.inf


class DeadLink:
    """A worker that has said its last words already."""

    def __init__(self, said: Sequence[Message] = (), up: bool = True, end: Gone | None = None) -> None:
        self.said, self.up, self.end = list(said), up, end or Gone("dead")

    def send(self, order: object) -> None:
        raise self.end

    def receive(self) -> Message:
        if self.said:
            return self.said.pop(0)
        raise self.end

    def kill(self) -> None: ...
    def close(self) -> None: ...


class Dead:
    """Where no worker lives."""

    place = "nowhere"

    def __init__(self, up: bool = True, end: Gone | None = None) -> None:
        self.up, self.end, self.started = up, end, 0

    def start(self) -> DeadLink:
        self.started += 1
        return DeadLink((), self.up, self.end)

    def replace(self, link: DeadLink) -> DeadLink:
        return self.start()

    def wait(self, links: Sequence[DeadLink], seconds: float | None) -> Sequence[DeadLink]:
        return links


def test_a_pack_that_overran_goes_on_in_halves_and_a_lone_trial_has_ended(settings: Settings) -> None:
    heard, workers = Heard(), Workers(1, settings, Dead())
    workers._under_way = UnderWay(heard)
    trials = tuple(planned_trial(seed=seed) for seed in range(4))
    for trial in trials:
        workers._under_way.started(trial)
    for pack, left in ((trials, trials[1:]), (trials[3:], trials[3:])):
        busy = _Worker(DeadLink(), _Order(pack), {trial.id: trial for trial in left}, overran=True)
        workers._workers = [busy]
        workers._bury(busy, Gone("killed", killed=True))
    assert [order.pack for order in workers._again] == [trials[1:3], trials[3:]]
    assert [(record.trial.seed, record.status) for record in heard.records.values()] == [(3, "timeout")]


def test_a_record_that_came_just_in_time_counts_and_its_worker_gets_no_more(settings: Settings) -> None:
    heard, workers = Heard(), Workers(1, settings, Dead())
    workers._under_way = UnderWay(heard)
    trial = make_record().trial
    busy = _Worker(DeadLink([("record", make_record())]), _Order((trial,)), {trial.id: trial}, overran=True)
    workers._workers = [busy]
    workers._hear(busy)
    assert [record.status for record in heard.records.values()] == ["ok"]
    assert workers._workers != [busy]


def test_a_pack_that_is_lost_with_its_machine_is_put_back_whole_and_a_killed_one_in_halves(settings: Settings) -> None:
    workers = Workers(1, settings, Dead())
    trials = tuple(planned_trial(seed=seed) for seed in range(3))
    lost, killed = Gone("its node was lost", lost=True), Gone("killed", killed=True)
    for gone, tries, put_back in (
        (lost, 0, [trials]),
        (killed, 0, [trials[:2], trials[2:]]),
        (lost, len(AGAIN), [trials[:2], trials[2:]]),
    ):
        workers._again = []
        busy = _Worker(DeadLink(), _Order(trials, tries), {trial.id: trial for trial in trials})
        workers._workers = [busy]
        workers._bury(busy, gone)
        assert [order.pack for order in workers._again] == put_back


def test_a_place_where_no_worker_comes_up_is_given_up_and_the_last_one_ends_the_plan(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    workers = Workers(2, settings, Dead(up=False, end=Refused("node x has no folder /data.")))
    with pytest.raises(UserError, match="no worker can begin: node x has no folder /data"):
        workers.run([(planned_trial(),)], Heard())
    assert capsys.readouterr().err == "a worker less: node x has no folder /data.\n"
    dead = Dead(up=False, end=Gone("lost", lost=True))
    with pytest.raises(UserError, match="no worker can begin: lost"):
        Workers(1, settings, dead).run([(planned_trial(),)], Heard())
    assert dead.started == 1 + len(AGAIN)


def test_a_worker_that_died_at_rest_costs_no_other_trial_its_turn(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "AGAIN", ())
    heard, trials = Heard(), [planned_trial(seed=seed) for seed in range(2)]
    Workers(1, settings, Dead(end=Gone("exit code 3"))).run([(trial,) for trial in trials], heard)
    assert [record.reason for record in heard.records.values()] == ["the worker process died: exit code 3"] * 2


# ------------------------------------------------------------------------- the machine


def test_a_full_disk_in_a_trial_is_tried_again_and_a_missing_file_is_not(
    faulty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "AGAIN", (0.0, 0.0))
    whole, tries = runner._run, []

    def full_once(*given: Any) -> RunRecord:
        tries.append(1)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(*given)

    monkeypatch.setattr(runner, "_run", full_once)
    assert run_trial(make_trial(faulty, "majority"), faulty).status == "ok"
    assert len(tries) == 2

    def gone(*given: Any) -> RunRecord:
        tries.append(1)
        raise FileNotFoundError(errno.ENOENT, "no such file")

    monkeypatch.setattr(runner, "_run", gone)
    assert run_trial(make_trial(faulty, "majority"), faulty).status == "failed"
    assert len(tries) == 3


class Failing:
    """A store that cannot be written for a while."""

    def __init__(self, store: Store, failures: int) -> None:
        self.store, self.failures = store, failures

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def add_run(self, record: RunRecord, lease_of: str = "") -> str:
        if self.failures:
            self.failures -= 1
            raise Unavailable("no space left on the disk")
        return self.store.add_run(record, lease_of)


def stored(store: Store) -> dict[int, list[str]]:
    with store.reading() as connection:
        query = "SELECT seed, status FROM runs JOIN trials ON trials.id = trial_id"
        found: dict[int, list[str]] = {}
        for seed, status in connection.exec_driver_sql(query):
            found.setdefault(seed, []).append(status)
    return found


def test_a_record_waits_for_a_database_that_is_busy_or_full(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "AGAIN", (0.0, 0.0))
    failing: Any = Failing(store, failures=2)
    outcome = run_members(members(0, 1), failing, Quick(), Silent())
    assert (outcome.ok, outcome.failed, outcome.left) == (2, 0, 0)
    assert stored(store) == {0: ["ok"], 1: ["ok"]}


def test_a_database_that_stays_full_ends_the_plan_in_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "AGAIN", (0.0,))
    failing: Any = Failing(store, failures=99)
    with pytest.raises(UserError, match="no space left"):
        run_members(members(0, 1), failing, Quick(), Silent())
    assert stored(store) == {}
    assert run_members(members(0, 1), store, Quick(), Silent()).ok == 2


def test_a_record_that_cannot_be_stored_is_no_fault_of_its_pack(faulty: Settings) -> None:
    class Full(Heard):
        def finished(self, record: RunRecord) -> None:
            super().finished(record)
            if record.status == "ok":
                raise Stop("the disk is full")

    heard = Full()
    with pytest.raises(Stop):
        InProcess(dataclasses.replace(faulty, pack="2")).run([tuple(make_trial(faulty, seed=s) for s in (0, 1))], heard)
    ends = sorted((record.status, record.reason) for record in heard.records.values())
    assert ends == [("interrupted", "the disk is full"), ("ok", "")]


# ------------------------------------------------------------------------- going on


def test_the_first_bad_end_is_the_last_if_that_is_wanted(store: Store) -> None:
    outcome = run_members(members(0, 1, 2), store, Quick("diverged"), Silent(), conduct=Conduct(fail_fast=True))
    assert (outcome.failed, outcome.left, outcome.stopped, outcome.all_well) == (1, 2, True, False)
    assert stored(store) == {0: ["diverged"]}


def test_only_the_statuses_that_are_named_are_tried_again(store: Store) -> None:
    for seed, status in enumerate(("failed", "oom", "diverged", "interrupted", "ok")):
        store.add_run(make_record(seed=seed, status=status))
    ran: list[int] = []
    quick = Quick()
    quick.before = lambda trial: ran.append(trial.seed)
    retry = frozenset({"failed", "oom"})
    outcome = run_members(members(*range(6)), store, quick, Silent(), conduct=Conduct(retry=retry))
    assert sorted(ran) == [0, 1, 3, 5]
    assert (outcome.ok, outcome.skipped, outcome.passed_over, outcome.all_well) == (4, 1, 1, False)


def test_ctrl_c_while_a_run_is_being_stored_waits_until_it_is(store: Store) -> None:
    class Pressed(Silent):
        def finished(self, record: RunRecord) -> None:
            signal.raise_signal(signal.SIGINT)

    outcome = run_members(members(0, 1), store, Quick(), Pressed())
    assert (outcome.ok, outcome.interrupted, outcome.left) == (1, True, 1)
    assert stored(store) == {0: ["ok"]}


def test_a_deferred_interrupt_comes_at_the_end_of_the_block() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with interrupts_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("inside")
        steps.append("behind")
    assert steps == ["inside"]


# ------------------------------------------------------------------------- clocks


def test_a_clock_that_is_set_back_gives_no_negative_time(
    faulty: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Backwards(datetime):
        calls = 0

        @classmethod
        def now(cls, tz: Any = None) -> Self:
            cls.calls += 1
            return cls(2026, 1, 1, tzinfo=UTC) - timedelta(days=cls.calls)

    monkeypatch.setattr(clocks, "datetime", Backwards)
    began = Began(Backwards.now())
    time.sleep(0.01)
    assert timedelta(0) < began.now() - began.at < timedelta(minutes=1)
    record = run_trial(make_trial(faulty, "majority"), faulty)
    assert record.finished_at >= record.started_at


def test_a_run_that_seems_older_than_the_one_before_it_still_counts(store: Store) -> None:
    store.add_run(make_record(status="failed", minutes=60))
    store.add_run(make_record(status="ok", minutes=0))  # stored later, by a clock that was set back
    trial: Trial = make_record().trial
    assert store.finished([trial.id]) == {trial.id}
    assert run_members([Member("main", "lora", trial)], store, Quick(), Silent()).skipped == 1
