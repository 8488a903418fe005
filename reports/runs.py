"""One page for every run: configuration, scores and losses over its course, costs, provenance, and how to repeat it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from harness import schema
from harness.records import Costs
from harness.result_rows import OF_TASK
from harness.rows import plain_rows
from reports import formats
from reports.commands import run_cell
from reports.names import method_file, row_file, run_file, suite_file, task_file
from reports.plots.chart import Chart
from reports.plots.course import loss_course, score_course

if TYPE_CHECKING:
    from harness.store import Store
    from reports.inventory import Stored

BATCH = 500
"""Runs read at once."""
KEPT_SETTINGS = 1024
"""Configurations that are kept as they are shown: many runs share theirs."""
_as_json = json.JSONEncoder(ensure_ascii=False).encode

Facts = tuple[tuple[str, str], ...]
"""Names and values."""


class Sibling(NamedTuple):
    """Another run of the same trial."""

    id: str
    status: str


class Point(NamedTuple):
    """A stored score."""

    epoch: int
    split: str
    metric: str
    value: float | None


@dataclass(frozen=True)
class Standing:
    """A place of the run's trial."""

    suite: str
    title: str
    """Of the suite."""
    grid: str
    label: str
    row_file: str
    suite_file: str


@dataclass(frozen=True)
class RunPage:
    """What the page of one run shows."""

    id: str
    title: str
    method: tuple[str, str]
    """Title and page."""
    task: tuple[str, str]
    """Title and page."""
    status: str
    reason: str
    traceback: str
    facts: Facts
    stack: str | None
    places: tuple[Standing, ...]
    siblings: tuple[Sibling, ...]
    epochs: tuple[int, ...]
    columns: tuple[tuple[str, str], ...]
    """(split, metric) of the table of scores."""
    scores: Mapping[tuple[int, str, str], float | None]
    """By (epoch, split, metric)."""
    score_chart: Chart | None
    loss_chart: Chart | None
    losses: int
    """Points of the loss curve."""
    costs: Facts
    parameters: Facts
    recipe: Facts
    provenance: Facts
    commands: tuple[str, ...]

    @property
    def file(self) -> str:
        return run_file(self.id)


def run_pages(store: Store, wanted: Sequence[Stored], titles: Mapping[str, str]) -> Iterator[RunPage]:
    """The pages of these runs, read in batches. titles: of the suites, by name."""
    for first in range(0, len(wanted), BATCH):
        batch = wanted[first : first + BATCH]
        runs, scores, losses = _read(store, [stored.id for stored in batch])
        for stored in batch:
            yield _page(stored, runs[stored.id], scores[stored.id], losses[stored.id], titles)


def _read(
    store: Store, ids: list[str]
) -> tuple[dict[str, Any], dict[str, list[Point]], dict[str, list[tuple[float, float]]]]:
    run, trial, score, loss = schema.RUNS.c, schema.TRIALS.c, schema.SCORES.c, schema.LOSSES.c
    settings = {"parameters": trial.parameters, "recipe": trial.recipe, "provenance": run.provenance}
    columns: list[Any] = [column for column in run if column.name not in settings]
    columns += [sa.cast(column, sa.String).label(name) for name, column in settings.items()]
    columns += [trial.task, trial.task_version, trial.method, trial.backbone, trial.backbone_revision]
    columns += [trial.train_size, trial.start, trial.seed]
    columns += [schema.METHODS.c.title.label("method_title"), schema.TASKS.c.title.label("task_title")]
    query = (
        sa.select(*columns)
        .join(schema.TRIALS, trial.id == run.trial_id)
        .join(schema.METHODS, schema.METHODS.c.name == trial.method)
        .join(schema.TASKS, OF_TASK)
        .where(run.id.in_(ids))
    )
    scores: dict[str, list[Point]] = defaultdict(list)
    losses: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with store.reading() as connection:
        runs = {row.id: row for row in connection.execute(query)}
        for row in runs.values():  # what is no JSON is told as an error of the database
            for name in settings:
                _settings(getattr(row, name))
        of_runs = sa.select(score.run_id, score.epoch, score.split, score.metric, score.value)
        ordered = of_runs.where(score.run_id.in_(ids)).order_by(score.epoch, score.split, score.metric)
        for run_id, *point in plain_rows(connection, ordered):
            scores[run_id].append(Point(*point))
        drawn = sa.select(loss.run_id, loss.step, loss.loss).where(loss.run_id.in_(ids), loss.loss.is_not(None))
        for run_id, step, value in plain_rows(connection, drawn.order_by(loss.run_id, loss.step)):
            losses[run_id].append((step, value))
    return runs, scores, losses


