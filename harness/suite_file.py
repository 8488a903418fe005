"""Reads a suite from TOML, strictly: whatever is unknown, doubled, mistyped or out of range is one clear UserError.

    name, title, description        the name is what results are recorded under
    rank_by = "selected"            which epoch's score ranks: last, selected, optimistic
    seeds = [0, 1, 2]
    [recipe]                        fields of harness.trial.Recipe
    [[task]]                        name, backbone, revision, recipe; train_size: what a grid's 0 stands for
    [[method]]                      name, label (the row; the name by default), parameters, recipe,
                                    task_recipes, task_parameters = { <task> = { ... } }, space;
                                    printed_params, printed_as: a paper's count
    [tuning]                        budget, how = "random" or "grid", seeds, grids, space: see harness.tuning
    [[grid]]                        name, tasks, methods (labels), seeds, train_sizes, recipe,
                                    start = { kind = "warmup", epochs = 3, learning_rate = 5e-4 }

Recipes are laid over each other: suite, task, method, method's task, grid, `--set`. What a grid leaves out is all of
the suite's; without a [[grid]] there is one, "main", over everything. `harness/suites/` holds examples.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from harness.built_in_suites import SUITES, suite_names
from harness.errors import UserError, unknown
from harness.fields import checked, describe, fits, make_start
from harness.plugins import Plugins, make_method
from harness.printed import make_printed
from harness.suite import MAIN, Grid, MethodEntry, Suite, TaskEntry
from harness.trial import Recipe, Start
from harness.tuning import Tuning, check_space, make_space, search_suite

RANKINGS = ("last", "selected", "optimistic")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Value = TypeVar("Value")


def load_suite(name_or_path: str, plugins: Plugins) -> Suite:
    """A built-in suite by name, or a suite file by path."""
    path = Path(name_or_path).expanduser()
    if path.suffix != ".toml" and not path.is_file():
        path = SUITES / f"{name_or_path}.toml"
        if name_or_path not in suite_names():
            raise unknown("suite", name_or_path, suite_names(), advice="A file's name ends in .toml.")
    suite = read_suite(path, plugins)
    if suite.name in suite_names() and path.resolve().parent != SUITES.resolve():
        raise UserError(f"{path}: the name '{suite.name}' belongs to a built-in suite; give yours another.")
    return suite


def read_suite(path: Path, plugins: Plugins) -> Suite:
    """The suite in the file `path`."""
    root = _Table(_parse(path), str(path))
    name = root.name()
    rank_by = root.take("rank_by", str, "selected")
    if rank_by not in RANKINGS:
        raise unknown("rank_by", rank_by, RANKINGS, str(path))
    tasks = tuple(_task(table, plugins) for table in root.tables("task"))
    _distinct([entry.name for entry in tasks], "task", path)
    task_names = [entry.name for entry in tasks]
    methods = tuple(_method(table, plugins, task_names) for table in root.tables("method"))
    _distinct([entry.label for entry in methods], "method", path, advice="; give one of them a `label`")
    for kind, entries in (("task", tasks), ("method", methods)):
        if not entries:
            raise UserError(f"{path}: no [[{kind}]]; a suite needs at least one.")
    seeds = root.numbers("seeds", (0,))
    reader = _GridReader(task_names, methods, seeds, plugins)
    tables = root.tables("grid") or [_Table({"name": MAIN}, f"{path}, [[grid]] '{MAIN}'")]
    grids = tuple(reader.read(table) for table in tables)
    _distinct([grid.name for grid in grids], "grid", path)
    suite = Suite(
        name=name,
        title=root.take("title", str, name),
        description=root.take("description", str, ""),
        rank_by=rank_by,
        where=str(path),
        recipe=root.recipe("recipe"),
        tasks=tasks,
        methods=methods,
        grids=grids,
        tuning=_tuning(root, grids),
    )
    root.close()
    search_suite(suite, plugins)
    return suite


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"suite file {path} does not exist.") from None
    except OSError as error:
        raise UserError(f"suite file {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"suite file {path} is not valid TOML: {error}.") from error


def _task(table: _Table, plugins: Plugins) -> TaskEntry:
    name = table.known("name", plugins.tasks, "task")
    entry = TaskEntry(
        name,
        backbone=table.take("backbone", str),
        revision=table.take("revision", str, ""),
        recipe=table.recipe("recipe"),
        train_size=table.number("train_size", 0),
    )
    table.close()
    return entry


def _method(table: _Table, plugins: Plugins, task_names: Sequence[str]) -> MethodEntry:
    name = table.known("name", plugins.methods, "method")
    parameters = table.take("parameters", dict, {})
    make_method(plugins.methods[name], parameters, table.where)
    recipes = table.by_task("task_recipes", task_names)
    by_task = table.by_task("task_parameters", task_names)
    for task, values in by_task.items():
        make_method(plugins.methods[name], {**parameters, **values}, f"{table.where}, task_parameters.{task}")
    space = make_space(table.take("space", dict, {}), f"{table.where}, space")
    check_space(space, plugins.methods[name], f"{table.where}, space")
    entry = MethodEntry(
        name,
        table.take("label", str, name),
        parameters,
        table.recipe("recipe"),
        {task: checked(Recipe, values, f"{table.where}, task_recipes.{task}") for task, values in recipes.items()},
        by_task,
        space,
        printed=make_printed(table.number("printed_params", 0), table.take("printed_as", str, ""), table.where),
    )
    table.close()
    return entry


def _tuning(root: _Table, grids: Sequence[Grid]) -> Tuning | None:
    """The section [tuning], if there is one."""
    if not root.has("tuning"):
        return None
    table = _Table(root.take("tuning", dict), f"{root.where}, [tuning]")
    how = table.take("how", str, "random")
    if how not in ("random", "grid"):
        raise unknown("how", how, ("random", "grid"), table.where)
    tuning = Tuning(
        table.number("budget", 0),
        "grid" if how == "grid" else "random",
        table.numbers("seeds", (1000,)),
        table.names("grids", [grid.name for grid in grids], "grid"),
        make_space(table.take("space", dict, {}), f"{table.where}, space"),
    )
    table.close()
    if tuning.budget < 1:
        raise UserError(f"{table.where}: budget = {tuning.budget} must be at least 1 trial.")
    for grid in grids:
        if grid.name in tuning.grids:
            both = sorted(set(grid.seeds) & set(tuning.seeds))
            if both:
                raise UserError(f"{table.where}: seed {both[0]} is grid '{grid.name}'s own; search under other seeds.")
            if len(grid.train_sizes) > 1:
                raise UserError(f"{table.where}: grid '{grid.name}' has several train sizes; tune grids of one.")
    return tuning


class _GridReader:
    """Reads grids against the suite's tasks, methods and seeds."""

    def __init__(
        self, tasks: Sequence[str], methods: Sequence[MethodEntry], seeds: tuple[int, ...], plugins: Plugins
    ) -> None:
        self._tasks = tasks
        self._required = {entry.label: plugins.methods[entry.name].requires_start for entry in methods}
        self._seeds = seeds

    def read(self, table: _Table) -> Grid:
        """One [[grid]]."""
        start = make_start(table.take("start", dict, {}), f"{table.where}, start")
        sizes = table.numbers("train_sizes", (0,))
        grid = Grid(
            name=table.name(),
            tasks=table.names("tasks", self._tasks, "task"),
            methods=self._methods(table, start),
            seeds=table.numbers("seeds", self._seeds),
            train_sizes=sizes,
            start=start,
            recipe=table.recipe("recipe"),
        )
        table.close()
        return grid

    def _methods(self, table: _Table, start: Start) -> tuple[str, ...]:
        named = table.has("methods")
        labels = table.names("methods", list(self._required), "method")
        unfit = [label for label in labels if self._required[label] not in ("", start.kind)]
        if unfit and named:
            raise UserError(
                f"{table.where}: method '{unfit[0]}' requires the start '{self._required[unfit[0]]}', "
                f"but this grid starts from '{start.kind}'; take it out or change the start."
            )
        return tuple(label for label in labels if label not in unfit)


