"""Dataclasses from plain values, strictly: an unknown key or a wrong type is a UserError that says where it stands."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from harness.errors import UserError, unknown
from harness.trial import Recipe, Start

_DECLARED: WeakKeyDictionary[type[Any], Mapping[str, Any]] = WeakKeyDictionary()
_WORDS = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false", dict: "a table"}


def field_names(cls: type[Any]) -> tuple[str, ...]:
    """The names of a dataclass's fields, in order."""
    return tuple(item.name for item in dataclasses.fields(cls))


def declared(cls: type[Any]) -> Mapping[str, Any]:
    """The declared type of each attribute of a class. Kept: a register of claims asks for few classes, often."""
    if cls not in _DECLARED:
        _DECLARED[cls] = typing.get_type_hints(cls)
    return _DECLARED[cls]


def checked(cls: type[Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`values` as fit for `cls`: known keys only, of the declared types, whole numbers made floats where declared."""
    hints, known = declared(cls), field_names(cls)
    result: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise unknown("key", key, known, where)
        if not fits(value, hints[key]):
            raise UserError(f"{where}: {key} = {value!r} must be {describe(hints[key])}.")
        result[key] = float(value) if hints[key] is float else value
    return result


def fits(value: Any, hint: Any) -> bool:
    """Whether a TOML value is of a field's declared type; true and false are no numbers. What is no class fits all."""
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        number = isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
        return number and (hint is int or math.isfinite(value))
    return isinstance(value, hint) if isinstance(hint, type) else True


def describe(hint: Any) -> str:
    """A declared type in plain words."""
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(hint))
    return _WORDS.get(hint, str(hint))


def make_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """The recipe with defaults filled in, every value in its range."""
    recipe = Recipe(**checked(Recipe, values, where))
    ranges = {
        "epochs": (recipe.epochs >= 1, "at least 1"),
        "batch_size": (recipe.batch_size >= 1, "at least 1"),
        "length_pool": (recipe.length_pool >= 1, "at least 1"),
        "accumulation": (
            recipe.accumulation >= 1 and recipe.batch_size % recipe.accumulation == 0,
            f"at least 1 and divide batch_size = {recipe.batch_size}",
        ),
        "learning_rate": (recipe.learning_rate >= 0, "at least 0"),
        "head_learning_rate": (recipe.head_learning_rate > 0, "above 0"),
        "weight_decay": (recipe.weight_decay >= 0, "at least 0"),
        "warmup_ratio": (0 <= recipe.warmup_ratio < 1, "in [0, 1)"),
        "clip": (recipe.clip >= 0, "at least 0"),
        "max_length": (recipe.max_length >= 4, "at least 4"),
        "backbone_dropout": (recipe.backbone_dropout == -1 or 0 <= recipe.backbone_dropout < 1, "-1 or in [0, 1)"),
        "eval_batch_size": (recipe.eval_batch_size >= 1, "at least 1"),
        "select_rows": (recipe.select_rows >= 0, "at least 0"),
        "shards": (recipe.shards >= 1, "at least 1"),
        "forgetting_tokens": (recipe.forgetting_tokens >= 0, "at least 0"),
        "forgetting_sha256": (bool(recipe.forgetting) or not recipe.forgetting_sha256, "the hash of a text: name it"),
    }
    for key, (good, demand) in ranges.items():
        if not good:
            raise UserError(f"{where}: {key} = {getattr(recipe, key)} must be {demand}.")
    return recipe


def make_start(values: Mapping[str, Any], where: str) -> Start:
    """The start of a grid: `{}` is pretrained; a warm-up says its epochs and learning rate."""
    start = Start(**checked(Start, values, where))
    if start.kind == "pretrained" and (start.epochs or start.learning_rate):
        raise UserError(f'{where}: a pretrained start takes no epochs and no learning_rate; say kind = "warmup".')
    if start.kind != "pretrained" and (start.epochs < 1 or start.learning_rate <= 0):
        raise UserError(f"{where}: a {start.kind} start needs epochs >= 1 and learning_rate > 0.")
    named = start.task or start.what != "model" or start.train_size
    if start.kind != "transfer" and named:
        raise UserError(f'{where}: task, what and train_size belong to a transfer; say kind = "transfer".')
    if start.kind == "transfer" and not start.task:
        raise UserError(f'{where}: a transfer needs the task to come from: task = "...".')
    if start.train_size < 0:
        raise UserError(f"{where}: train_size = {start.train_size} must be at least 0.")
    return start
