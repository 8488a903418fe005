"""Times of one row on several stacks of hardware and software, in units of what a fixed trial takes there."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass

import sqlalchemy as sa

from harness.schema import Run, SuiteMember, Trial
from harness.store import Store

CANARY = "canary"
"""Name of the suite of the fixed trial."""


@dataclass(frozen=True)
class StackTime:
    """Training seconds of a row on one task and one stack."""

    suite: str
    grid: str
    task: str
    train_size: int
    label: str
    stack: str
    runs: int
    seconds: float
    """Mean over runs."""
    ratio: float | None
    """Over the canary's seconds on the same stack; None if it has not been run there."""


def canary_seconds(store: Store) -> dict[str, float]:
    """Median training seconds of the canary's good runs by stack."""
    member = SuiteMember
    query = (
        sa.select(Run.stack_id, Run.train_seconds)
        .join(member, member.trial_id == Run.trial_id)
        .where(member.suite == CANARY, Run.status == "ok", Run.train_seconds > 0, Run.stack_id.is_not(None))
    )
    found: dict[str, list[float]] = defaultdict(list)
    with store.reading() as connection:
        for row in connection.execute(query):
            found[row.stack_id].append(row.train_seconds)
    return {stack: statistics.median(seconds) for stack, seconds in found.items()}


def stack_times(store: Store, suite: str | None = None) -> list[StackTime]:
    """Training seconds of every row on each stack that it was timed on, with the ratio to the canary there."""
    unit = canary_seconds(store)
    place = (
        SuiteMember.suite,
        SuiteMember.grid,
        Trial.task,
        Trial.train_size,
        SuiteMember.label,
        Run.stack_id.label("stack"),
    )
    query = (
        sa.select(*place, sa.func.count().label("runs"), sa.func.avg(Run.train_seconds).label("seconds"))
        .join(Trial, Trial.id == SuiteMember.trial_id)
        .join(Run, Run.trial_id == Trial.id)
        .where(Run.status == "ok", Run.train_seconds > 0, Run.stack_id.is_not(None))
        .group_by(*place)
        .order_by(*place)
    )
    if suite is not None:
        query = query.where(SuiteMember.suite == suite)
    with store.reading() as connection:
        found = connection.execute(query).all()
    ratios = [row.seconds / unit[row.stack] if row.stack in unit else None for row in found]
    return [StackTime(**row._asdict(), ratio=ratio) for row, ratio in zip(found, ratios, strict=True)]
