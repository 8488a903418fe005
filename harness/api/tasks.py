"""The surface of a task: what a plugin subclasses, and where its rows come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["classification", "regression", "generation"]


@dataclass(frozen=True)
class DataRoot:
    """Where tasks read from: a local mirror, if the user named one, else the hub."""

    path: Path | None = None

    def frame(self, hub: HubSource, split: str, mirror: str, columns: Sequence[str] = ()) -> pd.DataFrame:
        """One split as a data frame: `<path>/<mirror>.parquet` if a mirror is set, else from the hub.

        columns: the ones to read (all, if empty); one that the source lacks is a UserError that names it.
        """
        from harness.data import read_frame

        return read_frame(self, hub, split, mirror, columns)


@dataclass(frozen=True)
class HubSource:
    """A data set on the hub at a pinned revision."""

    repository: str
    configuration: str
    revision: str


@dataclass(frozen=True)
class Text:
    """One encoded row before tokenization: a text, and for pair tasks its partner."""

    first: str
    second: str | None = None


class Task(ABC):
    """Data, encoding and score. Class attributes describe it; `read` brings the rows.

    A change of meaning raises `version`; runs of an older version keep theirs.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[int] = 1
    kind: ClassVar[Kind]
    labels: ClassVar[tuple[str, ...]] = ()
    """Class names in label-id order (classification only)."""
    label_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    """Smallest and largest legal label (regression only)."""
    metrics: ClassVar[tuple[str, ...]]
    """Names from `harness.metrics`; the first is the one the board ranks by."""
    tests: ClassVar[tuple[str, ...]] = ("test",)
    """Names of the test sets; the score is the mean over them."""
    columns: ClassVar[tuple[str, ...]]
    """The text columns that `encode` (or `prompt`) reads; checked for presence before training."""
    source: ClassVar[str] = ""
    """Where the data come from, for the site: citation, hub id and revision, or the generator."""
    mirrored: ClassVar[tuple[str, ...]] = ()
    """Files below the data root that `read` needs (without .parquet), for early checks; empty if generated."""

    @abstractmethod
    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        """All rows: "train" and each of `tests`, with columns `id` (unique), `label` and `columns`."""

    def exemptions(self) -> Mapping[str, str]:
        """Checks of `python -m harness check` that this task does not meet, each with its reason."""
        return {}

    @abstractmethod
    def encode(self, row: Mapping[str, Any]) -> Text:
        """The text(s) of one row."""


class GenerationTask(Task):
    """A task answered in text by a decoder: trained on prompt + answer, scored through lm-eval.

    The label of a row is its final answer: what `extract` finds in `answer(row)`.
    """

    kind: ClassVar[Kind] = "generation"
    stop: ClassVar[tuple[str, ...]] = ("\n",)
    max_new_tokens: ClassVar[int] = 16

    @abstractmethod
    def answer(self, row: Mapping[str, Any]) -> str:
        """The text to be generated after `encode(row).first`."""

    def lm_eval_configuration(self) -> Mapping[str, Any] | None:
        """The configuration of a task that lm-eval scores by rules of its own; None: extracted answers are compared.

        Such a task's rows carry lm-eval's document as JSON in the column `document`. The first metric of the
        configuration says which answers are right.
        """
        return None

    def extract(self, text: str) -> str | None:
        """The final answer inside a generated or reference text; None if there is none.

        Answers count as the same if they come out as the same text, so that a task for which several spellings mean
        the same returns one of them for all. None counts as wrong and as unparsed (metric "parsed").
        """
        return text.strip() or None
