"""Plausible records for tests: `make_record(seed=1, method="lora")`, and a store to put them in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.records import (
    Costs,
    Member,
    MethodInfo,
    ParameterCounts,
    Predictions,
    RunRecord,
    Score,
    SuiteInfo,
    TaskInfo,
)
from harness.store import Store
from harness.trial import Backbone, Recipe, Trial

STARTED = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
METHODS = (
    MethodInfo("ft", "FT", "", "W learned", "Learn every weight.", False),
    MethodInfo("lora", "LoRA", "Hu et al. 2021, arXiv:2106.09685", "W + (alpha / r) B A", "Low-rank update.", False),
    MethodInfo("head_only", "Head only", "", "W", "Learn the head alone.", True),
)
TASKS = (
    TaskInfo("mrpc", 1, "MRPC", "classification", ("f1", "accuracy"), ("test",), "nyu-mll/glue"),
    TaskInfo("mnli", 1, "MNLI", "classification", ("accuracy",), ("matched", "mismatched"), "nyu-mll/glue"),
    TaskInfo("stsb", 2, "STS-B", "regression", ("pearson", "spearman"), ("test",), "nyu-mll/glue"),
)
PROVENANCE: dict[str, Any] = {
    "commit": "5f80818",
    "dirty": False,
    "backbone_sha256": "53aa5117" * 8,
    "stack": {"device": "cpu", "torch": "2.13.0"},
    "versions": {"torch": "2.13.0"},
}
TRIAL = Trial(
    backbone=Backbone("tiny-encoder", "sha256:53aa51172d142c89"),
    task="mrpc",
    task_version=1,
    method="lora",
    parameters={"r": 8, "alpha": 16.0, "targets": "q,v"},
    recipe=Recipe(),
    seed=0,
)


def make_trial(**changes: Any) -> Trial:
    """A LoRA trial on MRPC, with the given fields changed."""
    return dataclasses.replace(TRIAL, **changes)


def make_scores(select: Sequence[float], test: Sequence[float], metric: str = "f1", split: str = "test") -> list[Score]:
    """Scores of epochs 1, 2, ... on `select` and on one test split."""
    return [
        Score(epoch, name, metric, value)
        for name, values in (("select", select), (split, test))
        for epoch, value in enumerate(values, start=1)
    ]


def make_record(**changes: Any) -> RunRecord:
    """An ok run; fields of the trial and fields of the record may be changed by name.

    `minutes` moves the run in time, so that later runs can be made.
    """
    names = {field.name for field in dataclasses.fields(Trial)}
    trial_changes = {name: changes.pop(name) for name in list(changes) if name in names and name != "parameters"}
    started = STARTED + timedelta(minutes=changes.pop("minutes", 0))
    record = RunRecord(
        trial=make_trial(**trial_changes),
        status="ok",
        started_at=started,
        finished_at=started + timedelta(seconds=42),
        parameters=ParameterCounts(adapter=24_576, head=1_538, total=22_739_202),
        costs=Costs(train_flops=3.2e12, train_seconds=31.5, eval_seconds=2.25, peak_memory_bytes=412_000_000),
        scores=make_scores(select=[0.7, 0.8, 0.75], test=[0.72, 0.78, 0.79]),
        losses=[(10, 0.69), (20, 0.61)],
        predictions=[Predictions("test", 3, ids=["a", "b", "c"], labels=[0, 1, 1], values=[0, 1, 0])],
        provenance=PROVENANCE,
    )
    return dataclasses.replace(record, **changes)


def make_suite(trials: Sequence[Trial], name: str = "glue-tiny", grid: str = "main") -> SuiteInfo:
    """A suite whose rows are labelled by method."""
    members = tuple(Member(grid, trial.method, trial) for trial in trials)
    return SuiteInfo(name, "GLUE, tiny", "A suite for tests.", "selected", members)


def fill(store: Store, records: Sequence[RunRecord], name: str = "glue-tiny") -> list[str]:
    """Describe the plugins, set a suite of all the records' trials, add the runs. Returns the run ids."""
    store.describe(METHODS, TASKS)
    store.set_suite(make_suite([record.trial for record in records], name))
    return [store.add_run(record) for record in records]
