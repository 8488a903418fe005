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

    def get(self, digest: str, check: form.Check, what: str) -> list[Any]:
        """The list with this hash; UserError if not all in it passes the check for `what`."""
        name = f"arrays/{digest}.json"
        if name not in self._members:
            raise UserError(f"{self._where} lacks {name}, which a run refers to.")
        values = read_json(self._members.read(name), f"{self._where}: {name}")
        if not isinstance(values, list) or not all(map(check, values)):
            raise UserError(f"{self._where}: {name} is not a list of {what}.")
        return values


def predictions_of(place: str, item: list[Any], arrays: Arrays, task: TaskInfo) -> Predictions:
    """One run's predictions on one split after one epoch."""
    split, epoch, *digests = item
    check, what = VALUES[task.kind]
    ids = arrays.get(digests[0], form.text, "texts, as ids are")
    labels, values = (arrays.get(digest, check, f"{what}, as {task.kind} has them") for digest in digests[1:])
    if not len(ids) == len(labels) == len(values):
        raise UserError(f"{place}: {len(ids)} ids, {len(labels)} labels and {len(values)} predictions on {split}.")
    return Predictions(split, epoch, ids, labels, values)
