"""Checks of a method's parameters, each a UserError of one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.api.methods import Method


def check_fraction(method: Method, parameter: str, low_open: float = 0.0, high: float = 1.0) -> None:
    """Raise UserError unless low_open < value <= high."""
    value = getattr(method, parameter)
    if not low_open < value <= high:
        raise UserError(f"{method.name}: {parameter} = {value} is outside ({low_open:g}, {high:g}].")


def check_at_least(method: Method, parameter: str, low: float) -> None:
    """Raise UserError unless value >= low."""
    value = getattr(method, parameter)
    if value < low:
        raise UserError(f"{method.name}: {parameter} = {value} must be at least {low:g}.")


def check_choice(method: Method, parameter: str, choices: tuple[str, ...]) -> None:
    """Raise UserError unless the value is one of `choices`."""
    value = getattr(method, parameter)
    if value not in choices:
        raise UserError(f"{method.name}: {parameter} = '{value}' must be one of {', '.join(choices)}.")


def check_rank(method: Method, parameter: str, shape: tuple[int, int], module: str) -> None:
    """Raise UserError unless the value is at most the smaller side of the map `module`, [m, n]."""
    value, limit = getattr(method, parameter), min(shape)
    advice = f"{parameter} = {value} exceeds the smaller side of {module} {list(shape)}; choose at most {limit}."
    require(method, value <= limit, advice)


def require(method: Method, condition: bool, advice: str) -> None:
    """Raise UserError with `advice`, one sentence that says what is wrong and what to do, unless `condition`."""
    if not condition:
        raise UserError(f"{method.name}: {advice}")
