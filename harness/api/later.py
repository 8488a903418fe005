"""Settings that joined after results had been stored: at their default they leave a trial's identity as it was."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

Default = TypeVar("Default")
_KEY = "later"


def later(default: Default) -> Default:
    """A dataclass field whose default means what was done before the field existed, and therefore never changes.

    Trials that leave it at the default keep the id that they had: their stored runs still count.
    """
    made: Default = dataclasses.field(default=default, metadata={_KEY: True})
    return made


def settings_of(instance: Any) -> dict[str, Any]:
    """The fields of a dataclass instance by name, without the later ones that are at their default."""
    return {
        item.name: getattr(instance, item.name)
        for item in dataclasses.fields(instance)
        if not (item.metadata.get(_KEY) and getattr(instance, item.name) == item.default)
    }
