"""Alembic's entry: runs on the connection, and inside the transaction, that `Database.migrate` opened."""

from alembic import context

from harness.schema import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE
)
context.run_migrations()
