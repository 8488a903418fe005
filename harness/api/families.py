"""Plugins that a library brings in numbers: named `prefix:member`, made when asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from harness.api.methods import Method
from harness.api.tasks import Task

Member = TypeVar("Member")


class Family(ABC, Generic[Member]):
    """A plugin that makes others by name, so that importing the library behind them can wait until one is named."""

    prefix: ClassVar[str]
    """What stands before the colon: "peft" for `peft:ADALORA`."""
    title: ClassVar[str]
    """What its members are, for lists."""

    @abstractmethod
    def member(self, name: str) -> Member:
        """What `prefix:name` stands for; a UserError with the nearest name if it does not exist."""


class MethodFamily(Family[type[Method]]):
    """Methods by name."""


class TaskFamily(Family[Task]):
    """Tasks by name."""
