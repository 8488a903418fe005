"""Rows and databases for the tests of `reports`: small, deterministic, awkward where that is the point."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from typing import Any

import numpy as np
from factories import METHODS, PROVENANCE, make_record, make_scores, make_suite
from sklearn.metrics import f1_score

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
from reports.rows import COLUMNS, Row, SuiteRows

MAJORITY = MethodInfo("majority", "Majority", "", "", "The most frequent label.", True)
TASKS = (
    TaskInfo("mrpc", 1, "MRPC", "classification", ("f1",), ("test",), "nyu-mll/glue"),
    TaskInfo("rte", 1, "RTE", "classification", ("accuracy",), ("test",), "nyu-mll/glue"),
)
METRICS = {"mrpc": "f1", "rte": "accuracy"}
HOSTILE = "<script>alert('x')</script>\"&\u202e\U0001f600 {{ 7*7 }} ../../" + "x" * 300
ANSWERS = np.arange(200) % 2
"""The right ones of `make_answered_run`."""
RATES = {"ft": 0.95, "lora": 0.6, "head_only": 0.55}
ADAPTER = {"ft": 1_000_000, "lora": 24_576, "head_only": 0, "majority": 0}


def make_row(**changes: Any) -> Row:
    """A LoRA row on MRPC with seed 0 and score 0.8, with the given fields changed; costs are unknown."""
    values: dict[str, Any] = dict.fromkeys(COLUMNS)
    values |= {"suite": "glue-tiny", "grid": "main", "task": "mrpc", "task_version": 1, "method": "lora"}
    values |= {"backbone": "tiny", "backbone_revision": "1", "train_size": 0, "start": "pretrained", "seed": 0}
    values |= {"parameters": "{}", "recipe": "{}", "status": "ok", "reason": "", "stack_id": "s1", "control": False}
    values |= {"score_last": 0.8, "score_selected": 0.8, "score_optimistic": 0.8, "metric": "f1"}
    values |= changes
    values["label"] = changes.get("label", values["method"])
    values["method_title"] = changes.get("method_title", values["method"].upper())
    values["task_title"] = changes.get("task_title", values["task"].upper())
    values["trial_id"] = f"{values['grid']}/{values['label']}/{values['task']}/{values['train_size']}/{values['seed']}"
    values["run_id"] = f"run-{values['trial_id']}" if values["status"] != "planned" else None
    return Row(**values)


def make_suite_rows(*rows: Row, rank_by: str = "selected") -> SuiteRows:
    return SuiteRows("glue-tiny", "GLUE, tiny", "A suite for tests.", rank_by, rows, {}, {})


def make_run(method: str, task: str, seed: int, level: float, **changes: Any) -> RunRecord:
    """An ok run of three epochs whose test scores end at `level`; selected is the second epoch's, 0.01 less."""
    metric = METRICS[task]
    scores = [Score(e, "select", metric, s) for e, s in ((1, 0.5), (2, 0.7), (3, 0.6))]
    scores += [Score(e, "test", metric, level - d) for e, d in ((1, 0.05), (2, 0.01), (3, 0.0))]
    costs = Costs(train_flops=3.2e12, train_seconds=30.0 + seed, peak_memory_bytes=400_000_000, adapter_bytes=99_000)
    counts = ParameterCounts(ADAPTER[method], 0 if method == "majority" else 1_538, 22_000_000)
    record = make_record(method=method, task=task, seed=seed, scores=scores, costs=costs)
    return dataclasses.replace(record, **{"parameters": counts, "provenance": PROVENANCE, **changes})


def make_answered_run(method: str, seed: int, ids: str = "row") -> RunRecord:
    """One whose last of three epochs is kept and selected, right on a share of the test rows that its method has."""
    right = np.random.default_rng([seed, len(method)]).random(200) < RATES[method]
    values = np.where(right, ANSWERS, 1 - ANSWERS)
    score = float(f1_score(ANSWERS, values))
    kept = Predictions("test", 3, [f"{ids}{i}" for i in range(200)], ANSWERS.tolist(), values.tolist())
    scores = make_scores(select=[0.5, 0.6, 0.7], test=[0.1, 0.2, score])
    return make_record(method=method, task="mrpc", seed=seed, scores=scores, predictions=[kept])


def example_runs() -> list[tuple[str, RunRecord]]:
    """(grid, run): FT, LoRA and two controls on two tasks, three seeds; training sizes; LoRA failed once on RTE."""
    levels = {"ft": 0.86, "lora": 0.85, "head_only": 0.7, "majority": 0.4}
    runs = [
        ("main", make_run(method, task, seed, level + 0.004 * seed - (0.1 if task == "rte" else 0)))
        for method, level in levels.items()
        for task in METRICS
        for seed in range(3)
        if (method, task, seed) != ("lora", "rte", 2)
    ]
    failed = make_record(method="lora", task="rte", seed=2, status="oom", reason="out of memory at step 3", scores=[])
    runs.append(("main", failed))
    runs += [
        (
            "train-size",
            make_run(method, "mrpc", seed, levels[method] - 20 / size, trial=sized_trial(method, seed, size)),
        )
        for method in ("ft", "lora")
        for size in (250, 1000)
        for seed in range(3)
    ]
    return runs


def fill_example(store: Store, name: str = "glue-tiny", methods: tuple[MethodInfo, ...] = METHODS) -> None:
    """The example runs as one suite."""
    runs = example_runs()
    members = tuple(Member(grid, record.trial.method, record.trial) for grid, record in runs)
    store.describe((*methods, MAJORITY), TASKS)
    store.set_suite(SuiteInfo(name, "GLUE, tiny", "Two tasks, for tests.", "selected", members))
    for _, record in runs:
        store.add_run(record)


def fill_hostile(store: Store) -> None:
    """Two good runs and a failed one; everything that has a name has a hostile one."""
    method = MethodInfo("lora", HOSTILE, HOSTILE, HOSTILE, HOSTILE, False)
    tasks = [dataclasses.replace(task, title=HOSTILE) for task in TASKS]
    records = [make_run("lora", "mrpc", seed, 0.8) for seed in (0, 1)]
    records.append(make_record(task="rte", status="failed", reason=HOSTILE, scores=[]))
    suite = make_suite([record.trial for record in records], name=HOSTILE)
    members = tuple(dataclasses.replace(member, grid=HOSTILE, label=HOSTILE) for member in suite.members)
    store.describe([*METHODS, MAJORITY, method], tasks)
    store.set_suite(dataclasses.replace(suite, members=members, title=HOSTILE, description=HOSTILE))
    for record in records:
        store.add_run(record)


def sized_trial(method: str, seed: int, size: int) -> Any:
    return make_record(method=method, task="mrpc", seed=seed, train_size=size).trial


class Page(HTMLParser):
    """What a test asks of a page: its links, ids, scripts, styles, text and unknown sources."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []
        self.ids: list[str] = []
        self.inline: dict[str, list[str]] = {"script": [], "style": []}
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag if tag in self.inline else ""
        if self._inside:
            self.inline[tag].append("")
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids.append(value or "")
            if tag == "a" and name == "href":
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.inline[self._inside][-1] += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())
