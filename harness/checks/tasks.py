"""Checks of task plugins: each a function of a task and its rows that raises `Broken` if it does not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from harness import metrics
from harness.api import DataRoot, GenerationTask, Task
from harness.checks.verdicts import Broken, NotApplicable
from harness.data import content_hash, load_task
from harness.evaluation import references

if TYPE_CHECKING:
    import pandas as pd

TOKENS = 512
"""What most encoders can read at once."""
_FITTING = 0.95
_TOKENS_PER_WORD = 1.4
_CONSTANT_SCORES = {"matthews": 0.0, "pearson": 0.0, "spearman": 0.0}


@dataclass(frozen=True)
class Specimen:
    """A task and where its rows come from."""

    task: Task
    root: DataRoot

    @cached_property
    def rows(self) -> dict[str, pd.DataFrame]:
        """Train, select and the test sets, validated as before a run."""
        found = load_task(self.task, self.root)
        return {"train": found.train, "select": found.select, **found.tests}

    @cached_property
    def tests(self) -> dict[str, pd.DataFrame]:
        return {split: self.rows[split] for split in self.task.tests}


Check = Callable[[Specimen], None]


def rows_are_legal(specimen: Specimen) -> None:
    """Every split has unique ids, its text columns, and labels within their range."""
    for split, frame in specimen.rows.items():
        if frame["id"].duplicated().any():
            raise Broken("unique ids", f"'{frame['id'][frame['id'].duplicated()].iloc[0]}' twice in {split}", "read")
    _legal_labels(specimen)


def _legal_labels(specimen: Specimen) -> None:
    task = specimen.task
    for split, frame in specimen.rows.items():
        labels = frame["label"]
        if task.kind == "classification" and not labels.isin(range(len(task.labels))).all():
            raise Broken(f"labels 0 to {len(task.labels) - 1}", f"{sorted(set(labels))[:4]} in {split}", "read, labels")
        if task.kind == "regression" and not labels.between(*task.label_range).all():
            raise Broken(f"labels in {task.label_range}", f"{labels.min()} to {labels.max()} in {split}", "label_range")


def reads_the_same_twice(specimen: Specimen) -> None:
    """A second `read` gives the same rows in the same order."""
    first, second = (specimen.task.read(specimen.root) for _ in range(2))
    for split in ("train", *specimen.task.tests):
        if content_hash(first[split]) != content_hash(second[split]):
            raise Broken("the same rows twice", f"other rows in {split}", "read: seed whatever is random")


def splits_are_disjoint(specimen: Specimen) -> None:
    """No test row, by its texts, is a training or selection row."""
    seen = _texts(specimen, specimen.rows["train"]) | _texts(specimen, specimen.rows["select"])
    for split, frame in specimen.tests.items():
        shared = seen & _texts(specimen, frame)
        if shared:
            example = " / ".join(sorted(shared)[0])[:80]
            raise Broken(f"no row of {split} among the training rows", f"{len(shared)}, such as '{example}'", "read")


def encodes_every_row(specimen: Specimen) -> None:
    """`encode` gives text for every row, and nearly all of it fits into common backbones."""
    for split, frame in specimen.rows.items():
        lengths = []
        for row in _records(frame):
            text = specimen.task.encode(row)
            parts = [text.first] if text.second is None else [text.first, text.second]
            if not all(isinstance(part, str) and part.strip() for part in parts):
                raise Broken("text for every row", f"{parts!r} for row {row['id']} of {split}", "encode")
            lengths.append(sum(len(part.split()) for part in parts) * _TOKENS_PER_WORD)
        fitting = sum(length <= TOKENS for length in lengths) / len(lengths)
        if fitting < _FITTING:
            raise Broken(
                f"{_FITTING:.0%} of rows in {TOKENS} tokens", f"{fitting:.0%} of {split}", "encode: what to leave out"
            )


def hides_its_labels(specimen: Specimen) -> None:
    """What the model reads does not change with the label."""
    for row in _records(specimen.tests[specimen.task.tests[0]].head(50)):
        if specimen.task.encode(row) != specimen.task.encode({**row, "label": _another(specimen.task, row["label"])}):
            raise Broken("encode to leave the label out", f"another text with another label, row {row['id']}", "encode")


def scores_an_oracle_with_one(specimen: Specimen) -> None:
    """Predicting the labels scores 1 by every metric."""
    for split, frame in specimen.tests.items():
        labels = references(specimen.task, frame)
        for name in specimen.task.metrics:
            value = metrics.compute(name, labels, labels)
            if abs(value - 1) > 1e-9:
                raise Broken(f"{name} 1 on {split} for its own labels", f"{value:.4f}", "metrics, and label variety")


def scores_a_constant_with_the_baseline(specimen: Specimen) -> None:
    """Predicting one value scores its share, or no correlation."""
    for split, frame in specimen.tests.items():
        labels = references(specimen.task, frame)
        constant = max(set(labels), key=labels.count)
        expected = _CONSTANT_SCORES | dict.fromkeys(("accuracy", "exact_match"), labels.count(constant) / len(labels))
        for name in specimen.task.metrics:
            value = metrics.compute(name, [constant] * len(labels), labels)
            if name in expected and abs(value - expected[name]) > 1e-9:
                raise Broken(f"{name} {expected[name]:.4f} on {split} for a constant", f"{value:.4f}", "metrics")


def averages_to_its_score(specimen: Specimen) -> None:
    """Where a metric is a mean over rows, the mean of right and wrong is the score."""
    names = {"accuracy", "exact_match"} & set(specimen.task.metrics)
    if not names:
        raise NotApplicable("none of its metrics is a mean over rows")
    for frame in specimen.tests.values():
        labels = references(specimen.task, frame)
        shifted = labels[1:] + labels[:1]
        right = [
            metrics.correct(specimen.task.kind, guess, label) for guess, label in zip(shifted, labels, strict=True)
        ]
        for name in names:
            value = metrics.compute(name, shifted, labels)
            if abs(value - sum(map(bool, right)) / len(right)) > 1e-9:
                raise Broken(f"{name} to be the mean over rows", f"{value:.4f}", "extract, labels")


def answers_survive_extraction(specimen: Specimen) -> None:
    """`extract` finds the label in the answer that training shows, and none in an empty output."""
    task = specimen.task
    if not isinstance(task, GenerationTask):
        raise NotApplicable("it is not answered in text")
    for row in _records(specimen.rows["train"].head(200)):
        answer = task.answer(row)
        if task.extract(answer) != str(row["label"]):
            raise Broken("the label in every answer", f"{answer!r} of row {row['id']}", "answer and extract")
    if task.extract("") is not None:
        raise Broken("None for an empty output", repr(task.extract("")), "extract")


CHECKS: tuple[Check, ...] = (
    rows_are_legal,
    reads_the_same_twice,
    splits_are_disjoint,
    encodes_every_row,
    hides_its_labels,
    scores_an_oracle_with_one,
    scores_a_constant_with_the_baseline,
    averages_to_its_score,
    answers_survive_extraction,
)
"""In the order in which they are run. A check's name is its function's."""


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", frame.to_dict("records"))


def _texts(specimen: Specimen, frame: pd.DataFrame) -> set[tuple[str, ...]]:
    found = (specimen.task.encode(cast(Mapping[str, Any], row)) for row in _records(frame))
    return {(text.first,) if text.second is None else (text.first, text.second) for text in found}


def _another(task: Task, label: Any) -> Any:
    if task.kind == "classification":
        return (int(label) + 1) % len(task.labels)
    if task.kind == "regression":
        return task.label_range[0] if label != task.label_range[0] else task.label_range[1]
    return f"{label}1"
