"""Parameter counts that a formula gives or does not give, on the dimensions that ship with the harness."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from harness.claims.findings import Finding
from harness.errors import UserError, unknown
from harness.known_counts import KnownCounts
from harness.plugins import Plugins, discover, make_method
from harness.printed import PrintedNumber
from harness.settings import Settings
from harness.shipped import config_names, find_shipped


@dataclass(frozen=True)
class Count:
    """A printed count, and the configuration that is said to have it."""

    printed: PrintedNumber
    backbone: str
    """One of the backbones whose dimensions ship."""
    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    counted: Literal["adapter_params", "total_params"] = "adapter_params"

    def __post_init__(self) -> None:
        if self.backbone not in config_names():
            raise unknown("backbone", self.backbone, config_names())
        methods = _plugins().methods
        if self.method not in methods:
            raise unknown("method", self.method, methods)
        make_method(methods[self.method], self.parameters)

    def finding(self) -> Finding:
        """Holds if the formula's count prints so."""
        number = counted(self)
        settings = ", ".join(f"{key} = {value}" for key, value in self.parameters.items())
        what = f"{self.method}({settings}) on {self.backbone}"
        why = f"{what} has {number:,}; printed is {self.printed}"
        return Finding("holds" if self.printed.allows(Fraction(number)) else "refuted", why)


def counted(claim: Count) -> int:
    """The exact count of a claim's configuration, from shapes alone. Imports torch unless it was counted before.

    UserError for a count that depends on the values of weights.
    """
    # Nobody's own folders: a local model of the same name may have other dimensions.
    settings = Settings(data_root=None, models_root=None, device="cpu")
    what = (find_shipped(claim.backbone), claim.method, sorted(claim.parameters.items()), claim.counted)
    known = KnownCounts(settings.cache_root)
    number = known.get(*what)
    if number is None:
        number = _count(claim, settings)
        known.add(number, *what)
    return int(number)


def _count(claim: Count, settings: Settings) -> int:
    from harness.counts import Shape, count, natural_kind

    method = make_method(_plugins().methods[claim.method], claim.parameters)
    shape = Shape(claim.backbone, natural_kind(claim.backbone, settings))
    number = getattr(count(method, shape, settings), claim.counted)
    if number is None:
        raise UserError(f"the count of method '{claim.method}' depends on the weights' values; no formula gives it.")
    return int(number)


@functools.cache
def _plugins() -> Plugins:
    return discover()
