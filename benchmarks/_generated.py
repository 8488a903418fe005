"""A leaderboard database of any size, of made-up runs that look like real ones; the same every time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from harness import rows, schema
from harness.records import Costs, Member, MethodInfo, SuiteInfo, TaskInfo
from harness.store import Store, open_store
from harness.trial import Backbone, Recipe, Trial

STARTED = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
EXAMPLES = 200
EPOCHS = 3
POINTS = 10
"""Of a loss curve."""
BATCH = 2000
"""Runs written at once."""
STACK = {"device": "cpu", "torch": "2.13.0"}
FAILURES = 50
"""One of so many runs has failed."""


@dataclass(frozen=True)
class Shape:
    """Suites of methods x tasks x seeds."""

    suites: int
    methods: int
    tasks: int
    seeds: int

    @property
    def runs(self) -> int:
        """How many runs that is."""
        return self.suites * self.methods * self.tasks * self.seeds


def shape_of(runs: int) -> Shape:
    """About so many runs, in suites of at most 1,000."""
    if runs <= 1000:
        return Shape(1, 5, 4, max(1, runs // 20))
    return Shape(runs // 1000, 10, 10, 10)


def generate(path: Path, shape: Shape) -> None:
    """Write a new database. Scores differ between methods and seeds; one run of `FAILURES` has failed."""
    with open_store(str(path)) as store:
        tasks = [
            TaskInfo(f"task{i}", 1, f"Task {i}", "classification", ("accuracy",), ("test",), "made up")
            for i in range(shape.tasks)
        ]
        methods = [
            MethodInfo(f"method{i}", f"Method {i}", "Nobody 2026", "W + B A", "Made up.", i == shape.methods - 1)
            for i in range(shape.methods)
        ]
        store.describe(methods, tasks)
        for number in range(shape.suites):
            members = tuple(_members(number, shape))
            name = f"suite{number:03d}"
            store.set_suite(SuiteInfo(name, f"Suite {number}", "Made-up runs.", "selected", members))
            add_runs(store, [member.trial for member in members], first=number * len(members))


def add_one(path: Path, shape: Shape) -> None:
    """Run one trial of the first suite once more."""
    with open_store(str(path)) as store:
        add_runs(store, [next(_members(0, shape)).trial], first=shape.runs)


def _members(suite: int, shape: Shape) -> Iterator[Member]:
    for method in range(shape.methods):
        for task in range(shape.tasks):
            for seed in range(shape.seeds):
                recipe = Recipe(epochs=EPOCHS, learning_rate=1e-3 * (1 + suite))
                trial = Trial(
                    backbone=Backbone("made-up-encoder", "1"),
                    task=f"task{task}",
                    task_version=1,
                    method=f"method{method}",
                    parameters={"r": 8},
                    recipe=recipe,
                    seed=seed,
                )
                yield Member("main", f"method{method}", trial)


def add_runs(store: Store, trials: list[Trial], first: int) -> None:
    """Append a run of each trial. first: the number of the first one, of which its id is made."""
    with store.database.writing() as connection:
        rows.insert_missing(connection, schema.STACKS, [{"id": rows.fingerprint(STACK), "details": STACK}])
        numbered = iter(enumerate(trials, start=first))
        while batch := list(islice(numbered, BATCH)):
            written: dict[Any, list[dict[str, Any]]] = {}
            for number, trial in batch:
                for model, new in _of_run(connection, number, trial).items():
                    written.setdefault(model, []).extend(new)
            for model, new in written.items():
                if new:
                    connection.execute(sa.insert(model), new)


def _of_run(connection: sa.Connection, number: int, trial: Trial) -> dict[Any, list[dict[str, Any]]]:
    """The rows of one run, by table."""
    generator = np.random.default_rng([int(trial.task[4:]), trial.seed, number])
    method, run_id, failed = int(trial.method[6:]), f"{number:012x}", number % FAILURES == FAILURES - 1
    labels, set_id = _examples(connection, trial)
    began = STARTED + timedelta(minutes=number)
    costs = Costs(
        train_flops=1e12 * (1 + method),
        load_seconds=0.5,
        init_seconds=0.1,
        train_seconds=30.0 + float(generator.normal()),
        eval_seconds=2.0,
        peak_memory_bytes=400_000_000 + 1_000_000 * method,
        adapter_bytes=4 * 2 ** (10 + method),
    )
    run = {
        "id": run_id,
        "trial_id": trial.id,
        "stack_id": rows.fingerprint(STACK),
        "status": "failed" if failed else "ok",
        "reason": "made up: it failed" if failed else "",
        "traceback": "",
        "started_at": began,
        "finished_at": began + timedelta(seconds=40),
        "adapter_params": 2 ** (10 + method),
        "head_params": 770,
        "trainable_params": 2 ** (10 + method) + 770,
        "total_params": 22_000_000,
        **dataclasses.asdict(costs),
        "perplexity_before": None,
        "perplexity_after": None,
        "git_commit": "0" * 40,
        "git_dirty": False,
        "provenance": {"versions": {"torch": "2.13.0"}},
    }
    if failed:
        return {schema.RUNS: [run]}
    level = 0.6 + 0.02 * method + 0.01 * float(generator.normal())
    found: dict[Any, list[dict[str, Any]]] = {schema.RUNS: [run], schema.SCORES: [], schema.PREDICTIONS: []}
    for epoch in range(1, EPOCHS + 1):
        predicted = np.where(generator.random(EXAMPLES) < level - 0.05 * (EPOCHS - epoch), labels, 1 - labels)
        select = level - 0.02 * abs(epoch - 2) + 0.001 * float(generator.normal())  # the second is selected
        for split, value in (("select", select), ("test", float((predicted == labels).mean()))):
            found[schema.SCORES].append(
                {"run_id": run_id, "epoch": epoch, "split": split, "metric": "accuracy", "value": value}
            )
        if epoch > 1:
            kept = {"run_id": run_id, "split": "test", "epoch": epoch, "example_set_id": set_id}
            found[schema.PREDICTIONS].append({**kept, "predicted": rows.pack(predicted.tolist())})
    found[schema.LOSSES] = [
        {"run_id": run_id, "step": 10 * step, "loss": 0.7 / step + 0.01 * float(generator.random())}
        for step in range(1, POINTS + 1)
    ]
    return found


def _examples(connection: sa.Connection, trial: Trial) -> tuple[np.ndarray[Any, Any], str]:
    """True labels of the task's test set, and its id; written when they are first asked for."""
    labels = np.random.default_rng(int(trial.task[4:])).integers(0, 2, EXAMPLES)
    set_id = rows.fingerprint([trial.task, "made up"])
    known = sa.select(schema.EXAMPLE_SETS.c.id).where(schema.EXAMPLE_SETS.c.id == set_id)
    if connection.execute(known).first() is None:
        packed = {"ids": rows.pack([f"row {i}" for i in range(EXAMPLES)]), "labels": rows.pack(labels.tolist())}
        head = {"id": set_id, "task": trial.task, "task_version": 1, "split": "test"}
        rows.insert_missing(connection, schema.EXAMPLE_SETS, [{**head, **packed}])
    return labels, set_id
