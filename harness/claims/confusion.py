"""Scores of a classifier that cannot be: an F1 that no confusion matrix gives, an accuracy that is no share of N."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from harness.claims.findings import Finding
from harness.errors import UserError
from harness.printed import PrintedNumber, in_words


@dataclass(frozen=True)
class F1Feasible:
    """An accuracy and an F1 of one set of predictions, both times 100."""

    accuracy: PrintedNumber
    f1: PrintedNumber
    positives: int
    """Rows of the positive class."""
    total: int
    """All rows."""

    def __post_init__(self) -> None:
        if not 0 < self.positives < self.total:
            raise UserError(f"positives = {self.positives} must be above 0 and below total = {self.total}.")

    def finding(self) -> Finding:
        """Holds if some confusion matrix gives both numbers as printed."""
        feasible = f1_by_errors(self.accuracy, self.positives, self.total)
        if not feasible:
            return Finding("refuted", f"no number of right answers out of {self.total} prints as {self.accuracy}")
        values = [value for _, _, value in feasible]
        for missed, errors, value in feasible:
            if self.f1.allows(value):
                matrix = f"{missed} positives missed and {errors - missed} false alarms"
                return Finding("holds", f"{matrix} in {self.total} rows ({self.positives} positive) give both")
        errors = feasible[0][1]
        span = f"[{float(min(values)):.2f}, {float(max(values)):.2f}]"
        return Finding(
            "refuted",
            f"accuracy {self.accuracy} of {self.total} rows means {errors} errors; with {self.positives} positives "
            f"F1 is one of {len(values)} values in {span}, never {self.f1}",
        )


def f1_by_errors(accuracy: PrintedNumber, positives: int, total: int) -> list[tuple[int, int, Fraction]]:
    """Every (missed positives, errors, F1 times 100) with an accuracy that prints as `accuracy`; exact.

    With e errors of which m are missed positives, F1 = 2 (P - m) / (2 (P - m) + e); m is at most the P positives
    and leaves e - m false alarms for the N - P negatives.
    """
    found = []
    for right in shares(accuracy, total):
        errors = total - right
        for missed in range(max(0, errors - (total - positives)), min(positives, errors) + 1):
            doubled = 2 * (positives - missed)
            found.append((missed, errors, Fraction(100 * doubled, doubled + errors)))
    return found


@dataclass(frozen=True)
class Grid:
    """A share of `total` rows, times 100; a median of an even number of runs may lie between two of them."""

    printed: PrintedNumber
    total: int

    def __post_init__(self) -> None:
        if self.total < 1:
            raise UserError(f"total = {self.total} must be at least 1.")

    def finding(self) -> Finding:
        """Holds if some k / total prints so."""
        if found := shares(self.printed, self.total):
            return Finding("holds", f"{found[0]} of {self.total} is {self.printed}")
        below = math.floor(self.printed.value * self.total / 100)
        near = [Fraction(100 * right, self.total) for right in (below, below + 1)]
        return Finding(
            "refuted",
            f"{below} of {self.total} is {in_words(near[:1], 3)}, {below + 1} is {in_words(near[1:], 3)}; "
            f"none prints as {self.printed}",
        )


def shares(printed: PrintedNumber, total: int) -> list[int]:
    """Every k with 100 k / total printing as `printed`."""
    first, last = math.ceil(printed.low * total / 100), math.floor(printed.high * total / 100)
    return list(range(max(first, 0), min(last, total) + 1))
