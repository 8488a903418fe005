"""Pages about more than one suite: overview, suites, tasks, methods, failures, stacks. Made from summaries."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from harness import schema
from harness.canary import canary_seconds
from harness.records import MethodInfo, TaskInfo
from harness.result_rows import OF_TASK
from reports.inventory import Inventory, digest
from reports.names import method_file, numbered, run_file, task_file
from reports.summaries import NEWEST, Result, RunLine, SuiteSummary, TableRow

if TYPE_CHECKING:
    from harness.store import Store

CARDS = 24
"""Suites that the overview shows, those with the newest runs; the page of suites lists all."""
LINES = 600
"""Rows of a table on one page; a longer one goes on on the next."""


@dataclass(frozen=True)
class Wide:
    """A page with what it is made from."""

    path: str
    template: str
    inputs: str
    context: dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """A run that did not end well."""

    id: str
    method: str
    task: str
    size: int
    seed: int
    status: str
    reason: str
    started_at: str
    suites: tuple[str, ...]
    mended: bool
    """Whether its trial has a good run by now."""

    @property
    def link(self) -> str:
        return run_file(self.id)


@dataclass(frozen=True)
class StackLine:
    """A stack and how many runs happened on it."""

    id: str
    runs: int
    details: tuple[tuple[str, str], ...]
    canary: float | None
    """Seconds that the canary's fixed trial takes on it; None if it has not been run."""


@dataclass(frozen=True)
class Part:
    """One of several pages that a long table is spread over."""

    number: int
    of: int
    file: str
    total: int
    """Rows on all of them."""

    @property
    def links(self) -> list[tuple[int, str]]:
        """Number and file of every part."""
        return [(number, numbered(self.file, number)) for number in range(1, self.of + 1)]


def pages(store: Store, inventory: Inventory, summaries: Sequence[SuiteSummary]) -> Iterator[Wide]:
    """All pages about more than one suite."""
    newest_first = sorted(summaries, key=lambda s: (s.last_run, s.name), reverse=True)
    yield _page("index.html", "index.html", "home", **_overview(newest_first))
    yield _page("suites.html", "suites.html", "suites", suites=sorted(summaries, key=lambda s: (s.title, s.name)))
    yield from _tasks(store.tasks(), summaries)
    yield from _methods(store.methods(), summaries)
    failures = _failures(store, inventory)
    by_status = Counter(failure.status for failure in failures).most_common()
    for part, some in _parts("failures.html", failures):
        path = numbered(part.file, part.number)
        yield _page(path, "failures.html", "failures", failures=some, part=part, by_status=by_status)
    yield _page("stacks.html", "stacks.html", "stacks", stacks=_stacks(store))
    yield _page("404.html", "404.html", "")


def _page(path: str, template: str, here: str, **context: Any) -> Wide:
    return Wide(path, template, digest(template, context), {"here": here, **context})


def _parts(file: str, lines: Sequence[Any]) -> Iterator[tuple[Part, Sequence[Any]]]:
    """The lines cut into pages of at most `LINES`; one page without any."""
    of = max(1, -(-len(lines) // LINES))
    for number in range(1, of + 1):
        yield Part(number, of, file, len(lines)), lines[(number - 1) * LINES : number * LINES]


def _overview(newest_first: Sequence[SuiteSummary]) -> dict[str, Any]:
    """The suites' podiums, the plot of the suite with most runs, and the newest runs of all."""
    drawn = [summary for summary in newest_first if summary.picture is not None]
    largest = max(drawn, key=lambda summary: (summary.done, summary.name), default=None)
    lines: dict[str, RunLine] = {}
    for summary in newest_first:
        for line in summary.newest:
            lines.setdefault(line.id, line)
    newest = sorted(lines.values(), key=lambda line: (line.started_at, line.id), reverse=True)[:NEWEST]
    return {
        "suites": newest_first[:CARDS],
        "total": len(newest_first),
        "runs": sum(summary.done for summary in newest_first),
        "largest": largest,
        "newest": newest,
    }


def _tasks(tasks: Sequence[TaskInfo], summaries: Sequence[SuiteSummary]) -> Iterator[Wide]:
    results: dict[tuple[str, int], list[Result]] = defaultdict(list)
    for result in (result for summary in summaries for result in summary.results):
        results[result.task, result.version].append(result)
    lines = [(task, len(results[task.name, task.version]), task_file(task.name, task.version)) for task in tasks]
    yield _page("tasks.html", "tasks.html", "tasks", tasks=lines)
    for task, _, file in lines:
        found = sorted(results[task.name, task.version], key=lambda r: (r.backbone, r.sizes, -r.mean, r.suite, r.label))
        for part, some in _parts(file, found):
            yield _page(numbered(file, part.number), "task.html", "tasks", task=task, results=some, part=part)


def _methods(methods: Sequence[MethodInfo], summaries: Sequence[SuiteSummary]) -> Iterator[Wide]:
    results: dict[str, list[Result]] = defaultdict(list)
    tables: dict[str, list[TableRow]] = defaultdict(list)
    for summary in summaries:
        for result in summary.results:
            results[result.method].append(result)
        for row in (*summary.table, *summary.other_tables):
            tables[row.method].append(row)
    lines = [(method, len(tables[method.name]), method_file(method.name)) for method in methods]
    yield _page("methods.html", "methods.html", "methods", methods=lines)
    for method, _, file in lines:
        ordered = sorted(results[method.name], key=lambda r: (r.task_title, r.version, r.suite, r.grid, r.label))
        for part, some in _parts(file, ordered):
            rows = tables[method.name] if part.number == 1 else []
            context: dict[str, Any] = {"method": method, "rows": rows[:LINES], "results": some, "part": part}
            yield _page(numbered(file, part.number), "method.html", "methods", **context)


def _failures(store: Store, inventory: Inventory) -> list[Failure]:
    """All runs that did not end well, the newest first."""
    run, trial = schema.RUNS.c, schema.TRIALS.c
    query = (
        sa.select(
            run.id,
            run.status,
            run.reason,
            run.started_at,
            trial.train_size,
            trial.seed,
            schema.METHODS.c.title.label("method"),
            schema.TASKS.c.title.label("task"),
        )
        .join(schema.TRIALS, trial.id == run.trial_id)
        .join(schema.METHODS, schema.METHODS.c.name == trial.method)
        .join(schema.TASKS, OF_TASK)
        .where(run.status != "ok")
        .order_by(run.started_at.desc(), run.id.desc())
    )
    with store.reading() as connection:
        rows = connection.execute(query).all()
    found = []
    for row in rows:
        stored = inventory.stored[row.id]
        names = tuple(dict.fromkeys(suite for suite, _, _ in stored.places))
        mended = any(status == "ok" for _, status in stored.runs)
        started = row.started_at.isoformat()
        found.append(
            Failure(
                row.id, row.method, row.task, row.train_size, row.seed, row.status, row.reason, started, names, mended
            )
        )
    return found


def _stacks(store: Store) -> list[StackLine]:
    """All stacks, the one with most runs first."""
    run, stack = schema.RUNS.c, schema.STACKS.c
    with store.reading() as connection:
        counted = sa.select(run.stack_id, sa.func.count()).where(run.stack_id.is_not(None)).group_by(run.stack_id)
        counts = {str(name): int(number) for name, number in connection.execute(counted)}
        rows = connection.execute(sa.select(stack.id, stack.details)).all()
    unit = canary_seconds(store)
    lines = [StackLine(row.id, counts.get(row.id, 0), tuple(_flat(row.details)), unit.get(row.id)) for row in rows]
    return sorted(lines, key=lambda line: (-line.runs, line.id))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
