"""A checked bundle into a database: all of it or nothing, as often as one likes, and nothing that is there changes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from harness import rows, schema
from harness.bundle.format import canonical, sha256
from harness.bundle.reading import Bundle, BundledRun, BundledSuite
from harness.bundle.writing import all_predictions, metrics_of, run_line
from harness.errors import UserError
from harness.records import TaskInfo
from harness.store import Store


@dataclass(frozen=True)
class Merged:
    """What a merge did."""

    added: tuple[str, ...]
    """Ids of the runs that are new here."""
    known: int
    """Runs that were here before, with the very same content."""
    outside: int
    """Places in suites whose cells hold trials with another recipe here: these runs are kept outside the suite."""


def merge(store: Store, bundle: Bundle, origin: str | None = None, dry: bool = False) -> Merged:
    """Bring the bundle's runs in; UserError, and the database as it was, if one of them contradicts what is there.

    `origin` names the submitter of the runs for which the bundle names none. With `dry` nothing is written.
    """
    known = _known(store, bundle.runs)
    _check_tasks(store, bundle.tasks)
    new = [run for run in bundle.runs if run.id not in known]
    if dry or not new:
        return Merged(tuple(run.id for run in new), len(known), 0)
    with store.database.writing() as connection:
        rows.insert_missing(connection, schema.METHODS, [dataclasses.asdict(info) for info in bundle.methods])
        tasks = [{**dataclasses.asdict(t), "metrics": list(t.metrics), "tests": list(t.tests)} for t in bundle.tasks]
        rows.insert_missing(connection, schema.TASKS, tasks)
        rows.insert_trials(connection, (run.record.trial for run in new))
        for run in new:
            rows.set_weights_hash(connection, run.record)
            rows.insert_run(connection, run.record, run.id, run.origin or origin)
        outside = sum(_insert_suite(connection, suite, {run.record.trial.id for run in new}) for suite in bundle.suites)
    return Merged(tuple(run.id for run in new), len(known), outside)


def stored_sha256(store: Store, run_id: str) -> str:
    """The hash that a bundle would give a stored run."""
    details = store.run(run_id)
    metrics = metrics_of(store)(details.record.trial)
    line = run_line(details, all_predictions(store, run_id), lambda v: sha256(canonical(rows.finite(v))), metrics)
    return str(line["sha256"])


def _known(store: Store, runs: Sequence[BundledRun]) -> set[str]:
    """Ids of the runs that are there with the same content; UserError if one is there with another."""
    with store.reading() as connection:
        stored = set(connection.scalars(sa.select(schema.RUNS.c.id)))
    present = {run.id: run for run in runs if run.id in stored}
    differing = [run_id for run_id, run in present.items() if stored_sha256(store, run_id) != run.sha256]
    if differing:
        what = "; ".join(f"{run_id}: {_difference(store, present[run_id])}" for run_id in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UserError(
            f"the bundle has other content for runs that {store.database.where} has under the same ids ({what}{more}); "
            "nothing was merged."
        )
    return set(present)


def _difference(store: Store, run: BundledRun) -> str:
    """The first field in which a stored run and a bundled one differ, with both values."""
    here, there = store.run(run.id).record, run.record
    pairs: list[tuple[str, Any, Any]] = [("scores", _scores(here.scores), _scores(there.scores))]
    for name in ("status", "trial", "started_at", "finished_at", "parameters", "costs", "forgetting", "losses"):
        pairs.append((name, getattr(here, name), getattr(there, name)))
    pairs.append(("provenance", here.provenance, there.provenance))
    for name, mine, theirs in pairs:
        if mine != theirs:
            return f"{name} {_short(mine)} here, {_short(theirs)} there"
    return "texts or predictions differ"


def _scores(scores: Iterable[Any]) -> list[tuple[Any, ...]]:
    return sorted(dataclasses.astuple(score) for score in scores)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _check_tasks(store: Store, tasks: Iterable[TaskInfo]) -> None:
    here = {(info.name, info.version): info for info in store.tasks()}
    for task in tasks:
        mine = here.get((task.name, task.version), task)
        if (mine.kind, mine.metrics, mine.tests) != (task.kind, task.metrics, task.tests):
            raise UserError(
                f"the bundle's task '{task.name}', version {task.version}, has another kind, other metrics or other "
                "test sets than here: its scores cannot be compared. Nothing was merged."
            )


def _insert_suite(connection: sa.Connection, suite: BundledSuite, new: set[str]) -> int:
    """Add a suite and its places of new trials; the number of places whose cell holds another recipe."""
    head = {name: getattr(suite, name) for name in ("name", "title", "description", "rank_by")}
    rows.insert_missing(connection, schema.SUITES, [head])
    taken = _cells(connection, suite.name)
    member = schema.SUITE_MEMBERS.c
    last = connection.scalar(sa.select(sa.func.max(member.position)).where(member.suite == suite.name))
    position, outside, found = -1 if last is None else last, 0, []
    for grid, label, trial in suite.members:
        if trial.id not in new:
            continue
        cell = (grid, label, trial.backbone.name, trial.task, trial.train_size, str(trial.start))
        if taken.setdefault(cell, _without_seed(trial.canonical)) != _without_seed(trial.canonical):
            outside += 1
            continue
        position += 1
        place = {"suite": suite.name, "grid": grid, "label": label, "trial_id": trial.id, "position": position}
        found.append(place)
    rows.insert_missing(connection, schema.SUITE_MEMBERS, found)
    return outside


def _cells(connection: sa.Connection, suite: str) -> dict[tuple[Any, ...], str]:
    """What each cell of a stored suite holds, but for the seed."""
    member, trial = schema.SUITE_MEMBERS.c, schema.TRIALS.c
    columns = (member.grid, member.label, trial.backbone, trial.task, trial.train_size, trial.start, trial.canonical)
    query = sa.select(*columns).join(schema.TRIALS, trial.id == member.trial_id).where(member.suite == suite)
    return {tuple(row[:-1]): _without_seed(row[-1]) for row in connection.execute(query)}


def _without_seed(text: str) -> str:
    return json.dumps({name: value for name, value in json.loads(text).items() if name != "seed"}, sort_keys=True)
