"""A number as a paper prints it: its value, and the interval that its digits leave open.

A number is kept as text, because 87.0 and 87 say different things. Zeros at the end of a whole number may or may not
be significant ("800K"); they are taken as not, which decides for the paper.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from harness.errors import UserError

_NUMBER = re.compile(r"(?P<whole>-?\d{1,3}(?:,\d{3})+|-?\d+)(?:\.(?P<decimals>\d+))?(?P<unit>[KMB]?)")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True)
class PrintedNumber:
    """One printed number, exactly."""

    text: str
    """As printed: "88.97", "92,160", "24.6K"."""
    cell: str = ""
    """Where the table has it, parts by " | ": table, then any of task, metric, method, setting. Empty: in the prose."""

    def __post_init__(self) -> None:
        if not _NUMBER.fullmatch(self.text):
            raise UserError(f"'{self.text}' is no printed number; write it as the paper does: 88.97, 92,160, 24.6K.")

    @property
    def value(self) -> Fraction:
        """The number itself."""
        whole, decimals, unit = self._parts()
        return Fraction(f"{whole}.{decimals or '0'}") * unit

    @property
    def half_unit(self) -> Fraction:
        """Half of the last printed digit: how far the number before rounding may be from the printed one."""
        whole, decimals, unit = self._parts()
        zeros = len(whole) - len(whole.rstrip("0")) if whole.strip("-0") else 0
        digit = Fraction(1, 10 ** len(decimals)) if decimals else Fraction(10**zeros)
        return digit * unit / 2

    @property
    def low(self) -> Fraction:
        """The smallest number that rounds to this one."""
        return self.value - self.half_unit

    @property
    def high(self) -> Fraction:
        """The largest number that rounds to this one."""
        return self.value + self.half_unit

    def allows(self, low: Fraction, high: Fraction | None = None) -> bool:
        """Whether some number of [low, high] (of `low` alone, without `high`) rounds to this one."""
        return low <= self.high and self.low <= (low if high is None else high)

    def __str__(self) -> str:
        return self.text

    def _parts(self) -> tuple[str, str, int]:
        match = _NUMBER.fullmatch(self.text)
        assert match is not None  # __post_init__ has seen to it
        return match["whole"].replace(",", ""), match["decimals"] or "", _UNITS[match["unit"]]


def in_words(numbers: Sequence[Fraction], digits: int = 2) -> str:
    """Numbers for a line of text, joined by "to": whole ones whole, others rounded to `digits`."""
    return " to ".join(
        f"{int(number):,}" if number.denominator == 1 else f"{float(number):,.{digits}f}" for number in numbers
    )


@dataclass(frozen=True)
class PrintedCount:
    """A printed count of parameters. `text` is how the paper writes it; with a unit (`24.6K`) it was rounded or cut."""

    params: int
    text: str

    @property
    def step(self) -> int:
        """What one more in the last digit that counts would add; a count without a unit is exact."""
        return int(2 * PrintedNumber(self.text).half_unit) if self.text[-1] in _UNITS else 1

    def agrees(self, adapter_params: int, head_params: int) -> bool:
        """Whether the adapter's count, or that with the head's, is the printed one to the printed digits.

        Papers leave the head out of an adapter's count, and count it with full fine-tuning.
        """
        return any(abs(count - self.params) < self.step for count in (adapter_params, adapter_params + head_params))


def make_printed(params: int, text: str, where: str) -> PrintedCount | None:
    """The keys `printed_params` and `printed_as` of a suite's row; None for a row that no paper counts."""
    if not params and not text:
        return None
    printed = PrintedCount(params, text or f"{params:,}")
    if not _NUMBER.fullmatch(printed.text):
        raise UserError(f"{where}: printed_as = '{text}' must be a number such as 92,160 or 24.6K.")
    value = PrintedNumber(printed.text).value
    if value != params:
        raise UserError(f"{where}: printed_as = '{text}' is {float(value):,.0f}, but printed_params = {params}.")
    return printed
