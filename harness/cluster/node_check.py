"""Whether another machine can stand in for this one: the same sources and plugin files, and the folders it will need.

Knows no Ray: `machines` asks it on every node before training, `ray_links` wherever a worker begins.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.provenance import PROJECT, sources_sha256
from harness.settings import Settings


@dataclass(frozen=True)
class Expected:
    """What the driver's machine has. Its fields are of Python's own kinds: a node without the harness can read them."""

    python: tuple[int, int]
    sources: str
    """See `harness.provenance.sources_sha256`."""
    plugins: tuple[tuple[Path, str], ...]
    """Each plugin file and its hash."""
    data_root: Path | None
    models_root: Path | None
    cache_root: Path


def expected(settings: Settings) -> Expected:
    """What this machine has; the settings' plugin files must be there."""
    return Expected(
        python=sys.version_info[:2],
        sources=sources_sha256(),
        plugins=tuple((file, _sha256(file)) for file in settings.plugin_files),
        data_root=settings.data_root,
        models_root=settings.models_root,
        cache_root=settings.cache_root,
    )


def problem(here: Expected) -> str | None:
    """Why this machine cannot stand in for the one that `here` describes; None if it can."""
    if sources_sha256() != here.sources:
        return f"has another harness in {PROJECT}; bring it to the driver's version"
    for file, digest in here.plugins:
        if not file.is_file():
            return f"has no plugin file {file}; put it into a folder that all nodes share"
        if _sha256(file) != digest:
            return f"has another plugin file {file}; put it into a folder that all nodes share"
    for folder, option in ((here.data_root, "--data-root"), (here.models_root, "--models-root")):
        if folder is not None and not folder.is_dir():
            return f"has no folder {folder} ({option}); name one that all nodes share"
    return _cache_problem(here.cache_root)


def _cache_problem(folder: Path) -> str | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"cannot make the cache {folder} ({error.strerror}); name one that all nodes share with --cache-root"
    if not os.access(folder, os.W_OK):
        return f"cannot write the cache {folder}; name one that all nodes share with --cache-root"
    return None


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
