"""Claims about training: what they need of a suite, and the contrasts that they come to.

Scores are in points: a metric times 100. A contrast pairs rows by seed, after averaging over the tasks.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from harness.claims.evidence import Points
from harness.claims.intervals import Contrast
from harness.errors import UserError
from harness.printed import PrintedNumber
from harness.suite import MAIN


@dataclass(frozen=True)
class Needs:
    """Where the runs are that a claim is judged on."""

    suite: str
    protocol: str
    """Whose epoch counts: last, selected or optimistic."""
    grid: str = MAIN
    tasks: tuple[str, ...] = ()
    """Their average is compared; empty: all of the grid."""
    split: str = ""
    """Which test set of the tasks; empty: the mean over all."""
    metric: str = ""
    """Empty: each task's first."""
    train_size: int = 0
    """Which of the grid's train sizes; 0 for a grid that has only one, and for a crossover, which names its own."""


@dataclass(frozen=True)
class Comparison(ABC):
    """A claim about rows of a suite."""

    needs: Needs

    @property
    @abstractmethod
    def rows(self) -> tuple[str, ...]:
        """Labels that must have runs."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Train sizes that must have runs; 0 is the only one that the grid has."""
        return (self.needs.train_size,)

    @abstractmethod
    def contrasts(self, points: Points) -> list[Contrast]:
        """What the seeds say, and where the claim has its means."""


@dataclass(frozen=True)
class AtLeast(Comparison):
    """A row is not below another, or by no more than a tolerance."""

    row: str
    than: str
    tolerance: float = 0.0
    """Points that `row` may be below `than`; negative demands a lead."""

    @property
    def rows(self) -> tuple[str, ...]:
        return self.row, self.than

    def contrasts(self, points: Points) -> list[Contrast]:
        values = points.differences(self.row, self.than, self.needs.train_size)
        return [Contrast(f"{self.row} - {self.than}", values, low=0.0 - self.tolerance)]


@dataclass(frozen=True)
class BestOf(Comparison):
    """A row is not below any of the others."""

    row: str
    others: tuple[str, ...]
    tolerance: float = 0.0

    @property
    def rows(self) -> tuple[str, ...]:
        return self.row, *self.others

    def contrasts(self, points: Points) -> list[Contrast]:
        return [
            Contrast(
                f"{self.row} - {other}",
                points.differences(self.row, other, self.needs.train_size),
                low=0.0 - self.tolerance,
            )
            for other in self.others
        ]


@dataclass(frozen=True)
class Spread(Comparison):
    """No two rows differ by more than so many points."""

    among: tuple[str, ...]
    within: float

    def __post_init__(self) -> None:
        if len(self.among) < 2:
            raise UserError("among needs at least two rows.")
        if self.within <= 0:
            raise UserError(f"within = {self.within:g} must be above 0.")

    @property
    def rows(self) -> tuple[str, ...]:
        return self.among

    def contrasts(self, points: Points) -> list[Contrast]:
        return [
            Contrast(
                f"{first} - {second}",
                points.differences(first, second, self.needs.train_size),
                low=-self.within,
                high=self.within,
            )
            for first, second in itertools.combinations(self.among, 2)
        ]


@dataclass(frozen=True)
class Crossover(Comparison):
    """One row is ahead when there is little data, another when there is much."""

    ahead_at_small: str
    ahead_at_large: str
    small: int
    """Training rows."""
    large: int

    def __post_init__(self) -> None:
        if not 0 < self.small < self.large:
            raise UserError(f"small = {self.small} must be above 0 and below large = {self.large}.")

    @property
    def rows(self) -> tuple[str, ...]:
        return self.ahead_at_small, self.ahead_at_large

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.small, self.large

    def contrasts(self, points: Points) -> list[Contrast]:
        small, large = self.rows
        return [
            Contrast(
                f"{small} - {large} at {self.small:,} rows", points.differences(small, large, self.small), low=0.0
            ),
            Contrast(
                f"{large} - {small} at {self.large:,} rows", points.differences(large, small, self.large), low=0.0
            ),
        ]


@dataclass(frozen=True)
class Value(Comparison):
    """A row's mean is the printed number, give or take a tolerance in points."""

    row: str
    printed: PrintedNumber
    tolerance: float

    def __post_init__(self) -> None:
        if self.tolerance <= 0:
            raise UserError(f"tolerance = {self.tolerance:g} must be above 0.")

    @property
    def rows(self) -> tuple[str, ...]:
        return (self.row,)

    def contrasts(self, points: Points) -> list[Contrast]:
        printed = float(self.printed.value)
        values = points.scores(self.row, self.needs.train_size)
        return [Contrast(self.row, values, printed - self.tolerance, printed + self.tolerance)]


@dataclass(frozen=True)
class Between(Comparison):
    """A row's mean of a quantity lies in a range."""

    row: str
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError(f"low = {self.low:g} must be below high = {self.high:g}.")
        if math.isinf(self.low) and math.isinf(self.high):
            raise UserError("a range needs low, high or both.")

    @property
    def rows(self) -> tuple[str, ...]:
        return (self.row,)

    def contrasts(self, points: Points) -> list[Contrast]:
        return [Contrast(self.row, points.scores(self.row, self.needs.train_size), self.low, self.high)]
