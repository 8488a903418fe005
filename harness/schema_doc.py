"""Renders `docs/schema.md` from the tables: `python -m harness.schema_doc > docs/schema.md`."""

from __future__ import annotations

import sys

import sqlalchemy as sa

from harness.schema import METADATA, SCHEMA_VERSION, VERSION_TABLE

EXAMPLES = {
    "How many runs ended how": "SELECT status, count(*) AS runs FROM runs GROUP BY status",
    "Test scores after every epoch": (
        "SELECT suite, label, task, seed, split, metric, epoch, value\n"
        "FROM suite_members\n"
        "JOIN trials ON trials.id = trial_id\n"
        "JOIN runs USING (trial_id)\n"
        "JOIN scores ON scores.run_id = runs.id\n"
        "WHERE status = 'ok' AND split <> 'select'"
    ),
    "Training seconds by method, within each stack": (
        "SELECT stack_id, method, avg(train_seconds) AS seconds, count(*) AS runs\n"
        "FROM runs JOIN trials ON trials.id = trial_id\n"
        "WHERE status = 'ok'\n"
        "GROUP BY stack_id, method"
    ),
    "What went wrong": "SELECT trial_id, status, reason FROM runs WHERE status <> 'ok' ORDER BY started_at",
}
"""Queries for the reader to start from; tests run them."""

INTRODUCTION = f"""# The database

<!-- Made by `python -m harness.schema_doc > docs/schema.md`; change harness/schema.py instead. -->

Schema version {SCHEMA_VERSION} (kept in the table `{VERSION_TABLE}`). An SQLite file in WAL mode, or PostgreSQL.
One run is one transaction. Runs are appended, never edited. Unknown is NULL; no NaN or infinity is stored.
Derived numbers (the score of a run, the epoch that counts) are not stored: `harness.protocols` defines them.

```python
import pandas, sqlalchemy
frame = pandas.read_sql("SELECT * FROM runs", sqlalchemy.create_engine("sqlite:///leaderboard.db"))
```
"""


def render() -> str:
    """The whole page as Markdown."""
    queries = ["## Queries to start from\n", *(f"{title}:\n\n```sql\n{sql};\n```\n" for title, sql in EXAMPLES.items())]
    tables = [_table(table) for table in METADATA.sorted_tables]
    return "\n".join([INTRODUCTION, *queries, "## Tables\n", *tables])


def _table(table: sa.Table) -> str:
    head = f"### {table.name}\n\n{table.comment}\n\n| column | type | key | meaning |\n| --- | --- | --- | --- |\n"
    return head + "".join(f"{_row(column)}\n" for column in table.columns)


def _row(column: sa.Column) -> str:
    kind = f"{column.type} or NULL" if column.nullable else f"{column.type}"
    keys = ["primary"] if column.primary_key else []
    keys += sorted(f"→ {key.target_fullname}" for key in column.foreign_keys)
    return f"| `{column.name}` | {kind} | {', '.join(keys)} | {column.comment} |"


if __name__ == "__main__":
    sys.stdout.write(render())
