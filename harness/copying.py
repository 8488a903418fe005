"""All rows of one database into another, empty one: from a file to a server, or back."""

from __future__ import annotations

import sqlalchemy as sa

from harness.errors import UserError
from harness.schema import LEASES, METADATA
from harness.store import Store

CHUNK = 500
"""Rows read and written at a time."""


def copy_database(source: Store, target: Store) -> dict[str, int]:
    """Copy every table but the leases, in one transaction. Returns the rows of each; UserError if `target` has any."""
    tables = [table for table in METADATA.sorted_tables if table.name != LEASES.name]
    copied: dict[str, int] = {}
    with source.reading() as reading, target.database.writing() as writing:
        for table in tables:
            if writing.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
                raise UserError(
                    f"{target.database.where} holds {table.name} already; copy into an empty database, or take runs "
                    "along with `python -m harness bundle` and `merge`."
                )
        for table in tables:
            found = reading.execution_options(stream_results=True).execute(
                sa.select(table).order_by(*table.primary_key)
            )
            copied[table.name] = 0
            for part in found.mappings().partitions(CHUNK):
                writing.execute(sa.insert(table), [dict(row) for row in part])
                copied[table.name] += len(part)
    return copied
