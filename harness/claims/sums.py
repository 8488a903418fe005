"""Claims that a few operations on printed numbers decide.

Each printed number stands for the interval of all numbers that round to it, so that a claim is refuted only if no
choice of what was rounded away can save it. A bound (at least 100, at most 0.7) is taken as it is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from harness.claims.confusion import shares
from harness.claims.findings import Finding
from harness.errors import UserError
from harness.printed import PrintedNumber, in_words


@dataclass(frozen=True)
class MeanOf:
    """An average and its parts."""

    printed: PrintedNumber
    parts: tuple[PrintedNumber, ...]

    def finding(self) -> Finding:
        """Holds if the parts, before rounding, can have this mean."""
        count = len(self.parts)
        low, high = (sum(ends, Fraction()) / count for ends in zip(*((p.low, p.high) for p in self.parts), strict=True))
        mean = sum((part.value for part in self.parts), Fraction()) / count
        why = (
            f"the mean of the {count} printed parts is {in_words([mean])} (before rounding {in_words([low, high], 3)})"
        )
        return _decided(self.printed.allows(low, high), f"{why}; printed is {self.printed}")


@dataclass(frozen=True)
class MaximumOf:
    """A best score and all the scores that it was chosen from."""

    printed: PrintedNumber
    parts: tuple[PrintedNumber, ...]

    def finding(self) -> Finding:
        """Holds if the largest part is the printed number."""
        best = max(self.parts, key=lambda part: part.value)
        why = f"the largest of the {len(self.parts)} scores is {best}; printed is {self.printed}"
        return _decided(self.printed.allows(best.low, best.high), why)


@dataclass(frozen=True)
class Ratio:
    """A quotient, times `scale` (100 for per cent)."""

    numerator: PrintedNumber
    denominator: PrintedNumber
    printed: PrintedNumber
    scale: int = 1
    at_least: bool = False
    """Whether the claim is that the quotient is at least `printed`, not that it is `printed`."""

    def __post_init__(self) -> None:
        if self.numerator.low < 0 or self.denominator.low <= 0:
            raise UserError("a ratio needs a numerator of at least 0 and a denominator above 0.")

    def finding(self) -> Finding:
        """Holds if the quotient, before rounding, can be as claimed."""
        low = self.scale * self.numerator.low / self.denominator.high
        high = self.scale * self.numerator.high / self.denominator.low
        quotient = self.scale * self.numerator.value / self.denominator.value
        scaled = f"{self.scale} x " if self.scale != 1 else ""
        holds = high >= self.printed.value if self.at_least else self.printed.allows(low, high)
        bound = f"claimed is at least {self.printed}" if self.at_least else f"claimed is {self.printed}"
        return _decided(holds, f"{scaled}{self.numerator} / {self.denominator} = {in_words([quotient])}; {bound}")


@dataclass(frozen=True)
class Difference:
    """One number minus another: printed so, or (with `at_most`) bounded so."""

    first: PrintedNumber
    second: PrintedNumber
    printed: PrintedNumber
    at_most: bool = False
    """Whether the claim is that the difference is at most `printed`, not that it is `printed`."""

    def finding(self) -> Finding:
        """Holds if the difference, before rounding, can be as claimed."""
        low, high = self.first.low - self.second.high, self.first.high - self.second.low
        difference = self.first.value - self.second.value
        if self.at_most:
            bound = f"claimed is at most {self.printed}"
            holds = low <= self.printed.value
        else:
            bound = f"claimed is {self.printed}"
            holds = self.printed.allows(low, high)
        return _decided(holds, f"{self.first} - {self.second} = {in_words([difference])}; {bound}")


@dataclass(frozen=True)
class Wins:
    """How often one row is above another, task by task."""

    first: tuple[PrintedNumber, ...]
    second: tuple[PrintedNumber, ...]
    printed: PrintedNumber
    totals: tuple[int, ...] = ()
    """Test rows of each task, where the scores are shares of them; 0, or left out, where they are not."""

    def __post_init__(self) -> None:
        if len(self.first) != len(self.second):
            raise UserError(f"first has {len(self.first)} scores and second {len(self.second)}; give as many of each.")
        if self.totals and len(self.totals) != len(self.first):
            raise UserError(f"totals has {len(self.totals)} numbers for {len(self.first)} scores; give as many.")

    def finding(self) -> Finding:
        """Holds if the printed number of pairs can have its first score strictly above its second.

        Rounding may have made a tie of a win, but not where only one share of the rows prints so.
        """
        signs = [(a.value > b.value) - (a.value < b.value) for a, b in zip(self.first, self.second, strict=True)]
        totals = self.totals or (0,) * len(signs)
        exact = [total > 0 and len(shares(a, total)) == 1 for a, total in zip(self.first, totals, strict=True)]
        open_ties = sum(sign == 0 and not sure for sign, sure in zip(signs, exact, strict=True))
        why = f"of {len(signs)} it wins {signs.count(1)}, ties {signs.count(0)}, loses {signs.count(-1)}"
        holds = 0 <= self.printed.value - signs.count(1) <= open_ties
        return _decided(holds, f"{why}; claimed are {self.printed}")


@dataclass(frozen=True)
class Equal:
    """Numbers of several tables that stand for one and the same thing."""

    numbers: tuple[PrintedNumber, ...]

    def __post_init__(self) -> None:
        if len(self.numbers) < 2:
            raise UserError("numbers needs at least two, to be compared.")

    def finding(self) -> Finding:
        """Holds if one number can round to all of them."""
        # Neighbours such as 82.22 and 82.23 share an end, yet no number is printed as both.
        agree = max(number.low for number in self.numbers) < min(number.high for number in self.numbers)
        places = [f"{number} ({number.cell.partition(' | ')[0] or 'text'})" for number in self.numbers]
        return _decided(agree, " and ".join(places) + (" agree" if agree else " differ"))


def _decided(holds: bool, why: str) -> Finding:
    return Finding("holds" if holds else "refuted", why)
