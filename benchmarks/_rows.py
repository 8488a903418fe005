"""Rows for benchmarks, laid out as a mirror of GLUE, so that the harness's own tasks read them.

Lengths of synthetic rows follow MRPC and RTE: their quantiles in tokens of BERT's uncased vocabulary, special tokens
included. Every word is one token in that vocabulary and in the bundled starter's alike. The label can be learned: a
positive row draws more of its words from the first half of the list.
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

_TEXT = """
about above again air almost also ancient animal answer apple arm art asked baker bar beach bed before began
behind believe beside best better big black blue boat book both bottle bowl boy bread bridge bring broken
brother brown business butcher buy call came camp captain car care carried carry castle cave chair cheap chest
child choose church clean clear clerk cliff coat cold country
"""
WORDS = _TEXT.split()
PROBABILITY = 0.65
"""Share of a positive row's words that come from the first half of `WORDS`; of a negative row's from the second."""
SPECIAL = 4
"""Special tokens of a pair in RoBERTa's format; BERT's has three."""


@dataclass(frozen=True)
class Shape:
    """How long a task's rows are, and how long their second texts."""

    test_rows: int
    quantiles: tuple[int, ...]
    """Tokens at `LEVELS`."""
    second: float
    """Share of a row's words in its second text."""


LEVELS = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
SHAPES = {
    "mrpc": Shape(408, (19, 32, 36, 44, 53, 62, 70, 74, 83, 103), 0.5),
    "rte": Shape(277, (13, 29, 33, 43, 56, 85, 135, 157, 197, 289), 0.2),
}
"""By the name of the task whose place they take: of the published training and validation sets."""


def length_at(shape: Shape, level: float) -> int:
    """Tokens at a quantile level in [0, 1], linear between the known ones."""
    upper = max(1, min(bisect.bisect_left(LEVELS, level), len(LEVELS) - 1))
    low, high = shape.quantiles[upper - 1], shape.quantiles[upper]
    share = (level - LEVELS[upper - 1]) / (LEVELS[upper] - LEVELS[upper - 1])
    return round(low + share * (high - low))


def synthetic(shape: Shape, count: int, seed: int) -> pd.DataFrame:
    """`count` rows with the columns of GLUE's pair tasks."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        label = number % 2
        words = _words(max(2, length_at(shape, draw.random()) - SPECIAL), label, draw)
        cut = max(1, len(words) - max(1, round(shape.second * len(words))))
        rows.append((number, label, " ".join(words[:cut]), " ".join(words[cut:])))
    return pd.DataFrame(rows, columns=["idx", "label", "sentence1", "sentence2"])


def _words(count: int, label: int, draw: random.Random) -> list[str]:
    half = len(WORDS) // 2
    halves = (WORDS[half:], WORDS[:half]) if label else (WORDS[:half], WORDS[half:])
    return [draw.choice(halves[draw.random() < PROBABILITY]) for _ in range(count)]


def write_mirror(folder: Path, tasks: Sequence[str], rows: int, tests: int, source: Path | None) -> None:
    """Files of `rows` training rows (and what the harness cuts off for `select`) and `tests` test rows for each task.

    source: a mirror of the real tasks, whose first rows are taken; None makes rows up. tests: 0 takes the real number.
    """
    for task in tasks:
        shape = SHAPES[task]
        train = rows + rows // 8 + 1  # a tenth goes to `select`
        for split, count in (("train", train), ("validation", tests or shape.test_rows)):
            file = folder / "glue" / task / f"{split}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            if source is None:
                frame = synthetic(shape, count, seed=len(split))
            else:
                frame = pd.read_parquet(source / "glue" / task / f"{split}.parquet").head(count)
            frame.to_parquet(file)
