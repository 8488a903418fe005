"""Times of one row on several stacks of hardware and software, in units of what a fixed trial takes there."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from harness.canary import canary_seconds
from harness.schema import RUNS, STACKS, SUITE_MEMBERS, TRIALS
from harness.store import Store


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
    threads: int | None
    """Of torch on the stack, which is another one with another number."""
    ratio: float | None
    """Over the canary's seconds on the same stack; None if it has not been run there."""


def stack_times(store: Store, suite: str | None = None) -> list[StackTime]:
    """Training seconds of every row on each stack that it was timed on, with the ratio to the canary there."""
    unit = canary_seconds(store)
    place = (
        SUITE_MEMBERS.c.suite,
        SUITE_MEMBERS.c.grid,
        TRIALS.c.task,
        TRIALS.c.train_size,
        SUITE_MEMBERS.c.label,
        RUNS.c.stack_id.label("stack"),
    )
    query = (
        sa.select(*place, sa.func.count().label("runs"), sa.func.avg(RUNS.c.train_seconds).label("seconds"))
        .join(TRIALS, TRIALS.c.id == SUITE_MEMBERS.c.trial_id)
        .join(RUNS, RUNS.c.trial_id == TRIALS.c.id)
        .where(RUNS.c.status == "ok", RUNS.c.train_seconds > 0, RUNS.c.stack_id.is_not(None))
        .group_by(*place)
        .order_by(*place)
    )
    if suite is not None:
        query = query.where(SUITE_MEMBERS.c.suite == suite)
    with store.reading() as connection:
        found = connection.execute(query).all()
        stacks = connection.execute(sa.select(STACKS.c.id, STACKS.c.details)).all()
    threads = {stack: details.get("threads") for stack, details in stacks}
    ratios = [row.seconds / unit[row.stack] if row.stack in unit else None for row in found]
    return [
        StackTime(**row._asdict(), threads=threads[row.stack], ratio=ratio)
        for row, ratio in zip(found, ratios, strict=True)
    ]
