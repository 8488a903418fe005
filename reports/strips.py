"""The small dot-and-whisker drawing in each table row: averages side by side on one scale."""

from __future__ import annotations

from dataclasses import dataclass

from reports.views import Board

WIDTH = 96
"""Pixels; x positions run from 0 to WIDTH."""
MARGIN = 8


@dataclass(frozen=True)
class Strip:
    """One row's drawing: its average and one spread each way, in pixels; `below` marks one left of the scale."""

    x: float
    low: float
    high: float
    below: bool


def strips(board: Board) -> dict[str, Strip]:
    """The drawing of each row that has an average, by label. The scale spans the contenders' averages."""
    scaled = [row for row in board.contenders if row.average.mean is not None] or [
        row for row in board.rows if row.average.mean is not None
    ]
    ends = [(row.average.mean or 0.0) + s * (row.average.spread or 0.0) for row in scaled for s in (-1, 1)]
    if not ends:
        return {}
    low, width = min(ends), max(max(ends) - min(ends), 0.005)

    def pixel(value: float) -> float:
        inside = MARGIN + (value - low) / width * (WIDTH - 2 * MARGIN)
        return round(min(max(inside, MARGIN / 2), WIDTH - MARGIN / 2), 1)

    found = {}
    for row in board.rows:
        if (mean := row.average.mean) is not None:
            spread = row.average.spread or 0.0
            found[row.label] = Strip(pixel(mean), pixel(mean - spread), pixel(mean + spread), mean < low)
    return found
