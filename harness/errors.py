"""The one exception for wrong use: a line that names the thing, where it stands, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from harness.records import RunRecord


class UserError(Exception):
    """Something the user can put right. The command line prints it as one line and exits with 2."""


class Unavailable(UserError):
    """A disk, a database or a network is in the way: no trial's fault, and it may pass."""


class Stop(BaseException):
    """Ends a plan: a run could not be stored, or the first bad end was to be the last.

    No Exception, so that nothing which guards a plan against the faults of its trials takes it for one.
    """

    def __init__(self, reason: str, cause: Exception | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cause = cause


class DeviceLost(BaseException):
    """Raised where trials run: this process can use its device no more, and is to be given no further trial.

    No Exception, for the reason that `Stop` is none.
    """

    def __init__(self, record: RunRecord | None = None) -> None:
        """record: of the trial that had the device to itself, whose fault it is; None where several shared it."""
        super().__init__("an error on the device ended a trial, and this process can use the device no more")
        self.record = record


class TrialFailure(Exception):
    """A trial that ended badly for a known reason; it becomes a run row with `status`."""

    def __init__(self, status: Literal["failed", "oom", "diverged", "timeout"], reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def unknown(kind: str, name: str, known: Iterable[str], where: str = "", advice: str = "") -> UserError:
    """The error for a name that does not exist; gives the nearest one, or all if they are few.

    `kind` is the word for the thing ("method"), `where` the place it was read from, `advice` what to do.
    """
    names = sorted(known)
    place = f" in {where}" if where else ""
    if nearest := _nearest(name, names):
        hint = f"did you mean '{nearest}'?"
    elif len(names) <= 12:
        hint = f"known: {', '.join(names) or 'none'}."
    else:
        hint = f"there are {len(names)} known names."
    return UserError(f"unknown {kind} '{name}'{place}: {hint}" + (f" {advice}" if advice else ""))


def _nearest(name: str, names: list[str]) -> str | None:
    """The name whose initials these are (lr), or that is spelt alike, or that contains it (rate)."""
    initials = [other for other in names if len(name) > 1 and name == "".join(word[:1] for word in other.split("_"))]
    alike = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    holding = [other for other in names if len(name) > 2 and name.lower() in other.lower()]
    return next(iter((*initials, *alike, *holding)), None)
