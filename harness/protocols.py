"""Derived scores: which epoch of a run counts, and what the run scored there.

Every metric is a number of which more is better. The *score* of a run after an epoch is the task's first
metric, averaged over the task's test splits; it exists only if all of them were scored. Epoch 0 is the model
before any training: it counts only for a run that has no other epoch (a control that does not train), and
then all protocols give it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Scored(NamedTuple):
    """What a run scored after one epoch."""

    epoch: int
    score: float
    """The task's first metric, averaged over its test splits."""
    select: float | None
    """The first metric on `select`; None where that was not scored."""


def last_epoch(course: Sequence[Scored]) -> Scored | None:
    """Last: the score after the last epoch. Nothing is chosen, so nothing can be chosen to please."""
    return max(course, key=lambda point: point.epoch, default=None)


def selected_epoch(course: Sequence[Scored]) -> Scored | None:
    """Selected: the score after the epoch whose first metric is best on `select`, a split cut from train.

    Of equally good epochs the earliest counts. The test sets have no say. A run of a single epoch has
    no choice to make; a run of several that were not scored on `select` has no selected score.
    """
    if len(course) == 1:
        return course[0]
    known = [(point.select, -point.epoch, point) for point in course if point.select is not None]
    return max(known)[2] if known else None


def optimistic_epoch(course: Sequence[Scored]) -> Scored | None:
    """Optimistic: the score after the epoch that is best on the test sets themselves, the earliest of equals.

    Many papers print this number. It is too high: the test sets chose the epoch that they judge.
    """
    return max(course, key=lambda point: (point.score, -point.epoch), default=None)


PROTOCOLS: dict[str, Callable[[Sequence[Scored]], Scored | None]] = {
    "last": last_epoch,
    "selected": selected_epoch,
    "optimistic": optimistic_epoch,
}
"""Which epoch's score a table may show. Each docstring is the definition that the site prints.

Each takes a run's scored epochs that may count, at most one of each number, and returns the one it chooses, if any.
"""
