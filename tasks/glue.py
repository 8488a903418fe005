"""GLUE: eight tasks of English sentence understanding with their official metrics.

Paper   Wang et al. 2019, "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language
        Understanding", arXiv:1804.07461. WNLI is left out, as is usual.
Data    `nyu-mll/glue` on the hub at a pinned revision, or a mirror with the files `glue/<task>/<split>.parquet`
        of the same columns. The labels of GLUE's own test sets are not public: the validation sets are the
        test sets here, and no choice is ever made on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from harness.api import DataRoot, HubSource, Kind, Task, Text

REPOSITORY = "nyu-mll/glue"
REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


class Glue(Task):
    """One task of GLUE. `splits` says which published split each of ours is."""

    kind: ClassVar[Kind] = "classification"
    splits: ClassVar[Mapping[str, str]] = {"train": "train", "test": "validation"}

    def __init_subclass__(cls) -> None:
        cls.source = f"{REPOSITORY} ({cls.name}) at revision {REVISION}"
        cls.mirrored = tuple(f"glue/{cls.name}/{split}" for split in cls.splits.values())

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        return {ours: self._rows(root, published) for ours, published in self.splits.items()}

    def _rows(self, root: DataRoot, split: str) -> pd.DataFrame:
        hub = HubSource(REPOSITORY, self.name, REVISION)
        columns = ("idx", "label", *self.columns)
        frame = root.frame(hub, split, f"glue/{self.name}/{split}", columns)
        return frame.assign(id=frame["idx"].astype(str)).drop(columns="idx")


class CoLA(Glue):
    """Is the sentence acceptable English? Warstadt et al. 2019, arXiv:1805.12471."""

    name = "cola"
    title = "CoLA"
    labels = ("unacceptable", "acceptable")
    metrics = ("matthews",)
    columns = ("sentence",)

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["sentence"])


class SST2(Glue):
    """Is the phrase from a film review positive? Socher et al. 2013, ACL D13-1170."""

    name = "sst2"
    title = "SST-2"
    labels = ("negative", "positive")
    metrics = ("accuracy",)
    columns = ("sentence",)

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["sentence"])


class MRPC(Glue):
    """Do two sentences from the news mean the same? Dolan and Brockett 2005, ACL I05-5002."""

    name = "mrpc"
    title = "MRPC"
    labels = ("not_equivalent", "equivalent")
    metrics = ("accuracy", "f1")
    columns = ("sentence1", "sentence2")

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["sentence1"], row["sentence2"])


class STSB(Glue):
    """How similar are two sentences, from 0 to 5? Cer et al. 2017, arXiv:1708.00055."""

    name = "stsb"
    title = "STS-B"
    kind = "regression"
    label_range = (0.0, 5.0)
    metrics = ("pearson", "spearman")
    columns = ("sentence1", "sentence2")

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["sentence1"], row["sentence2"])


class QQP(Glue):
    """Do two Quora questions ask the same? Iyer et al. 2017, "First Quora Dataset Release: Question Pairs"."""

    name = "qqp"
    title = "QQP"
    labels = ("not_duplicate", "duplicate")
    metrics = ("accuracy", "f1")
    columns = ("question1", "question2")

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["question1"], row["question2"])


class MNLI(Glue):
    """Does the premise entail or contradict the hypothesis? Williams et al. 2018, arXiv:1704.05426.

    Two test sets: genres that occur in training (matched) and genres that do not (mismatched).
    """

    name = "mnli"
    title = "MNLI"
    labels = ("entailment", "neutral", "contradiction")
    metrics = ("accuracy",)
    columns = ("premise", "hypothesis")
    tests = ("test_matched", "test_mismatched")
    splits = {
        "train": "train",
        "test_matched": "validation_matched",
        "test_mismatched": "validation_mismatched",
    }

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["premise"], row["hypothesis"])


class QNLI(Glue):
    """Does the sentence answer the question? From SQuAD: Rajpurkar et al. 2016, arXiv:1606.05250."""

    name = "qnli"
    title = "QNLI"
    labels = ("entailment", "not_entailment")
    metrics = ("accuracy",)
    columns = ("question", "sentence")

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["question"], row["sentence"])


class RTE(Glue):
    """Does the text entail the hypothesis? Dagan et al. 2006 and the RTE challenges up to 2009."""

    name = "rte"
    title = "RTE"
    labels = ("entailment", "not_entailment")
    metrics = ("accuracy",)
    columns = ("sentence1", "sentence2")

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["sentence1"], row["sentence2"])
