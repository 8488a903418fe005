"""What a check says about a plugin: passed, failed with what was expected and seen, or exempt with a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

CLOSE = 1e-4
"""Largest difference of two float32 outputs of about unit size that counts as rounding."""
Status = Literal["passed", "failed", "exempt"]


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check."""

    check: str
    status: Status
    reason: str = ""
    """One line: why it failed, or why it need not hold."""


class Broken(Exception):
    """A check does not hold."""

    def __init__(self, expected: str, seen: str, look: str) -> None:
        super().__init__(f"expected {expected}; saw {seen}; look at {look}")


class NotApplicable(Exception):
    """The check means nothing for this kind of plugin."""


def require_close(actual: Tensor, expected: Tensor, what: str, look: str, tolerance: float = CLOSE) -> None:
    """Broken if two tensors differ by more than rounding."""
    difference = float((actual - expected).abs().max())
    if not difference <= tolerance * max(1.0, float(expected.abs().max())):
        raise Broken(what, f"a difference of {difference:.2g}", look)


def judge(name: str, check: Callable[[], None], exemptions: Mapping[str, str]) -> Verdict:
    """Run one check. Whatever the plugin raises is its failure, not the kit's."""
    if name in exemptions:
        return Verdict(name, "exempt", exemptions[name])
    try:
        check()
    except NotApplicable as reason:
        return Verdict(name, "exempt", str(reason))
    except Broken as finding:
        return Verdict(name, "failed", str(finding))
    except Exception as error:
        line = str(error).split("\n")[0]
        return Verdict(
            name, "failed", f"expected no error; saw {type(error).__name__}: {line}; look at where it is raised"
        )
    return Verdict(name, "passed")
