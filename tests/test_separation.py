"""Adaptive seeds from the command line to the suite's table, with an executor that makes scores instead of training."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import make_record, make_scores
from test_executors import Scripted
from typer.testing import CliRunner

import harness
from harness import executors
from harness.cli import app
from harness.executors import Listener
from harness.pack.plan import Pack
from harness.records import Predictions, RunRecord
from harness.trial import Trial

EXAMPLES = 400
LABELS = [0, 1] * (EXAMPLES // 2)
ROWS = ["--method", "lora", "--method", "pissa"]
Errors = Callable[[str, int], int]


class Scored(Scripted):
    """Ends trials with so many wrong test rows as told by method and seed; `stop_after` so many it is interrupted."""

    def __init__(self, errors: Errors, stop_after: int = 10**6, failing: tuple[str, int] = ("", 0)) -> None:
        super().__init__()
        self.errors, self.stop_after, self.failing = errors, stop_after, failing

    def call(self, function: Any, argument: Any) -> Any: ...

    def run(self, packs: Iterable[Pack], listener: Listener) -> None:
        for trial in itertools.chain.from_iterable(packs):
            if len(self.ran) >= self.stop_after:
                raise KeyboardInterrupt
            self.ran.append(trial)
            listener.started(trial)
            listener.finished(self.record(trial))

    def record(self, trial: Trial) -> RunRecord:
        if (trial.method, trial.seed) == self.failing:
            return make_record(trial=trial, status="failed", reason="no luck", scores=[])
        wrong = self.errors(trial.method, trial.seed)
        values = [1 - label if row < wrong else label for row, label in enumerate(LABELS)]
        kept = Predictions("test", 1, [str(row) for row in range(EXAMPLES)], LABELS, values)
        score = 1 - wrong / EXAMPLES
        return make_record(trial=trial, scores=make_scores([0.5], [score], metric="accuracy"), predictions=[kept])


def noisy(gap: int, spread: int) -> Errors:
    """LoRA is wrong on `gap` more rows than PiSSA, give or take."""
    noise = np.random.default_rng(1).standard_normal((2, 200))

    def errors(method: str, seed: int) -> int:
        row = ["lora", "pissa"].index(method)
        return int(100 + (gap if row == 0 else 0) + spread * noise[row, seed])

    return errors


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "leaderboard.db"


@pytest.fixture
def run(db: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`run --suite starter` on one task with the executor, and what it printed."""

    def invoke(executor: Scored, *options: str, rows: Sequence[str] = ROWS, task: str = "paraphrase") -> Any:
        monkeypatch.setattr(executors, "make_executor", lambda jobs, settings: executor)
        asked = ["run", "--suite", "starter", "--task", task, "--grid", "main", *rows, "--db", str(db), *options]
        return CliRunner().invoke(app, asked)

    return invoke


def seeds(executor: Scored) -> dict[str, list[int]]:
    return {method: [t.seed for t in executor.ran if t.method == method] for method in ("lora", "pissa")}


def test_further_seeds_run_until_the_rows_are_separated_and_join_the_suite(run: Callable[..., Any], db: Path) -> None:
    planned = Scored(noisy(16, 6))
    assert run(planned).exit_code == 0
    plan = CliRunner().invoke(app, ["plan", "--suite", "starter", "--task", "paraphrase", *ROWS, "--db", str(db)])
    assert "seeds separate lora from pissa (main)." in plan.stdout
    executor = Scored(noisy(16, 6))
    done = run(executor, "--until-separated")
    assert done.exit_code == 0, done.output
    assert "main: of 1 pairs 1 separated, 0 equivalent within 0.5 points, 0 open." in done.stdout
    assert "main: 1 of 1 pairs are open after look 1; next: paraphrase" in done.stderr
    first = 1 + max(seeds(planned)["lora"])
    assert seeds(executor)["lora"] == seeds(executor)["pissa"]  # in pairs
    assert seeds(executor)["lora"] == list(range(first, first + len(seeds(executor)["lora"])))
    frame = harness.results("starter", db=str(db))
    assert len(frame) == len(planned.ran) + len(executor.ran)
    assert frame.groupby("label")[["parameters", "recipe"]].nunique().max(axis=None) == 1
    again = run(Scored(noisy(16, 6)), "--until-separated", "--json", "--quiet")
    data = json.loads(again.stdout)
    assert data["pairs"] == [{"grid": "main", "first": "lora", "second": "pissa", "state": "separated"}]
    assert (data["ok"], data["skipped"], data["ended"]) == (0, len(planned.ran), "")


