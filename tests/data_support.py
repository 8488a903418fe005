"""Toy tasks and rows, shared by the tests of data and of batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from harness.api import DataRoot, GenerationTask, HubSource, Kind, Task, Text

HUB = HubSource("nobody/toy", "toy", "0" * 40)


class Toy(Task):
    """Reads `toy/train` and `toy/test` from a mirror and hands the rows on as they are."""

    name = "toy"
    title = "Toy"
    kind: ClassVar[Kind] = "classification"
    labels = ("no", "yes")
    metrics = ("accuracy",)
    columns = ("text",)
    mirrored = ("toy/train", "toy/test")

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        return {split: root.frame(HUB, split, f"toy/{split}") for split in ("train", "test")}

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["text"])


class Distance(Toy):
    name = "distance"
    kind = "regression"
    label_range = (0.0, 5.0)


class Sum(GenerationTask):
    """A prompt of `row.words` words, answered by one word."""

    name = "sum"
    title = "Sum"
    metrics = ("exact_match",)
    columns = ("text",)
    splits: ClassVar[Mapping[str, pd.DataFrame]] = {}

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        return self.splits

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["text"])

    def answer(self, row: Mapping[str, Any]) -> str:
        return str(row["label"])


def rows(count: int = 40) -> pd.DataFrame:
    texts = [" ".join(f"w{(row + step) % 50}" for step in range(1 + row % 7)) for row in range(count)]
    return pd.DataFrame({"id": range(count), "label": [row % 2 for row in range(count)], "text": texts})
