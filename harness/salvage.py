"""The good rows of a damaged SQLite database, copied into a new one: whole runs, or none of them.

The damaged file is copied first and never written. A row counts as good if it can be read, if all that it refers to is
good, and where something else tells: a trial's id is the hash of its content, predictions carry a checksum. SQLite
keeps none of its own, so that a changed number inside an undamaged page cannot be told.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.database import Database
from harness.errors import UserError
from harness.rows import unpack
from harness.schema import METADATA, SCHEMA_VERSION, VERSION_TABLE
from harness.whole_files import check_new

OF_RUNS = ("scores", "losses", "predictions")
"""Tables that belong to a run, whole or not at all."""
PASSING = ("leases",)
"""Tables that say only what is going on at the moment."""
MAGIC = b"SQLite format 3\x00"
MOST_LENGTH = 2**40
"""Bytes; what a header tells beyond this is damage too."""
MOST_ROWS = 2**24
"""Row numbers are looked for below this where the largest one cannot be read."""

Row = tuple[Any, ...]


@dataclass
class Salvaged:
    """What was found."""

    kept: Counter[str] = field(default_factory=Counter)
    """Rows in the new database, by table."""
    lost: Counter[str] = field(default_factory=Counter)
    """Rows that were seen and are not whole."""
    unreadable: set[str] = field(default_factory=set)
    """Tables of which some rows could not even be seen."""


def salvage(damaged: Path, new: Path) -> Salvaged:
    """Copy what is good in `damaged` into a new database at `new`, which appears when it is whole.

    Raises UserError if `new` is there already, or `damaged` is not there, not SQLite, or without readable tables.
    """
    if not damaged.is_file():
        raise UserError(f"there is no file '{damaged}'.")
    check_new(new)
    with damaged.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise UserError(f"'{damaged}' does not begin like an SQLite database: nothing in it can be read.")
    with tempfile.TemporaryDirectory(dir=new.absolute().parent, prefix=".salvage-") as folder:
        source, target = Path(folder) / "damaged.db", Path(folder) / "new.db"
        shutil.copyfile(damaged, source)
        _lengthen(source)
        log = damaged.with_name(damaged.name + "-wal")
        if log.is_file():  # runs that were stored and not yet moved into the file
            shutil.copyfile(log, source.with_name(source.name + "-wal"))
        found = _Salvage(source, target, str(damaged)).run()
        os.replace(target, new)
    return found


def _lengthen(path: Path) -> None:
    """Give a file that was cut short the length that its header tells: SQLite opens it then, and stumbles over single
    pages only."""
    with path.open("r+b") as file:
        header = file.read(100)
        if len(header) == 100 and header[24:28] == header[92:96]:  # else the number is too old to count
            size, pages = (int.from_bytes(header[first:last], "big") for first, last in ((16, 18), (28, 32)))
            length = pages * (65536 if size == 1 else size)
            if path.stat().st_size < length < MOST_LENGTH:
                file.truncate(length)


class _Salvage:
    def __init__(self, source: Path, target: Path, name: str) -> None:
        self._name = name
        self._old = sqlite3.connect(source)
        self._target = target
        self._found = Salvaged()

    def run(self) -> Salvaged:
        with contextlib.closing(self._old):
            version = self._version()
            Database(str(self._target)).migrate(version)
            self._new = sqlite3.connect(self._target, isolation_level=None)
            with contextlib.closing(self._new):
                self._new.execute("PRAGMA foreign_keys = ON")
                self._new.execute("BEGIN IMMEDIATE")
                for table in METADATA.sorted_tables:
                    if table.name not in (*OF_RUNS, *PASSING) and self._columns(table.name):
                        self._copy(table.name)
                self._new.execute("COMMIT")
        Database(str(self._target)).migrate()
        return self._found

    def _version(self) -> int:
        try:
            tables = {name for (name,) in self._old.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        except sqlite3.DatabaseError as error:
            raise UserError(f"'{self._name}': the list of its tables cannot be read ({error}).") from None
        if not {"runs", "trials"} <= tables:
            raise UserError(f"'{self._name}' has no table of runs: it is the database of another program, or empty.")
        try:
            version = int(self._old.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()[0])
        except (sqlite3.DatabaseError, TypeError, ValueError):
            version = SCHEMA_VERSION
        if not 1 <= version <= SCHEMA_VERSION:
            raise UserError(f"'{self._name}' has schema {version}, this harness knows {SCHEMA_VERSION}; update it.")
        return version

    def _columns(self, table: str) -> list[str]:
        return [row[1] for row in self._new.execute(f"PRAGMA table_info({table})")]

    def _copy(self, table: str) -> None:
        columns = self._columns(table)
        for row in self._rows(table, columns):
            kept = self._kept(table, dict(zip(columns, row, strict=True)))
            (self._found.kept if kept else self._found.lost)[table] += 1

    def _kept(self, table: str, row: dict[str, Any]) -> bool:
        """Insert a row, and with a run everything of it; False if that is not whole."""
        if table == "trials" and hashlib.sha256(str(row["canonical"]).encode()).hexdigest()[:16] != row["id"]:
            return False
        self._new.execute("SAVEPOINT one")
        try:
            self._insert(table, [tuple(row.values())])
            if table == "runs":
                for part in OF_RUNS:
                    self._insert(part, self._of_run(part, row["id"]))
        except (sqlite3.Error, ValueError, TypeError, zlib.error):
            self._new.execute("ROLLBACK TO one")
            return False
        finally:
            self._new.execute("RELEASE one")
        return True

    def _insert(self, table: str, rows: list[Row]) -> None:
        if rows:
            self._new.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)

    def _of_run(self, table: str, run_id: str) -> list[Row]:
        columns = self._columns(table)
        query = f"SELECT {', '.join(columns)} FROM {table} WHERE run_id = ?"
        rows: list[Row] = self._old.execute(query, (run_id,)).fetchall()
        if table == "predictions":
            for row in rows:
                unpack(row[columns.index("predicted")])
        return rows

    def _rows(self, table: str, columns: list[str]) -> Iterator[Row]:
        """Every row that can be read, once."""
        chosen = ", ".join(columns)
        keys = [row[1] for row in self._new.execute(f"PRAGMA table_info({table})") if row[5]]
        seen: dict[Row, Row] = {}

        def read(query: str, *values: int) -> bool:
            try:
                for row in self._old.execute(query, values):
                    seen[tuple(row[columns.index(key)] for key in keys)] = row
            except sqlite3.Error:
                return False
            return True

        whole = read(f"SELECT {chosen} FROM {table} NOT INDEXED")
        if not whole:
            self._found.unreadable.add(table)
            read(f"SELECT {chosen} FROM {table} ORDER BY {', '.join(f'{key} DESC' for key in keys)}")
            with contextlib.suppress(sqlite3.Error):  # a table without row numbers
                self._between(read, f"SELECT {chosen} FROM {table} NOT INDEXED WHERE rowid BETWEEN ? AND ?", table)
        yield from seen.values()

    def _between(self, read: Any, query: str, table: str) -> None:
        """Read a table around its bad pages: halves of the row numbers, until they are read or a single one is not."""
        self._old.execute(f"SELECT rowid FROM {table} LIMIT 0")
        try:
            (last,) = self._old.execute(f"SELECT max(rowid) FROM {table}").fetchone()
        except sqlite3.Error:
            last = MOST_ROWS
        spans = [(0, last or 0)]
        failures = 0
        while spans and failures < 100_000:
            low, high = spans.pop()
            if not read(query, low, high):
                failures += 1
                if low < high:
                    middle = (low + high) // 2
                    spans += [(middle + 1, high), (low, middle)]
