"""A PostgreSQL server for the tests: HARNESS_TEST_POSTGRES names one, else Debian's packages start one on a free port.

    make test-services
    HARNESS_TEST_POSTGRES=postgresql+psycopg://user@host/database make test-services

An own server lives in a temporary folder, listens on 127.0.0.1 alone and is stopped at the end. It refuses to run as
root, and then runs as the user `postgres`. Where its programs are missing, root installs them with apt-get.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

VARIABLE = "HARNESS_TEST_POSTGRES"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker("services")


def _program(name: str) -> Path | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = [folder / name for folder in folders if (folder / name).exists()]
    named = shutil.which(name)
    return found[0] if found else Path(named) if named else None


def _programs() -> dict[str, Path]:
    if _program("initdb") is None and os.getuid() == 0 and shutil.which("apt-get"):
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "postgresql"]):
            subprocess.run(
                ["apt-get", "-q", *command], check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            )
    found = {name: _program(name) for name in ("initdb", "pg_ctl")}
    if None in found.values():
        pytest.fail(f"no PostgreSQL: apt-get install postgresql, or name a server with {VARIABLE}")
    return {name: path for name, path in found.items() if path is not None}


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """URL of a database in which the tests may make schemas."""
    if named := os.environ.get(VARIABLE):
        yield named
        return
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="harness-postgres-"))
    owner = pwd.getpwnam("postgres") if os.getuid() == 0 else None
    if owner is not None:
        os.chown(folder, owner.pw_uid, owner.pw_gid)

    def run(program: str, *arguments: str) -> None:
        user: dict[str, Any] = {}
        if owner is not None:
            user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        log = folder / f"{program}.out"  # a file: a server that keeps a pipe open would never let go of us
        with log.open("w") as out:
            done = subprocess.run([programs[program], *arguments], cwd=folder, stdout=out, stderr=out, **user)
        assert done.returncode == 0, log.read_text()

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, log = folder / "data", folder / "server.log"
    run("initdb", "-D", str(data), "-U", "harness", "-A", "trust", "-E", "UTF8", "--no-sync")
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
    run("pg_ctl", "-D", str(data), "-l", str(log), "-o", options, "-w", "start")
    try:
        yield f"postgresql+psycopg://harness@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def url(server: str) -> Iterator[str]:
    """URL of an empty schema of its own, dropped in the end."""
    name = f"t{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {name}"))
    place = sa.make_url(server).update_query_dict({"options": f"-csearch_path={name}"})
    yield place.render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP SCHEMA {name} CASCADE"))
    engine.dispose()
