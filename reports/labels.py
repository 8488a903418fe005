"""Names beside points: each goes to the nearest free place, so that none covers a point or another name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CHARACTER = 6.3
"""Mean width of a character at 12 px, in pixels; wide enough for the fonts that browsers substitute."""
HEIGHT = 14.0
GAP = 9.0
"""Pixels between a point's centre and its name."""


@dataclass(frozen=True)
class Anchor:
    """A point to be named; pixels from the top left corner."""

    text: str
    x: float
    y: float


@dataclass(frozen=True)
class Placed:
    """Where a name's near end goes: its left end, or with `leftward` its right end; y is its middle."""

    anchor: Anchor
    x: float
    y: float
    leftward: bool


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def place(anchors: Sequence[Anchor], width: float, height: float) -> list[Placed]:
    """A place for each name inside `width` x `height`, tried nearest first, from the top anchor down."""
    taken = [_Box(anchor.x - 5, anchor.y - 5, anchor.x + 5, anchor.y + 5) for anchor in anchors]
    placed = []
    for anchor in sorted(anchors, key=lambda anchor: (anchor.y, anchor.x, anchor.text)):
        choices = list(_choices(anchor, width, height))
        best = next((choice for choice in choices if not any(_box(choice).meets(box) for box in taken)), choices[0])
        taken.append(_box(best))
        placed.append(best)
    return placed


def _choices(anchor: Anchor, width: float, height: float) -> Iterator[Placed]:
    """Right before left, level before shifted; a name that would leave the chart on one side is not tried there."""
    for step in range(12):
        for shift in (step * HEIGHT / 2, -step * HEIGHT / 2):
            y = min(max(anchor.y + shift, HEIGHT / 2), height - HEIGHT / 2)
            for leftward in (False, True):
                candidate = Placed(anchor, anchor.x + (-GAP if leftward else GAP), y, leftward)
                box = _box(candidate)
                if (box.left >= 0 and box.right <= width) or (step == 0 and not leftward):
                    yield candidate


def _box(choice: Placed) -> _Box:
    length = CHARACTER * len(choice.anchor.text)
    left = choice.x - length if choice.leftward else choice.x
    return _Box(left, choice.y - HEIGHT / 2, left + length, choice.y + HEIGHT / 2)
