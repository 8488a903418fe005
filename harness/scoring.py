"""Results as data frames: what `harness.result_rows` reads, under the types of pandas."""

from __future__ import annotations

from typing import Any

import pandas as pd
import sqlalchemy as sa

from harness.protocols import PROTOCOLS
from harness.result_rows import TIMES, Table, chosen_epochs, read, result_rows, runs_of
from harness.schema import SCORES
from harness.store import Store

Frame = pd.DataFrame

DTYPES = {sa.Integer: "Int64", sa.Double: "float64", sa.Boolean: "boolean"}
"""pandas types that can say "unknown", by column type; without them a column of NULLs would be objects."""


def results(store: Store, suite: str | None = None) -> Frame:
    """The rows of `harness.result_rows.result_rows`, whose columns and errors these are; unknown values are NA."""
    frame = _frame(result_rows(store, suite))
    for name in TIMES:
        frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    return frame


def scores(store: Store, suite: str | None = None) -> Frame:
    """Long form, every metric: run_id, protocol, epoch, split, metric, value, for the ok runs that `results` shows.

    `epoch` is the one that the protocol chose by the task's first metric; the other metrics are read at that
    epoch too. UserError for an unknown suite.
    """
    chosen = [
        (run_id, protocol, point.epoch)
        for run_id, points in chosen_epochs(store, suite).items()
        for protocol, point in points.items()
    ]
    stored = sa.select(*SCORES.c)
    with store.reading() as connection:
        query = stored if suite is None else stored.where(SCORES.c.run_id.in_(runs_of(suite)))
        scored = _frame(read(connection, query))
    long = Frame(chosen, columns=["run_id", "protocol", "epoch"]).merge(scored, on=["run_id", "epoch"])
    order = long["protocol"].map({protocol: index for index, protocol in enumerate(PROTOCOLS)})
    return (
        long.assign(order=order)
        .sort_values(["run_id", "order", "split", "metric"], ignore_index=True)
        .drop(columns="order")
    )


def _frame(table: Table) -> Frame:
    """Faster than `pandas.read_sql`, which goes through records."""
    values: Any = zip(*table.rows, strict=True) if table.rows else [()] * len(table.types)
    columns = dict(zip(table.types, values, strict=True))
    return Frame({name: pd.array(list(columns[name]), dtype=_dtype(kind)) for name, kind in table.types.items()})


def _dtype(kind: sa.types.TypeEngine[Any]) -> Any:
    return next((dtype for sql, dtype in DTYPES.items() if isinstance(kind, sql)), object)
