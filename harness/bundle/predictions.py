"""Predictions in a bundle: statistics compute with them unseen, so that each must be what its task's kind gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.bundle import format as form
from harness.bundle.members import Members, read_json
from harness.errors import UserError
from harness.records import Predictions, TaskInfo

VALUES: Mapping[str, tuple[form.Check, str]] = {
    "classification": (form.whole, "class ids"),
    "regression": (form.optional(form.number), "numbers"),
    "generation": (form.text, "texts"),
}
"""What a task of each kind has for labels and predictions."""


class Arrays:
    """The lists of a bundle by their hash."""

    def __init__(self, members: Members, where: str) -> None:
        self._members = members
        self._where = where

    def get(self, digest: str) -> list[Any]:
        """The list with this hash."""
        name = f"arrays/{digest}.json"
        if name not in self._members:
            raise UserError(f"{self._where} lacks {name}, which a run refers to.")
        values = read_json(self._members.read(name), f"{self._where}: {name}")
        if not isinstance(values, list) or not all(
            item is None or form.text(item) or form.number(item) or form.truth(item) for item in values
        ):
            raise UserError(f"{self._where}: {name} is not a list of texts and numbers.")
        return values


def predictions_of(place: str, item: list[Any], arrays: Arrays, task: TaskInfo) -> Predictions:
    """One run's predictions on one split after one epoch."""
    split, epoch, *digests = item
    ids, labels, values = map(arrays.get, digests)
    if not len(ids) == len(labels) == len(values):
        raise UserError(f"{place}: {len(ids)} ids, {len(labels)} labels and {len(values)} predictions on {split}.")
    check, what = VALUES[task.kind]
    if not all(map(check, (*labels, *values))):
        raise UserError(f"{place}: labels or predictions on {split} are not {what}, as {task.kind} has them.")
    return Predictions(split, epoch, ids, labels, values)