def test_rows_that_are_alike_are_equivalent_within_the_margin(run: Callable[..., Any]) -> None:
    done = run(Scored(noisy(0, 1)), "--until-separated", "--margin", "2")
    assert "0 separated, 1 equivalent within 2 points, 0 open." in done.stdout


def test_the_budget_ends_it_and_planned_seeds_come_first(run: Callable[..., Any]) -> None:
    executor = Scored(noisy(16, 6))
    done = run(executor, "--until-separated", "--budget", "0.000001s")
    assert done.exit_code == 0
    assert "1 open (the budget is gone)." in done.stdout
    assert len(set(seeds(executor)["lora"])) == len(executor.ran) / 2 >= 2


@pytest.mark.parametrize("after", [1, 6, 7])
def test_after_an_interrupt_the_same_command_goes_on_as_if_there_had_been_none(
    run: Callable[..., Any], db: Path, after: int
) -> None:
    whole = Scored(noisy(16, 6))
    run(whole, "--until-separated")
    assert len(whole.ran) > 8
    db.unlink()
    first, second = Scored(noisy(16, 6), stop_after=after), Scored(noisy(16, 6))
    stopped = run(first, "--until-separated")
    assert stopped.exit_code == 1
    assert "the same command goes on where this one stopped" in stopped.stderr
    assert run(second, "--until-separated").exit_code == 0
    ran = [trial.id for trial in first.ran + second.ran]
    assert sorted(ran[:6]) == sorted(trial.id for trial in whole.ran[:6])  # planned, packed together as they come
    assert ran[6:] == [trial.id for trial in whole.ran[6:]]


def test_a_row_whose_further_trial_fails_gets_no_more_and_the_others_go_on(run: Callable[..., Any]) -> None:
    executor = Scored(noisy(16, 6), failing=("lora", 3))
    done = run(executor, "--until-separated")
    assert done.exit_code == 1
    assert seeds(executor)["lora"].count(3) == 1
    assert "1 open (no further seed is expected to decide them, or a trial of theirs did not end well)" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--until-separated", "--budget", "soon"], "--budget soon: give a time such as 2h"),
        (["--until-separated", "--budget", "0h"], "--budget 0h: give a time"),
        (["--until-separated", "--budget", "2"], "--budget 2: give a time"),
        (["--until-separated", "--budget", "h2h"], "--budget h2h: give a time"),
        (["--until-separated", "--margin", "half"], "--margin half: give points from 0 to 100"),
        (["--until-separated", "--margin", "nan"], "--margin nan: give points"),
        (["--until-separated", "--margin=-1"], "--margin -1: give points"),
        (["--budget", "2h"], "--budget is for --until-separated"),
        (["--margin", "1"], "--margin is for --until-separated"),
    ],
)
def test_a_wrong_goal_is_one_line_and_nothing_is_run(
    run: Callable[..., Any], db: Path, options: list[str], message: str
) -> None:
    executor = Scored(noisy(16, 6))
    refused = run(executor, *options)
    assert (refused.exit_code, executor.ran, db.exists()) == (2, [], False)
    assert message in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("rows", [["--method", "lora"], ["--method", "lora", "--method", "head_only"]])
def test_one_row_has_nothing_to_be_separated_from(run: Callable[..., Any], db: Path, rows: list[str]) -> None:
    refused = run(Scored(noisy(16, 6)), "--until-separated", rows=rows)
    assert (refused.exit_code, db.exists()) == (2, False)
    assert "suite 'starter' has no two rows to separate in what is selected" in refused.stderr
