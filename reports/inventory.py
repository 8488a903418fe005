"""What a database holds, in one light look: enough to tell which pages of the last build still say what is true.

Runs are appended and never edited, so a suite's pages depend on its description, on its members, and on which runs
these have; a run's page on where its trial stands, and on the trial's other runs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from harness import __version__, schema
from harness.canary import canary_seconds
from harness.rows import plain_rows

if TYPE_CHECKING:
    from harness.store import Store

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("reports/**/*", "harness/*.py", "harness/stats/*.py", "harness/claims/*", "harness/suites/*", "methods/*.py")
"""What decides how a page looks beside the database: a change of any of these builds all pages anew."""


class Stored(NamedTuple):
    """A run, where its trial stands as (suite, grid, label), and all runs of the trial, the oldest first."""

    id: str
    places: tuple[tuple[str, str, str], ...]
    runs: tuple[tuple[str, str], ...]
    """(id, status)."""


@dataclass(frozen=True)
class Inventory:
    """All suites and runs, each with a digest of what its pages depend on."""

    suites: dict[str, str]
    """Digest by suite name, in order."""
    runs: dict[str, str]
    """Digest by run id."""
    stored: dict[str, Stored]
    """By run id."""


def digest(*parts: object) -> str:
    """16 hexadecimal digits of the parts' texts (`repr`)."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def code_digest() -> str:
    """Of version, code, templates and style: what a page is made with."""
    found = hashlib.sha256(__version__.encode())
    for path in sorted({path for pattern in SOURCES for path in ROOT.glob(pattern)}):
        if path.is_file() and path.suffix != ".pyc":
            found.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def take_inventory(store: Store) -> Inventory:
    """Read the inventory of a database: four queries, none of which touches scores or predictions."""
    member, run = schema.SUITE_MEMBERS.c, schema.RUNS.c
    with store.reading() as connection:
        suites = sa.select(*schema.SUITES.c).order_by(schema.SUITES.c.name)
        heads = [tuple(map(str, row)) for row in connection.execute(suites)]
        described = [
            tuple(map(str, row))
            for table in (schema.METHODS, schema.TASKS, schema.STACKS)
            for row in connection.execute(sa.select(*table.c).order_by(*table.primary_key))
        ]
        columns = (member.suite, member.grid, member.label, member.trial_id)
        ordered = sa.select(*columns).order_by(
            member.suite, member.position, member.trial_id, member.grid, member.label
        )
        members = plain_rows(connection, ordered)
        query = sa.select(run.trial_id, run.id, run.status).order_by(run.trial_id, run.started_at, run.id)
        runs = plain_rows(connection, query)
    of_trial: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for trial, run_id, status in runs:
        of_trial[trial].append((run_id, status))
    places: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    of_suite: dict[str, list[object]] = defaultdict(list)
    for suite, grid, label, trial in members:
        places[trial].append((suite, grid, label))
        of_suite[suite].append((grid, label, trial, of_trial.get(trial)))
    titles = digest([head[:2] for head in heads])
    common = digest(described, sorted(canary_seconds(store).items()))
    stored: dict[str, Stored] = {}
    for trial, found in of_trial.items():
        stands, siblings = tuple(sorted(places.get(trial, ()))), tuple(found)
        for run_id, _ in siblings:
            stored[run_id] = Stored(run_id, stands, siblings)
    return Inventory(
        {head[0]: digest(common, head, of_suite[head[0]]) for head in heads},
        {run_id: digest(common, titles, *of_run) for run_id, of_run in stored.items()},
        stored,
    )
