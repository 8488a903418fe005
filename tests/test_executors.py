"""Execution: done trials are skipped, equal ones run once, and what goes wrong leaves a row and stops nothing else."""

from __future__ import annotations

import dataclasses
import io
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from factories import METHODS, TASKS, make_record, make_trial

from harness import executors
from harness import workers as worker_processes
from harness.errors import UserError
from harness.execution import distinct_trials, one_by_one, run_members
from harness.executors import InProcess, Listener, automatic_jobs
from harness.pack.plan import Pack
from harness.progress import Bars, Lines, Reporter, Silent, duration, make_reporter
from harness.records import Member, RunRecord
from harness.settings import Settings
from harness.store import Store, open_store
from harness.trial import Recipe, Trial
from harness.workers import Workers


class Scripted:
    """An executor that ends trials as told, without training."""

    def __init__(self, endings: dict[int, str] | None = None) -> None:
        self.endings = endings or {}
        self.ran: list[Trial] = []

    def call(self, function: Any, argument: Any) -> Any:
        raise NotImplementedError

    def run(self, packs: Iterable[Pack], listener: Listener) -> None:
        for trial in itertools.chain.from_iterable(packs):
            self.ran.append(trial)
            listener.started(trial)
            status: Any = self.endings.get(trial.seed, "ok")
            listener.finished(dataclasses.replace(make_record(), trial=trial, status=status, reason=""))
            if status == "interrupted":
                raise KeyboardInterrupt

    def close(self) -> None: ...


class Heard(Silent):
    """Keeps what a listener is told."""

    def __init__(self) -> None:
        self.records: list[RunRecord] = []
        self.steps: list[tuple[int, int]] = []

    def progress(self, trial: Trial, done: int, total: int) -> None:
        self.steps.append((done, total))

    def finished(self, record: RunRecord) -> None:
        self.records.append(record)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "leaderboard.db")) as store:
        store.describe(METHODS, TASKS)
        yield store


def members(*seeds: int, grid: str = "main") -> list[Member]:
    return [Member(grid, "lora", make_trial(seed=seed)) for seed in seeds]


def test_done_trials_are_skipped_and_failed_ones_are_tried_again(store: Store) -> None:
    first = run_members(members(0, 1, 2), store, Scripted({1: "failed"}), Silent())
    assert (first.ok, first.failed, first.skipped, first.all_well) == (2, 1, 0, False)
    again = Scripted()
    second = run_members(members(0, 1, 2), store, again, Silent())
    assert [trial.seed for trial in again.ran] == [1]
    assert (second.ok, second.skipped, second.left, second.all_well) == (1, 2, 0, True)


def test_a_trial_of_two_grids_runs_once(store: Store) -> None:
    executor = Scripted()
    run_members(members(0) + members(0, 1, grid="train-size"), store, executor, Silent())
    assert [trial.seed for trial in executor.ran] == [0, 1]


def test_trials_of_one_task_run_together_and_keep_their_order() -> None:
    tasks = ["mrpc", "mnli", "mrpc", "mnli"]
    mixed = [Member("main", "lora", make_trial(task=task, seed=seed)) for seed, task in enumerate(tasks)]
    assert [trial.seed for trial in distinct_trials(mixed)] == [0, 2, 1, 3]


def test_an_interrupt_keeps_what_is_finished_and_counts_what_is_left(store: Store) -> None:
    outcome = run_members(members(0, 1, 2, 3), store, Scripted({1: "interrupted"}), Silent())
    assert (outcome.ok, outcome.interrupted, outcome.left, outcome.all_well) == (1, True, 3, False)
    statuses = store.latest_status([member.trial.id for member in members(0, 1, 2)])
    assert sorted(statuses.values()) == ["interrupted", "ok"]


def test_workers_record_an_interrupt_for_every_trial_under_way(settings: Settings) -> None:
    class Impatient(Heard):
        def started(self, trial: Trial) -> None:
            if trial.seed == 1:
                raise KeyboardInterrupt

    heard = Impatient()
    workers = Workers(2, settings)
    with pytest.raises(KeyboardInterrupt):
        workers.run([(make_trial(seed=seed),) for seed in range(4)], heard)
    processes = [worker.link.process for worker in workers._workers]
    workers.close()
    assert [(record.trial.seed, record.status) for record in heard.records] == [(0, "interrupted"), (1, "interrupted")]
    assert not any(process.is_alive() for process in processes)


def toy_trial(settings: Settings, method: str, seed: int = 0) -> Trial:
    from harness.backbones import resolve

    return Trial(resolve("tiny", settings), "parity", 1, method, {}, make_trial().recipe, seed)


def test_a_worker_that_is_killed_again_and_again_costs_its_own_trial_only(
    toys: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "AGAIN", (0.0,))
    trials = [toy_trial(toys, method, seed) for method, seed in [("dies", 0), ("majority", 0), ("majority", 1)]]
    heard = Heard()
    workers = Workers(1, toys)
    workers.run(one_by_one(trials), heard)
    workers.close()
    ends = [(record.trial.method, record.status) for record in heard.records]
    assert sorted(ends) == [("dies", "failed"), ("majority", "ok"), ("majority", "ok")]
    (reason,) = (record.reason for record in heard.records if record.status == "failed")
    assert "killed by SIGKILL" in reason
    assert "tried 2 times" in reason


