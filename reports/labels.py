"""Names beside points: each goes to the nearest free place, so that none covers a point or another name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

NARROW, NORMAL, CAPITAL, WIDE = 4.3, 7.5, 8.6, 12.0
"""Widths of characters at 12 px, in pixels, of DejaVu Sans, the widest of the fonts that browsers may take."""
HEIGHT = 14.0
GAP = 9.0
"""Pixels between a point's centre and its name."""


@lru_cache(maxsize=4096)
def text_width(words: str) -> float:
    """Width of a line at 12 px, in pixels, rather too wide than too narrow."""
    return sum(map(_width, words))


def _width(character: str) -> float:
    if character in "iljtfrI.,:;'|!()[]/- ":
        return NARROW
    if character in "mwMW@%+=…" or unicodedata.east_asian_width(character) in "WF":
        return WIDE
    return CAPITAL if character.isupper() else NORMAL


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
class Box:
    """A rectangle, in pixels from the top left corner."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def place(anchors: Sequence[Anchor], width: float, height: float, obstacles: Sequence[Box] = ()) -> list[Placed]:
    """A place for each name in `width` x `height`, off the obstacles, tried nearest first, from the top anchor down."""
    taken = [*obstacles, *(around(anchor.x, anchor.y) for anchor in anchors)]
    placed = []
    for anchor in sorted(anchors, key=lambda anchor: (anchor.y, anchor.x, anchor.text)):
        inside = list(_choices(anchor, width, height)) or [Placed(anchor, anchor.x + GAP, anchor.y, False)]
        free = (choice for choice in inside if not any(_box(choice).meets(box) for box in taken))
        best = next(free, inside[0])
        taken.append(_box(best))
        placed.append(best)
    return placed


def around(x: float, y: float) -> Box:
    """The place that a point takes."""
    return Box(x - 5, y - 5, x + 5, y + 5)


def _choices(anchor: Anchor, width: float, height: float) -> Iterator[Placed]:
    """Right before left, level before shifted; a name that would leave the chart on one side is not tried there."""
    for step in range(12):
        for shift in (step * HEIGHT / 2, -step * HEIGHT / 2):
            y = min(max(anchor.y + shift, HEIGHT / 2), height - HEIGHT / 2)
            for leftward in (False, True):
                candidate = Placed(anchor, anchor.x + (-GAP if leftward else GAP), y, leftward)
                box = _box(candidate)
                if box.left >= 0 and box.right <= width:
                    yield candidate


def _box(choice: Placed) -> Box:
    length = text_width(choice.anchor.text)
    left = choice.x - length if choice.leftward else choice.x
    return Box(left, choice.y - HEIGHT / 2, left + length, choice.y + HEIGHT / 2)


def stacked(middles: Sequence[float], gap: float, height: float) -> list[float]:
    """Heights for names in one column, in the given order: each near its own middle, none closer than `gap`.

    Names that would touch become a block around the mean of their middles. Where there is no room for all between 0
    and `height`, they lie as close as there is.
    """
    gap = min(gap, height / max(len(middles), 1))
    order = sorted(range(len(middles)), key=lambda index: (middles[index], index))
    blocks: list[tuple[float, list[int]]] = []
    for index in order:
        centre, members = _inside(middles[index], 1, gap, height), [index]
        while blocks and centre - blocks[-1][0] < gap * (len(members) + len(blocks[-1][1])) / 2 - 1e-9:
            members = blocks.pop()[1] + members
            centre = _inside(sum(middles[m] for m in members) / len(members), len(members), gap, height)
        blocks.append((centre, members))
    placed = [0.0] * len(middles)
    for centre, members in blocks:
        for number, index in enumerate(members):
            placed[index] = centre + gap * (number - (len(members) - 1) / 2)
    return placed


def _inside(centre: float, members: int, gap: float, height: float) -> float:
    """The centre of a block, moved so that all of it is between 0 and `height`."""
    half = members * gap / 2
    return min(max(centre, half), height - half)
