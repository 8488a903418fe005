"""Connections to the leaderboard database: opening, locking, schema version, and errors a user can act on.

SQLite runs in WAL mode with foreign keys on. Every connection is closed after its transaction, so that the
file is whole between transactions and no `-wal` or `-shm` stays beside it; only a driver that stores many runs keeps
one open meanwhile. Reading never changes the file.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import NullPool

from harness.errors import Unavailable, UserError
from harness.schema import SCHEMA_VERSION, VERSION_TABLE

BUSY_SECONDS = 60.0
"""How long a writer waits for another one; a transaction takes milliseconds."""
CONNECT_SECONDS = 10
"""How long a server may take to answer."""
MIGRATION_LOCK = 7_310_466
"""Number of PostgreSQL's advisory lock under which one process at a time migrates."""


def to_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; an object that JSON has no word for (a path) becomes its text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)


class Database:
    """One database by path or URL. Connections are made per transaction, and are safe to make in threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        """As it was given; it may hold a password."""
        self._url, self.path = _parse(url)
        self.where = self._url.render_as_string(hide_password=True) if self.path is None else f"'{self.path}'"
        """The database's name in messages."""
        self._engines: dict[str, sa.Engine] = {}

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A read transaction: one consistent view, and no change to any file.

        What cannot be read as what it should be (JSON, a time, packed bytes) is a UserError too.
        """
        try:
            with self.explained(), self._engine("reader").connect() as connection:
                yield connection
        except (ValueError, zlib.error) as error:
            raise UserError(f"{_damaged(self.where)} A value in it: {_first_line(str(error))}.") from error

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A write transaction: all or nothing. Writers of all processes wait for each other."""
        with self.explained(), self._engine("writer").begin() as connection:
            yield connection

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Inside, a file's log is not written back after each transaction, which takes longer than the transaction."""
        if self.path is None:  # a server's connections are kept anyway
            yield
            return
        with self.explained():
            connection = _connect_reader(self.path)
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # only now is the file opened
                yield
            finally:
                connection.close()

    def version(self) -> int | None:
        """Number of the schema, None for a database without tables; UserError if it is another program's."""
        with self.reading() as connection:
            tables = sa.inspect(connection).get_table_names()
            if not tables:
                return None
            if VERSION_TABLE not in tables:
                raise UserError(
                    f"{self.where} is the database of another program (it has a table '{sorted(tables)[0]}'); "
                    f"name another file with --db."
                )
            number = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
        return None if number is None else int(number)

    def migrate(self, version: int = SCHEMA_VERSION) -> None:
        """Bring the schema to a version, in one transaction; creates the tables of a new database."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", "harness:migrations")
        with self.explained(), self._engine("migrator").begin() as connection:
            config.attributes["connection"] = connection
            if self.path is None:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
            command.upgrade(config, f"{version:04d}")
            if self.path is not None and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
                raise RuntimeError(f"migrating {self.where} would break its references: {broken}")

    def close(self) -> None:
        for engine in self._engines.values():
            engine.dispose()
        self._engines.clear()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns a database error that the user can put right into a UserError; lets others through."""
        try:
            yield
        except Exception as error:
            told = error if isinstance(error, DBAPIError) else error.__cause__  # pandas wraps what it was told
            if not isinstance(told, DBAPIError):
                raise
            explanation = self._explain(str(told.orig)) or self._explain_server(told) or self._explain_file(told)
            if explanation is None:
                raise
            raise explanation from error

    def _explain(self, message: str) -> UserError | None:
        lasting = {
            "file is not a database": f"{self.where} is not an SQLite database; name another file with --db.",
            "malformed": _damaged(self.where),
            "readonly": f"{self.where} cannot be written: make file and folder writable, or name another with --db.",
            "unable to open": f"{self.where} cannot be opened: make file and folder writable, or name another "
            "with --db.",
            "read-only transaction": f"{self.where} cannot be written: this was opened for reading, or the server only "
            "reads.",
            "permission denied": f"{self.where} refused: {_first_line(message)}; ask its owner for the right.",
        }
        passing = {
            "disk is full": f"no space left on the disk of {self.where}; nothing stored before was lost. "
            "Make room and run the same command again.",
            "locked": f"{self.where} was busy with another process for {BUSY_SECONDS:g} s; run the same command again.",
            "disk I/O error": f"reading or writing {self.where} failed (disk I/O error); nothing stored before "
            "was lost. Check the disk and run the same command again.",
        }
        for kind, causes in ((UserError, lasting), (Unavailable, passing)):
            for cause, text in causes.items():
                if cause in message:
                    return kind(text)
        return None

    def _explain_file(self, error: DBAPIError) -> UserError | None:
        """An SQLite file that is not what it was: a table or a column is missing, or a cell is no text."""
        if self.path is None or type(error) not in (OperationalError, DatabaseError):
            return None
        return UserError(f"{_damaged(self.where)} SQLite says: {_first_line(str(error.orig))}.")

    def _explain_server(self, error: DBAPIError) -> UserError | None:
        """A server that cannot be reached, or was lost on the way."""
        if self.path is not None or not (isinstance(error, OperationalError) or error.connection_invalidated):
            return None
        return Unavailable(
            f"no connection to {self.where}: {_first_line(str(error.orig))}. Nothing stored before was lost; check "
            "that the server runs and that name, password and database are right."
        )

    def _engine(self, role: str) -> sa.Engine:
        if role not in self._engines:
            self._engines[role] = self._make_engine(role)
        return self._engines[role]

    def _make_engine(self, role: str) -> sa.Engine:
        if self.path is None:
            return self._make_server_engine(role)
        connect = {"writer": _connect_writer, "reader": _connect_reader, "migrator": _connect_migrator}[role]
        engine = sa.create_engine(
            "sqlite://", creator=partial(connect, self.path), poolclass=NullPool, json_serializer=to_json
        )
        # Python's sqlite3 would begin late and deferred. A writer takes the lock at once, so that it cannot
        # read first and then lose the race for the lock.
        statement = "BEGIN" if role == "reader" else "BEGIN IMMEDIATE"
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(statement))
        return engine

    def _make_server_engine(self, role: str) -> sa.Engine:
        """An engine for PostgreSQL; a connection that was lost while a trial trained is made anew."""
        options: dict[str, Any] = {"json_serializer": to_json, "pool_pre_ping": True}
        if self._url.get_driver_name() == "psycopg":
            options["connect_args"] = {"connect_timeout": CONNECT_SECONDS}
        try:
            engine = sa.create_engine(self._url, **options)
        except ModuleNotFoundError as error:
            raise UserError(f"{self.where} needs a driver: pip install 'peft-harness[postgres]' ({error}).") from None
        if role != "reader":
            return engine
        # one consistent view over all statements of a transaction, as SQLite gives
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _first_line(message: str) -> str:
    return message.strip().splitlines()[0].rstrip(".") if message.strip() else "no reason given"


