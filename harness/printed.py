"""Parameter counts as papers print them, and whether a count by formula agrees with one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from harness.errors import UserError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
_TEXT = re.compile(r"(\d[\d,]*)(?:\.(\d+))?([KMB]?)")


@dataclass(frozen=True)
class Printed:
    """A printed count. `text` is how the paper writes it; with a unit (`24.6K`) it was rounded or cut."""

    params: int
    text: str

    @property
    def step(self) -> int:
        """What one more in the last digit that counts would add; zeros at the end of `800K` do not count."""
        whole, decimals, unit = _parts(self.text)
        if not unit:
            return 1
        zeros = -len(decimals) if decimals else len(whole) - len(whole.rstrip("0"))
        return int(_UNITS[unit] * Fraction(10) ** zeros)

    def agrees(self, adapter_params: int, head_params: int) -> bool:
        """Whether the adapter's count, or that with the head's, is the printed one to the printed digits.

        Papers leave the head out of an adapter's count, and count it with full fine-tuning.
        """
        return any(abs(count - self.params) < self.step for count in (adapter_params, adapter_params + head_params))


def make_printed(params: int, text: str, where: str) -> Printed | None:
    """The keys `printed_params` and `printed_as` of a suite's row; None for a row that no paper counts."""
    if not params and not text:
        return None
    printed = Printed(params, text or f"{params:,}")
    if not _TEXT.fullmatch(printed.text):
        raise UserError(f"{where}: printed_as = '{text}' must be a number such as 92,160 or 24.6K.")
    whole, decimals, unit = _parts(printed.text)
    value = Fraction(f"{whole}.{decimals or 0}") * _UNITS[unit]
    if value != params:
        raise UserError(f"{where}: printed_as = '{text}' is {float(value):,.0f}, but printed_params = {params}.")
    return printed


def _parts(text: str) -> tuple[str, str, str]:
    """Digits before the point, digits after it, unit."""
    match = _TEXT.fullmatch(text)
    assert match is not None, text
    return match.group(1).replace(",", ""), match.group(2) or "", match.group(3)