def test_a_worker_killed_by_one_trial_of_a_pack_costs_that_trial_only(
    toys: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "AGAIN", ())

    def lora(seed: int) -> Trial:
        return dataclasses.replace(toy_trial(toys, "lora", seed), parameters={"r": 2}, recipe=Recipe(epochs=1))

    trials = [lora(0), toy_trial(toys, "dies"), lora(1), lora(2)]
    heard = Heard()
    workers = Workers(1, dataclasses.replace(toys, pack="4"))
    workers.run([tuple(trials)], heard)
    workers.close()
    assert sorted((record.trial.method, record.status) for record in heard.records) == [
        ("dies", "failed"),
        *[("lora", "ok")] * 3,
    ]


def test_an_interrupt_leaves_a_record_of_every_trial_of_a_pack_that_has_begun(toys: Settings) -> None:
    trials = tuple(toy_trial(toys, method, seed) for method, seed in [("lora", 0), ("interrupts", 0), ("lora", 1)])
    heard = Heard()
    with pytest.raises(KeyboardInterrupt):
        InProcess(dataclasses.replace(toys, pack="4")).run([trials], heard)
    assert [(record.trial.method, record.status) for record in heard.records] == [
        ("lora", "interrupted"),
        ("interrupts", "interrupted"),
    ]


def fail(argument: str, settings: Settings) -> None:
    raise UserError(f"{argument} on {settings.device}")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_user_error_in_a_call_is_raised_here(jobs: int, settings: Settings) -> None:
    executor = executors.make_executor(jobs, settings)
    with pytest.raises(UserError, match="wrong on cpu"):
        executor.call(fail, "wrong")
    executor.close()


def die_once(file: Path, settings: Settings) -> str:
    if file.exists():
        return "done"
    file.touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def test_a_worker_that_is_killed_while_a_plan_is_checked_is_replaced(settings: Settings, tmp_path: Path) -> None:
    executor = executors.make_executor(2, settings)
    assert executor.call(die_once, tmp_path / "died") == "done"
    executor.close()


def wait_long(file: Path, settings: Settings) -> None:
    file.with_suffix(".new").write_text(str(os.getpid()))
    file.with_suffix(".new").rename(file)
    time.sleep(100)


def drive(settings: Settings, file: Path) -> None:
    executors.make_executor(2, settings).call(wait_long, file)


def test_workers_end_with_a_driver_that_is_killed(settings: Settings, tmp_path: Path) -> None:
    driver = multiprocessing.get_context("fork").Process(target=drive, args=(settings, tmp_path / "worker"))
    driver.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "worker").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = psutil.Process(driver.pid).children()
    assert len(workers) == 2
    driver.kill()
    driver.join()
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_in_process_interrupts_leave_a_record(toys: Settings) -> None:
    heard = Heard()
    trials = [toy_trial(toys, "majority"), toy_trial(toys, "interrupts")]
    with pytest.raises(KeyboardInterrupt):
        InProcess(toys).run(one_by_one(trials), heard)
    assert [record.status for record in heard.records] == ["ok", "interrupted"]


def test_automatic_jobs_use_cores_but_share_no_accelerator(settings: Settings, monkeypatch: Any) -> None:
    monkeypatch.setattr(executors, "available_cores", lambda: 16)
    assert automatic_jobs(settings) == 4
    assert automatic_jobs(dataclasses.replace(settings, device="cuda")) == 1
    monkeypatch.setattr(executors, "_accelerator_likely", lambda: True)
    assert automatic_jobs(dataclasses.replace(settings, device="auto")) == 1


# ------------------------------------------------------------------------------------------ progress


def told(reporter: Reporter) -> None:
    ok = make_record()
    failed = dataclasses.replace(make_record(), trial=make_trial(seed=5), status="oom", reason="[too] big")
    reporter.begin({ok.trial.id: "lora", failed.trial.id: "lora"}, total=2, skipped=3)
    for record in (ok, failed):
        reporter.started(record.trial)
        reporter.progress(record.trial, 1, 10)
        reporter.finished(record)
    reporter.end()


def test_a_plain_line_per_finished_trial_away_from_a_terminal() -> None:
    stream = io.StringIO()
    reporter = make_reporter({TASKS[0].name: TASKS[0]}, quiet=False, stream=stream)  # type: ignore[dict-item]
    assert isinstance(reporter, Lines)
    told(reporter)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "2 trials to run, 3 already done"
    assert lines[1].startswith("[1/2] mrpc lora seed 0: f1 0.")
    assert lines[2].startswith("[2/2] mrpc lora seed 5: oom: [too] big")


def test_bars_on_a_terminal_and_nothing_when_quiet() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    reporter = make_reporter({TASKS[0].name: TASKS[0]}, quiet=False, stream=stream)  # type: ignore[dict-item]
    assert isinstance(reporter, Bars)
    told(reporter)
    assert "2/2" in stream.getvalue()
    assert "[too] big" in stream.getvalue()
    quiet = Terminal()
    told(make_reporter({}, quiet=True, stream=quiet))
    assert quiet.getvalue() == ""


def test_durations_read_like_a_clock() -> None:
    assert [duration(seconds) for seconds in (0.4, 61, 3725)] == ["0:00", "1:01", "1:02:05"]