def _damaged(where: str) -> str:
    return (
        f"{where} is damaged or cut short; restore it from a copy (git checkout, backup), or save its good rows: "
        "`python -m harness db salvage DAMAGED NEW`."
    )


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _parse(url: str) -> tuple[sa.URL, Path | None]:
    """The URL, and the file's path if it is SQLite; a plain path is SQLite."""
    if "://" not in url:
        return sa.URL.create("sqlite", database=url), Path(url).expanduser()
    try:
        parsed = sa.make_url(url)
        name = parsed.get_dialect().name
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise UserError(f"'{url}' is not a database URL: {error}. Give a file, or postgresql+psycopg://...") from None
    if name == "postgresql":
        return parsed, None
    if name != "sqlite":
        raise UserError(f"'{name}' databases are not supported: give a file, or postgresql+psycopg://...")
    if not parsed.database or parsed.database == ":memory:":
        raise UserError(f"'{url}' names no file; give a path such as leaderboard.db.")
    return parsed, Path(parsed.database)


def _connect(path: Path, options: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{options}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _connect_writer(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "mode=rwc")
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return connection
        except sqlite3.OperationalError as error:
            # SQLite does not wait for its busy timeout when two processes turn a new file to WAL at once.
            if "locked" not in str(error) or time.monotonic() > deadline:
                connection.close()
                raise
            time.sleep(0.02)


def _connect_migrator(path: Path) -> sqlite3.Connection:
    """A writer that may put a table in another one's place, which SQLite takes for a breach of every reference."""
    connection = _connect_writer(path)
    connection.execute("PRAGMA foreign_keys = OFF")
    return connection


def _connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot change data.

    Reading a WAL file needs its two side files. With write access they are made, and removed on closing
    (`mode=ro` would leave them behind). Without it, a file that nobody writes is read as immutable.
    """
    if os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK):
        connection = _connect(path, "mode=rw")
    elif _log_of(path).exists():
        connection = _connect(path, "mode=ro")
    else:
        connection = _connect(path, "mode=ro&immutable=1")
    connection.execute("PRAGMA query_only = ON")
    return connection