def _page(
    stored: Stored, row: Any, scores: list[Point], losses: list[tuple[float, float]], titles: Mapping[str, str]
) -> RunPage:
    places = tuple(
        Standing(suite, titles.get(suite, suite), grid, label, row_file(suite, label), suite_file(suite))
        for suite, grid, label in stored.places
    )
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for point in scores:
        if point.value is not None:
            curves[f"{point.split} {point.metric}"].append((point.epoch, point.value))
    columns = tuple(dict.fromkeys((point.split, point.metric) for point in scores))
    first_metric = [name for name in curves if columns and name.endswith(f" {columns[0][1]}")]
    return RunPage(
        id=row.id,
        title=f"{row.method_title} on {row.task_title}, seed {row.seed}",
        method=(row.method_title, method_file(row.method)),
        task=(row.task_title, task_file(row.task, row.task_version)),
        status=row.status,
        reason=row.reason,
        traceback=row.traceback,
        facts=_facts(row),
        stack=row.stack_id,
        places=places,
        siblings=tuple(Sibling(*other) for other in stored.runs if other[0] != row.id),
        epochs=tuple(sorted({point.epoch for point in scores})),
        columns=columns,
        scores={(point.epoch, point.split, point.metric): point.value for point in scores},
        score_chart=score_course({name: curves[name] for name in first_metric}),
        loss_chart=loss_course(losses),
        losses=len(losses),
        costs=_costs(row),
        parameters=_settings(row.parameters),
        recipe=_settings(row.recipe),
        provenance=_provenance(row),
        commands=_commands(stored, row),
    )


def _facts(row: Any) -> Facts:
    seconds = (row.finished_at - row.started_at).total_seconds()
    return (
        ("Method", row.method),
        ("Task", f"{row.task} (version {row.task_version})"),
        ("Backbone", f"{row.backbone} @ {row.backbone_revision}"),
        ("Training rows", formats.train_size(row.train_size)),
        ("Start", row.start),
        ("Seed", str(row.seed)),
        ("Trial", row.trial_id),
        ("Started", row.started_at.isoformat(sep=" ", timespec="seconds")),
        ("Took", f"{formats.seconds(seconds)} s"),
        *([("Submitted by", row.origin)] if row.origin else []),
    )


def _costs(row: Any) -> Facts:
    names = ("adapter_params", "head_params", "trainable_params", "total_params")
    counts = [(name, formats.count(getattr(row, name))) for name in names]
    measured = [(field.name, formats.quantity(getattr(row, field.name))) for field in fields(Costs)]
    told = [(name, formats.perplexity(getattr(row, name))) for name in ("perplexity_before", "perplexity_after")]
    return tuple((name, text) for name, text in (*counts, *measured, *told) if text != formats.DASH)


def _commands(stored: Stored, row: Any) -> tuple[str, ...]:
    found = [run_cell(*place, row.task, row.seed, row.train_size) for place in stored.places]
    return tuple(dict.fromkeys(found))


def _provenance(row: Any) -> Facts:
    """The commit, which the stored provenance may name too, and the rest of that."""
    code = _flat("", {"commit": row.git_commit, "working tree changed": row.git_dirty})
    return tuple((dict(code) | dict(_settings(row.provenance))).items())


@lru_cache(KEPT_SETTINGS)
def _settings(stored: str) -> Facts:
    """Nested values of a JSON object by dotted names; what is not known is left out."""
    return tuple((name, text) for name, text in _flat("", json.loads(stored)) if text)


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        elif value is not None:
            yield f"{prefix}{name}", value if isinstance(value, str) else _as_json(value)
