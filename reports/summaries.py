"""What the pages about several suites need of each: plain data, kept between builds for suites that did not change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from markupsafe import Markup

from reports.cells import Span
from reports.names import anchor, row_file, run_file, suite_file

NEWEST = 12
"""Runs that the overview names."""


@dataclass(frozen=True)
class Drawn:
    """A row's mark, as plain data."""

    colour: str
    path: str
    hollow: bool

    @property
    def fill(self) -> str:
        return "transparent" if self.hollow else self.colour


class OfSuite:
    """What belongs to a suite, and leads to its page."""

    suite: str

    @property
    def suite_link(self) -> str:
        return suite_file(self.suite)


@dataclass(frozen=True)
class TableRow(OfSuite):
    """One row of one table of a suite, under the suite's own protocol. Scores as fractions."""

    suite: str
    suite_title: str
    grid: str
    label: str
    title: str
    method: str
    control: bool
    backbone: str
    mark: Drawn
    average: float | None
    spread: float | None
    n: int
    usual_n: int
    tasks: int
    missing: int
    """Tasks without a score."""
    low: float | None
    high: float | None
    best: int | None
    worst: int | None
    shared: bool
    reason: str
    """Why it has no rank."""
    params_low: int | None
    params_high: int | None
    train_flops: float | None
    train_seconds: float | None
    peak_memory_bytes: int | None
    adapter_bytes: int | None
    run: str | None
    """One of its ok runs."""

    @property
    def params(self) -> Span | None:
        if self.params_low is None or self.params_high is None:
            return None
        return Span(self.params_low, self.params_high)

    @property
    def link(self) -> str:
        return row_file(self.suite, self.label)


@dataclass(frozen=True)
class Result(OfSuite):
    """One row of a suite on one task."""

    suite: str
    suite_title: str
    grid: str
    label: str
    title: str
    method: str
    control: bool
    task: str
    task_title: str
    version: int
    metric: str
    backbone: str
    sizes: str
    """Training rows, as text: "500", "all", or several."""
    mean: float
    spread: float | None
    n: int
    low: float | None
    high: float | None

    @property
    def link(self) -> str:
        return f"{row_file(self.suite, self.label)}#{anchor(self.grid, self.task)}"


@dataclass(frozen=True)
class RunLine(OfSuite):
    """A run in a list of runs."""

    id: str
    suite: str
    suite_title: str
    label: str
    title: str
    task_title: str
    size: int
    seed: int
    status: str
    reason: str
    started_at: str
    score: float | None
    metric: str

    @property
    def link(self) -> str:
        return run_file(self.id)


@dataclass(frozen=True)
class Picture:
    """A chart's parts."""

    title: str
    description: str
    svg: Markup
    caption: str
    file: str


@dataclass(frozen=True)
class SuiteSummary:
    """One suite."""

    name: str
    title: str
    description: str
    rank_by: str
    done: int
    unfinished: int
    failed: int
    seeds: int
    rows: int
    backbones: tuple[str, ...]
    table: tuple[TableRow, ...]
    """Of its first table, in its order."""
    other_tables: tuple[TableRow, ...]
    results: tuple[Result, ...]
    newest: tuple[RunLine, ...]
    picture: Picture | None

    @property
    def file(self) -> str:
        return suite_file(self.name)

    @property
    def podium(self) -> tuple[TableRow, ...]:
        """Contenders that may hold the first rank; without any rank the best three by their average."""
        contenders = [row for row in self.table if not row.control and row.average is not None]
        first = [row for row in contenders if row.best == 1]
        return tuple(first or contenders[:3])

    @property
    def ranked(self) -> int:
        """Contenders with a rank."""
        return sum(row.best is not None for row in self.table)

    @property
    def last_run(self) -> str:
        return self.newest[0].started_at if self.newest else ""


def to_plain(summary: SuiteSummary) -> dict[str, Any]:
    """A summary as JSON holds it."""
    return asdict(summary)


def from_plain(data: Mapping[str, Any]) -> SuiteSummary:
    """What `to_plain` took, also after a way through JSON."""
    rows = {
        name: tuple(TableRow(**{**row, "mark": Drawn(**row["mark"])}) for row in data[name])
        for name in ("table", "other_tables")
    }
    lists = {"backbones": tuple(data["backbones"]), **rows}
    lists["results"] = tuple(Result(**row) for row in data["results"])
    lists["newest"] = tuple(RunLine(**row) for row in data["newest"])
    drawn = data["picture"]
    picture = None if drawn is None else Picture(**{**drawn, "svg": Markup(drawn["svg"])})  # our own, from our cache
    return SuiteSummary(**{**data, **lists, "picture": picture})
