"""Backbones of which the package ships the dimensions: a short name, the hub's name, and the commit that is meant.

The commit is part of the package, so that a plan needs no network, and a trial has the same id wherever it is planned.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class Shipped:
    """One file of `harness/configs/`."""

    name: str
    """The short name, as the papers' tables have it: `roberta-large`."""
    hub_id: str
    """The name on the hub, under which trials are kept."""
    revision: str
    """The hub's commit."""
    dimensions: Mapping[str, Any]
    """What transformers' configuration class is made from, `model_type` among it."""


def config_names() -> list[str]:
    """The short names, sorted."""
    return sorted(_all())


def find_shipped(name: str) -> Shipped | None:
    """The backbone of that short name or hub id, or None."""
    found = _all()
    return found.get(name) or next((item for item in found.values() if item.hub_id == name), None)


def canonical(name: str) -> str:
    """The name that trials are kept under: the hub id for a shipped name, any other name as it is."""
    shipped = find_shipped(name)
    return shipped.hub_id if shipped else name


@functools.cache
def _all() -> Mapping[str, Shipped]:
    return {file.stem: _read(file) for file in CONFIGS.glob("*.json")}


def _read(file: Path) -> Shipped:
    values = json.loads(file.read_text())
    hub = values.pop("hub")
    return Shipped(file.stem, hub["id"], hub["revision"], values)
