"""Methods that a library brings in numbers: named `prefix:member`, made when asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from harness.api.methods import Method


class MethodFamily(ABC):
    """A plugin that makes methods by name, so that importing the library behind them can wait until one is named."""

    prefix: ClassVar[str]
    """What stands before the colon: "peft" for `peft:ADALORA`."""
    title: ClassVar[str]
    """What its members are, for lists."""

    @abstractmethod
    def method(self, member: str) -> type[Method]:
        """The method `prefix:member`; a UserError with the nearest name for one that does not exist."""
