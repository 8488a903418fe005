"""The colour and shape that stand for a table row in every chart and table of its suite."""

from __future__ import annotations

from dataclasses import dataclass

COLOURS = ("#2f7ebc", "#cf5f0f", "#12926d", "#b65fa8", "#8a7a00", "#d0455f", "#7a6fd0", "#0f8f9c")
"""Each has a contrast of at least 3:1 on the light and on the dark page; neighbours differ for the colour-blind."""

GREY = "#808792"

SHAPES = (
    "M-1,0A1,1 0 1,1 1,0A1,1 0 1,1 -1,0Z",
    "M-.88,-.88H.88V.88H-.88Z",
    "M0,-1.1L1.05,.8H-1.05Z",
    "M0,-1.2L1.2,0L0,1.2L-1.2,0Z",
    "M0,1.1L1.05,-.8H-1.05Z",
    "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
    "M1.1,0L-.8,1.05V-1.05Z",
    "M-1.1,0L.8,1.05V-1.05Z",
)
"""SVG paths around the origin: circle, square, triangle up, diamond, triangle down, plus, triangles sideways."""


@dataclass(frozen=True)
class Mark:
    """How a row is drawn. Controls are grey and hollow."""

    colour: str
    path: str
    hollow: bool = False

    @property
    def fill(self) -> str:
        return "transparent" if self.hollow else self.colour


def mark_of(label: str, labels: tuple[str, ...], controls: frozenset[str]) -> Mark:
    """The mark of `label` among the suite's `labels`: no two of up to 64 are alike."""
    peers = [name for name in labels if (name in controls) == (label in controls)]
    place = peers.index(label)
    shape = SHAPES[(place + place // len(COLOURS)) % len(SHAPES)]
    if label in controls:
        return Mark(GREY, shape, hollow=True)
    return Mark(COLOURS[place % len(COLOURS)], shape)
