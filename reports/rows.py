"""The rows that every report is made from: one per trial of a suite, typed, with None for unknown."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from harness.records import MethodInfo, TaskInfo

if TYPE_CHECKING:
    from harness.result_rows import Table
    from harness.standings import Standing
    from harness.store import Store

PLANNED = "planned"
"""Status of a trial that has no run yet."""


@dataclass(frozen=True)
class Row:
    """One trial's place in a suite and its latest good run (or, without one, its latest bad one).

    The field names are the column names of `harness.result_rows`; `harness.protocols` defines the scores.
    """

    suite: str
    grid: str
    label: str
    trial_id: str
    task: str
    task_title: str
    task_version: int
    method: str
    method_title: str
    control: bool
    backbone: str
    backbone_revision: str
    train_size: int
    start: str
    seed: int
    parameters: str
    recipe: str
    metric: str
    run_id: str | None
    status: str
    reason: str
    stack_id: str | None
    started_at: str | None
    origin: str | None
    git_commit: str | None
    git_dirty: bool | None
    adapter_params: int | None
    head_params: int | None
    trainable_params: int | None
    total_params: int | None
    train_flops: float | None
    inference_flops_per_example: float | None
    load_seconds: float | None
    init_seconds: float | None
    train_seconds: float | None
    eval_seconds: float | None
    start_seconds: float | None
    examples_per_second: float | None
    tokens_per_second: float | None
    padding_share: float | None
    peak_memory_bytes: int | None
    adapter_bytes: int | None
    perplexity_before: float | None
    perplexity_after: float | None
    score_last: float | None
    epoch_last: int | None
    score_selected: float | None
    epoch_selected: int | None
    select_selected: float | None
    score_optimistic: float | None
    epoch_optimistic: int | None

    @property
    def title(self) -> str:
        """The method's title where the row is named after its method, else the label, which tells variants apart."""
        return self.method_title if self.label == self.method else self.label

    @property
    def held_out(self) -> str:
        """Hash of the text that the run's perplexities are of; empty if it has none."""
        return "" if self.perplexity_after is None else str(json.loads(self.recipe).get("forgetting_sha256", ""))

    def score(self, protocol: str) -> float | None:
        """The primary metric under "last", "selected" or "optimistic"; None without a good run."""
        value: float | None = getattr(self, f"score_{protocol}") if self.status == "ok" else None
        return value

    def epoch(self, protocol: str) -> int | None:
        """The epoch of that score; None without one."""
        value: int | None = getattr(self, f"epoch_{protocol}") if self.score(protocol) is not None else None
        return value


@dataclass(frozen=True)
class SuiteRows:
    """A suite's rows with what the database keeps of the suite, its methods and its tasks."""

    name: str
    title: str
    description: str
    rank_by: str
    rows: tuple[Row, ...]
    methods: Mapping[str, MethodInfo]
    """By name."""
    tasks: Mapping[tuple[str, int], TaskInfo]
    """By name and version."""


COLUMNS = tuple(field.name for field in fields(Row))
STANDING_COLUMNS = ("interval_low", "interval_high", "rank_best", "rank_worst", "unranked")
"""What the trial's table row comes to under the suite's own protocol, on the scale of the scores: the ends of its 95 %
interval, the ranks that it may hold, and why it has none (empty if it has)."""

RowStandings = Mapping[tuple[str, str, str], "Standing"]
"""By suite, grid and row label."""


def load_suites(store: Store) -> list[SuiteRows]:
    """All suites of a database, by name."""
    return _suites(store, None)


def load_suite(store: Store, name: str) -> SuiteRows:
    """One suite by name; UserError with the nearest name if the database has no such suite."""
    (suite,) = _suites(store, name)
    return suite


def _suites(store: Store, name: str | None) -> list[SuiteRows]:
    from harness.result_rows import result_rows  # brings the database, which --help must not wait for

    by_suite: dict[str, list[Row]] = defaultdict(list)
    for row in rows_from_table(result_rows(store, name)):
        by_suite[row.suite].append(row)
    methods = {method.name: method for method in store.methods()}
    tasks = {(task.name, task.version): task for task in store.tasks()}
    return [
        SuiteRows(s.name, s.title, s.description, s.rank_by, tuple(by_suite[s.name]), methods, tasks)
        for s in store.suites(name)
    ]


def rows_from_table(table: Table) -> list[Row]:
    """Typed rows of what `harness.result_rows` reads, in its order."""
    names = list(table.types)
    chosen = itemgetter(*(names.index(name) for name in COLUMNS))
    status, reason, started = (COLUMNS.index(name) for name in ("status", "reason", "started_at"))
    rows = []
    for values in map(list, map(chosen, table.rows)):
        values[status] = values[status] or PLANNED
        values[reason] = values[reason] or ""
        values[started] = values[started] and datetime.fromisoformat(values[started]).isoformat()
        rows.append(Row(*values))
    return rows


def rows_as_records(rows: Sequence[Row], standings: RowStandings) -> list[dict[str, Any]]:
    """Rows as flat dictionaries that JSON can hold: `COLUMNS`, then `STANDING_COLUMNS`."""
    return [vars(row) | _standing_columns(row, standings.get((row.suite, row.grid, row.label))) for row in rows]


def _standing_columns(row: Row, standing: Standing | None) -> dict[str, Any]:
    if standing is None:
        values = (None, None, None, None, "a control" if row.control else "of a curve over training sizes, no table")
    else:
        rank, interval = standing.rank, standing.interval or (None, None)
        values = (*interval, rank and rank.best, rank and rank.worst, standing.reason)
    return dict(zip(STANDING_COLUMNS, values, strict=True))


def as_json(records: Iterable[Mapping[str, Any]]) -> str:
    """Records of `rows_as_records` as a JSON list, one object a line, None as null."""
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    return "[\n" + ",\n".join(map(encode, records)) + "\n]\n"


def as_csv(records: Iterable[Mapping[str, Any]]) -> str:
    """Records of `rows_as_records` as CSV with a header line; None as an empty field."""
    text, names = io.StringIO(), COLUMNS + STANDING_COLUMNS
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(map(itemgetter(*names), records))
    return text.getvalue()
