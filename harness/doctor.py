"""What would fail on this machine, found before it does."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from harness import file_systems
from harness.database import Database
from harness.errors import UserError
from harness.plugins import discover
from harness.preflight import DISK_BYTES, check_disk
from harness.schema import LEASES, RUNS, SCHEMA_VERSION
from harness.settings import Settings

State = Literal["ok", "warning", "FAILS"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    detail: str


def examine(settings: Settings, db: str) -> list[Finding]:
    """Everything that can be looked at without training, in the order of the report. Leaves nothing behind."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "python": _python,
        "packages": _packages,
        "device": lambda: _device(settings),
        "cache": lambda: _cache(settings.cache_root),
        "data": lambda: _mirror("data", "HARNESS_DATA", settings.data_root),
        "models": lambda: _mirror("models", "HARNESS_MODELS", settings.models_root),
        "plugins": lambda: _plugins(settings.plugin_files),
        "git": _git,
        "database": lambda: _database(db),
    }
    found: list[Finding] = []
    for name, check in checks.items():
        try:
            found += check()
        except UserError as error:
            found.append(Finding(name, "FAILS", str(error)))
    return found


def _python() -> Iterator[Finding]:
    good = sys.version_info >= (3, 11)
    yield Finding("python", "ok" if good else "FAILS", f"{platform.python_version()} on {platform.platform()}")


def _packages() -> Iterator[Finding]:
    """The versions that the project asks for, against those that are installed."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in metadata.requires("peft-harness") or []]
    except metadata.PackageNotFoundError:
        yield Finding("packages", "warning", "the project is not installed (pip install -e .): versions unknown")
        return
    wrong = []
    wanted = [item for item in wanted if item.marker is None or item.marker.evaluate({"extra": ""})]
    for item in wanted:
        try:
            version = metadata.version(item.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{item.name} is missing")
            continue
        if not item.specifier.contains(version, prereleases=True):
            wrong.append(f"{item.name} is {version}, not {item.specifier}")
    yield Finding("packages", "FAILS" if wrong else "ok", "; ".join(wrong) or f"{len(wanted)} as asked for")


def _device(settings: Settings) -> Iterator[Finding]:
    import torch

    from harness.devices import pick_device

    device = pick_device(settings.device)
    if device.type != "cuda":
        yield Finding("device", "ok", f"{device}, {os.cpu_count()} cores, torch {torch.__version__}")
        if shutil.which("nvidia-smi") and not torch.cuda.is_available():
            yield Finding("gpu", "warning", "there is one, but this torch cannot use it: install its CUDA build")
        return
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    text = f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, CUDA {torch.version.cuda}"
    yield Finding("device", "ok" if free > total / 2 else "warning", text)


def _cache(folder: Path) -> Iterator[Finding]:
    check_disk(folder)
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()  # permissions alone say nothing to root, or on odd file systems
    except OSError:
        raise UserError(
            f"the cache {folder} cannot be written; name another place with --cache-root or HARNESS_CACHE."
        ) from None
    left = list(folder.rglob("*.tmp")) if folder.is_dir() else []
    free = f"{shutil.disk_usage(existing).free / 2**30:.1f} GiB free, wanted {DISK_BYTES / 2**30:.1f}"
    yield Finding("cache", "ok", f"{folder}: {free}")
    if left:
        yield Finding("cache", "warning", f"{len(left)} unfinished files of processes that died, such as {left[0]}")


def _mirror(name: str, variable: str, folder: Path | None) -> Iterator[Finding]:
    offline = os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "TRUE", "yes")
    if folder is None:
        say = "only what ships, and what the hub's cache holds (HF_HUB_OFFLINE is set)" if offline else "from the hub"
        yield Finding(name, "ok", f"{variable} is not set: {say}")
    elif not folder.is_dir():
        yield Finding(name, "FAILS", f"{folder} is not a folder; correct {variable} or the option")
    else:
        inside = sorted(path.name for path in folder.iterdir())
        shown = ", ".join(inside[:6]) + (", ..." if len(inside) > 6 else "")
        yield Finding(name, "ok" if inside else "warning", f"{folder}: {shown or 'empty'}")


def _plugins(files: Sequence[Path]) -> Iterator[Finding]:
    found = discover(files)
    yield Finding("plugins", "ok", f"{len(found.methods)} methods, {len(found.tasks)} tasks")


def _git() -> Iterator[Finding]:
    found = shutil.which("git")
    yield Finding("git", "ok" if found else "warning", found or "not here: runs record no commit")


def _database(url: str) -> Iterator[Finding]:
    from harness.store import open_store

    database = Database(url)
    path = database.path
    if path is not None and not path.exists():
        if not path.absolute().parent.is_dir():
            raise UserError(f"the folder of {database.where} does not exist.")
        yield Finding("database", "ok", f"{database.where} is not there yet")
        return
    with open_store(url, create=False) as store:
        with store.reading() as connection:
            runs = connection.scalar(sa.select(sa.func.count()).select_from(RUNS))
            holders = connection.execute(sa.select(LEASES.c.owner, sa.func.count()).group_by(LEASES.c.owner)).all()
            damage = _damage(connection) if path is not None else []
        yield Finding("database", "ok", f"{database.where}: schema {SCHEMA_VERSION}, {runs} runs")
        if damage:
            yield Finding("integrity", "FAILS", f"{damage[0]} ({len(damage)} in all); restore it from a copy")
        elif path is not None:
            yield Finding("integrity", "ok", "integrity_check and foreign_key_check find nothing")
        store.check_writable()
    if path is not None and (text := file_systems.warning(path)):
        yield Finding("database", "warning", text)
    for owner, count in holders:
        yield Finding("drivers", "ok", f"{count} trials are under way in driver {owner}")


def _damage(connection: sa.Connection) -> list[str]:
    found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check") if row[0] != "ok"]
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    return found + [f"a row of {row[0]} refers to one of {row[2]} that is not there" for row in broken]
