"""`--set key=value`: changes to a suite from the command line, sorted into method parameters and recipe fields."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.api import Method
from harness.errors import UserError, unknown
from harness.fields import field_names
from harness.trial import Recipe

SUITE_KEYS = ("train_size",)
"""Keys that change the suite as a whole, before its rows: `harness.reshaping`."""


@dataclass(frozen=True)
class Override:
    """One `key=value`. The key: one of SUITE_KEYS, or a method parameter or recipe field, alone or after `method.`."""

    key: str
    value: Any

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


@dataclass
class Changes:
    """What the overrides change for one row of a suite."""

    parameters: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)


def parse_override(text: str) -> Override:
    """`key=value` with a TOML value (`5`, `1e-3`, `true`); what is no TOML value is taken as text (`q,v`)."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not key or not equals or not value:
        raise UserError(f"--set {text}: write key=value, as in --set r=16.")
    try:
        return Override(key, tomllib.loads(f"value = {value}")["value"])
    except tomllib.TOMLDecodeError:
        return Override(key, value)


def parse_overrides(texts: Sequence[str]) -> tuple[Override, ...]:
    """All `--set` options; a key given twice is a UserError."""
    overrides = tuple(parse_override(text) for text in texts)
    keys = [override.key for override in overrides]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"--set {key} is given twice.")
    return overrides


def split_overrides(overrides: Sequence[Override], methods: Mapping[str, type[Method]]) -> dict[str, Changes]:
    """Changes per label of `methods`; a key that fits no row at all is a UserError with the nearest one.

    Keys of the whole suite are left to it.
    """
    changes = {label: Changes() for label in methods}
    for override in overrides:
        if override.key in SUITE_KEYS:
            continue
        scope, _, key = override.key.rpartition(".")
        labels = _labels(scope, methods)
        fitting = [label for label in labels if _place(changes[label], methods[label], key, override.value)]
        if not fitting:
            known = {name for label in labels for name in field_names(methods[label])}
            raise unknown("key", key, known | set(field_names(Recipe)) | set(SUITE_KEYS), f"--set {override}")
    return changes


def _labels(scope: str, methods: Mapping[str, type[Method]]) -> list[str]:
    if not scope:
        return list(methods)
    labels = [label for label, cls in methods.items() if scope in (label, cls.name)]
    if not labels:
        known = {name for label, cls in methods.items() for name in (label, cls.name)}
        raise unknown("method", scope, known, "--set")
    return labels


def _place(changes: Changes, cls: type[Method], key: str, value: Any) -> bool:
    """Put the value where `key` belongs; a method's own parameter goes before a recipe field of that name."""
    if key in field_names(cls):
        changes.parameters[key] = value
    elif key in field_names(Recipe):
        changes.recipe[key] = value
    else:
        return False
    return True
