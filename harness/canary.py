"""What the fixed trial of the suite `canary` takes: the unit in which times of different stacks are compared."""

from __future__ import annotations

import statistics
from collections import defaultdict

import sqlalchemy as sa

from harness.schema import RUNS, SUITE_MEMBERS
from harness.store import Store

CANARY = "canary"
"""Name of the suite of the fixed trial."""


def canary_seconds(store: Store) -> dict[str, float]:
    """Median training seconds of the canary's good runs by stack."""
    member = SUITE_MEMBERS.c
    query = (
        sa.select(RUNS.c.stack_id, RUNS.c.train_seconds)
        .join(SUITE_MEMBERS, member.trial_id == RUNS.c.trial_id)
        .where(member.suite == CANARY, RUNS.c.status == "ok", RUNS.c.train_seconds > 0, RUNS.c.stack_id.is_not(None))
    )
    found: dict[str, list[float]] = defaultdict(list)
    with store.reading() as connection:
        for row in connection.execute(query):
            found[row.stack_id].append(row.train_seconds)
    return {stack: statistics.median(seconds) for stack, seconds in found.items()}
