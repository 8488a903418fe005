"""Numbers as text. Every report prints a quantity through the one function that is meant for it."""

from __future__ import annotations

import math
from typing import TypeGuard

DASH = "–"
"""What stands for an unknown number, everywhere."""

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def score(value: float | None) -> str:
    """A score times 100 with one decimal: 0.8634 -> "86.3"."""
    return f"{100 * value:.1f}" if _known(value) else DASH


def spread(value: float | None) -> str:
    """A standard deviation times 100 with its sign: 0.004 -> "± 0.4"; "± –" where there is none."""
    return f"± {score(value)}"


def count(value: float | None) -> str:
    """A whole number with thousands separators: 294912 -> "294,912"."""
    return f"{value:,.0f}" if _known(value) else DASH


def span(low: float | None, high: float | None) -> str:
    """A whole number, or the range of it over tasks: "1,024" or "1,024–4,096"."""
    return count(low) if low == high else f"{count(low)}–{count(high)}"


def quantity(value: float | None, unit: str = "") -> str:
    """Three significant digits with an SI prefix: 1.234e12 FLOP -> "1.23 T"; `unit` follows the prefix."""
    if not _known(value):
        return DASH
    step = 0
    while step + 1 < len(_PREFIXES) and abs(float(f"{value:.3g}")) >= 1000:
        value /= 1000
        step += 1
    return f"{_three_digits(value)} {_PREFIXES[step]}{unit}".rstrip()


def short(value: int) -> str:
    """A round number for a tick: 1000 -> "1k", 10000000 -> "10M"."""
    for power in range(len(_PREFIXES) - 1, 0, -1):
        if value >= 1000**power:
            return f"{value // 1000**power}{_PREFIXES[power]}"
    return str(value)


def seconds(value: float | None) -> str:
    """A duration in seconds with three significant digits: 12.34 -> "12.3", 1234.5 -> "1,234"."""
    return _three_digits(value) if _known(value) else DASH


def plural(number: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(float(f"{value:.3g}")))))
    return f"{value:,.{decimals}f}"


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
