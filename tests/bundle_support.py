"""Bundles taken apart and put together again, as a forger would."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.bundle.format import MANIFEST, canonical, run_sha256, sha256

Members = dict[str, bytes]


def unzip(file: Path) -> Members:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_to(path: Path, members: Members, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def sealed(members: Members) -> Members:
    """The members with a manifest that tells their hashes: what a careful forger would make."""
    manifest = json.loads(members[MANIFEST])
    manifest["sha256"] = {name: sha256(content) for name, content in members.items() if name != MANIFEST}
    return {**members, MANIFEST: canonical(manifest)}


def with_run(members: Members, change: Callable[[dict[str, Any]], None], forge: bool = True) -> Members:
    """The first run changed, its hash made anew if `forge`."""
    first, *rest = members["runs.jsonl"].splitlines()
    run = json.loads(first)
    change(run)
    if forge:
        run["sha256"] = run_sha256(run)
    return sealed({**members, "runs.jsonl": b"\n".join([canonical(run), *rest]) + b"\n"})
