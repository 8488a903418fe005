"""A method and a task from outside: install this folder, or give this file with `--plugin`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from harness.api import DataRoot, Frozen, InitContext, LinearMethod, Parameters, Task, Text, Trainable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Gain(LinearMethod):
    """Rescales each output of a frozen map: y = g * (W x) for a weight without bias, g = 1 at step 0."""

    name: ClassVar[str] = "example_gain"
    title: ClassVar[str] = "Output gain"
    formula: ClassVar[str] = "diag(1 + g) W"

    targets: str = "v,down"

    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        return {"W": Frozen(weight), "g": Trainable(weight.new_zeros(weight.shape[0]))}

    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        return y + (x @ p.W.T) * p.g

    def merge(self, weight: Tensor, p: Parameters) -> Tensor:
        return weight + p.g[:, None] * p.W

    def count(self, m: int, n: int) -> int:
        return m


class Greeting(Task):
    """Does a line greet or take leave?"""

    name = "example_greeting"
    title = "Greeting or farewell"
    kind = "classification"
    labels = ("greeting", "farewell")
    metrics = ("accuracy",)
    columns = ("line",)
    source = "generated"

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        return {"train": _lines("train", 80), "test": _lines("test", 40)}

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["line"])


def _lines(split: str, rows: int) -> pd.DataFrame:
    draw = random.Random(split)
    openings = (("Good morning", "Welcome", "Hello"), ("Good night", "Farewell", "Goodbye"))
    names = ("Anna", "John", "Mary", "Tom")
    records = []
    for index in range(rows):
        label = draw.randrange(2)
        line = f"{draw.choice(openings[label])}, {draw.choice(names)} number {draw.randrange(1000)}."
        records.append({"id": f"{split}-{index}", "line": line, "label": label})
    return pd.DataFrame(records)