class _Table:
    """One TOML table, read key by key; `close` rejects what nobody asked for."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = values
        self._read: set[str] = set()
        self.where = where

    def has(self, key: str) -> bool:
        """Whether the table holds `key`."""
        self._read.add(key)
        return key in self._values

    def take(self, key: str, kind: type[Value], default: Value | None = None) -> Value:
        """The value of `key`, of type `kind`; without a default it must be there."""
        self._read.add(key)
        if key not in self._values:
            if default is None:
                raise UserError(f"{self.where}: the key '{key}' is missing.")
            return default
        value = self._values[key]
        if not fits(value, kind):
            raise UserError(f"{self.where}: {key} = {value!r} must be {describe(kind)}.")
        return value  # type: ignore[no-any-return]

    def name(self) -> str:
        """The key `name`, fit for a file name and a URL."""
        name = self.take("name", str)
        if not _NAME.fullmatch(name):
            raise UserError(f"{self.where}: name = '{name}' may hold letters, digits, '.', '_' and '-' only.")
        return name

    def known(self, key: str, names: Collection[str], kind: str) -> str:
        """A name that must be one of `names`."""
        name = self.take(key, str)
        if name not in names:
            raise unknown(kind, name, names, self.where)
        return name

    def names(self, key: str, known: Sequence[str], kind: str) -> tuple[str, ...]:
        """A list of names out of `known`, each once; all of them if the key is not there."""
        values = self._list(key, str) if self.has(key) else list(known)
        for value in values:
            if value not in known:
                raise unknown(kind, value, known, f"{self.where}, {key}")
        return tuple(values)

    def number(self, key: str, default: int) -> int:
        """A whole number >= 0."""
        value = self.take(key, int, default)
        if value < 0:
            raise UserError(f"{self.where}: {key} = {value} must be at least 0.")
        return value

    def numbers(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """A list of whole numbers >= 0, each once."""
        values = self._list(key, int) if self.has(key) else list(default)
        for value in values:
            if value < 0:
                raise UserError(f"{self.where}: {key} holds {value}; it must be at least 0.")
        return tuple(values)

    def recipe(self, key: str) -> dict[str, Any]:
        """A table of recipe fields: names and types checked here, ranges once all layers are merged."""
        return checked(Recipe, self.take(key, dict, {}), f"{self.where}, {key}")

    def by_task(self, key: str, tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
        """A table with a table for each of some tasks."""
        values = self.take(key, dict, {})
        for task, inner in values.items():
            if task not in tasks:
                raise unknown("task", task, tasks, f"{self.where}, {key}")
            if not isinstance(inner, dict):
                raise UserError(f"{self.where}, {key}.{task} must be a table.")
        return values

    def tables(self, key: str) -> list[_Table]:
        """The tables of an array `[[key]]`, each with a place that names it."""
        self._read.add(key)
        values = self._values.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise UserError(f"{self.where}: '{key}' must be written as [[{key}]].")
        return [
            _Table(value, f"{self.where}, [[{key}]] '{value.get('label', value.get('name', position))}'")
            for position, value in enumerate(values, start=1)
        ]

    def close(self) -> None:
        """Raise UserError if the table holds a key that was not read."""
        for key in self._values:
            if key not in self._read:
                raise unknown("key", key, self._read, self.where)

    def _list(self, key: str, kind: type[Value]) -> list[Value]:
        self._read.add(key)
        values = self._values[key]
        if not isinstance(values, list) or not all(fits(value, kind) for value in values):
            raise UserError(f"{self.where}: {key} = {values!r} must be a list, each item {describe(kind)}.")
        if not values:
            raise UserError(f"{self.where}: {key} is empty; name at least one, or leave it out.")
        doubled = [value for value in values if values.count(value) > 1]
        if doubled:
            raise UserError(f"{self.where}: {key} names {doubled[0]} twice.")
        return values


def _distinct(names: Sequence[str], kind: str, path: Path, advice: str = "") -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: two [[{kind}]] entries are named '{name}'{advice}.")
