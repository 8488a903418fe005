"""Suites: a named grid of trials. Read from TOML by `harness.suite_file`, planned into trials here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.api import DataRoot, parameters_of
from harness.backbones import resolve
from harness.errors import UserError, unknown
from harness.fields import make_recipe
from harness.held_out import read_text, text_hash
from harness.overrides import Override, split_overrides
from harness.plugins import Plugins, make_method
from harness.printed import PrintedCount
from harness.records import Member, SuiteInfo
from harness.reshaping import with_backbones, with_train_size
from harness.settings import Settings
from harness.trial import Backbone, Recipe, Start, Trial
from harness.tuning import Space, Tuning

MAIN = "main"
"""The grid that the leaderboard's table is made of."""


@dataclass(frozen=True)
class TaskEntry:
    """A task of a suite, and the backbone it is solved with."""

    name: str
    backbone: str
    revision: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    train_size: int = 0
    """Rows that a grid's train size 0 stands for; 0 means all that the task has."""
    replaced: bool = False
    """Whether `backbone` is not the suite's own but one that the user put in its place."""


@dataclass(frozen=True)
class MethodEntry:
    """A row of a suite: a method with parameters under a label, and what its training changes in the recipe."""

    name: str
    label: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    task_recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    task_parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Parameters that differ on single tasks."""
    space: Space = field(default_factory=dict)
    """What a search may choose for this row, beside the suite's shared space."""
    tasks: tuple[str, ...] = ()
    """Tasks that the row is for; empty for all."""
    printed: PrintedCount | None = None
    """The parameter count that a paper prints for this row on the suite's own backbone."""


@dataclass(frozen=True)
class Grid:
    """Every task x method x train size x seed of a list each, from one start.

    `methods` holds labels. A method that requires another start is named here only by mistake (an error); a
    grid that names no methods takes every method that its start allows.
    """

    name: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    train_sizes: tuple[int, ...] = (0,)
    start: Start = field(default_factory=Start)
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """A validated suite file."""

    name: str
    title: str
    description: str
    rank_by: str
    where: str
    """The file it was read from, for messages."""
    recipe: Mapping[str, Any]
    tasks: tuple[TaskEntry, ...]
    methods: tuple[MethodEntry, ...]
    grids: tuple[Grid, ...]
    tuning: Tuning | None = None


@dataclass(frozen=True)
class Filters:
    """The part of a suite to plan; an empty tuple leaves its axis whole. Methods go by label or by name.

    A backbone that is none of the suite's own takes the place of those: see `harness.reshaping`.
    """

    methods: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    train_sizes: tuple[int, ...] = ()
    backbones: tuple[str, ...] = ()
    grids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """What of a suite is wanted: filters narrow it, overrides change it (and with it the name it is recorded by)."""

    filters: Filters = field(default_factory=Filters)
    overrides: tuple[Override, ...] = ()

    def suite_name(self, name: str, backbones: Sequence[str] = ()) -> str:
        """The name to record under: `NAME[key=value,...]` with overrides, so that tables are never mixed.

        backbones: all that were named, where one of them takes another's place.
        """
        changes = [*(f"backbone={backbone}" for backbone in backbones), *map(str, self.overrides)]
        return f"{name}[{','.join(sorted(changes))}]" if changes else name


def plan(suite: Suite, selection: Selection, settings: Settings, plugins: Plugins) -> SuiteInfo:
    """The trials of the selected part of `suite`, in the order of its file; nothing at all is a UserError."""
    suite = with_grids(suite, selection.filters.grids)
    suite = with_guests(suite, selection.filters.methods, plugins)
    suite = with_train_size(suite, selection.overrides)
    check_filters(suite, selection.filters)
    suite, backbones = with_backbones(suite, selection.filters.backbones, settings, plugins)
    planner = _Planner(suite, selection, settings, plugins)
    members = tuple(member for grid in suite.grids for member in planner.members(grid))
    if not members:
        raise UserError(f"no trial of suite '{suite.name}' fits all the filters at once; drop one of them.")
    name = selection.suite_name(suite.name, backbones)
    whole = selection.filters == Filters()
    title = f"{suite.title} {name.removeprefix(suite.name).replace(',', ', ')}".rstrip()  # no paper's table, if changed
    return SuiteInfo(name, title, suite.description, suite.rank_by, members, _printed(suite), whole)


def _printed(suite: Suite) -> dict[tuple[str, str], PrintedCount]:
    """Printed counts by task and label; a count was printed for the suite's own backbone and holds for no other."""
    return {
        (task.name, method.label): method.printed
        for task in suite.tasks
        for method in suite.methods
        if method.printed is not None and not task.replaced
    }


def with_grids(suite: Suite, names: Collection[str]) -> Suite:
    """The suite with those of its grids that are named, all of them if none is; a name that it lacks is a UserError."""
    _require(names, [grid.name for grid in suite.grids], "grid", f"suite '{suite.name}'")
    return replace(suite, grids=tuple(grid for grid in suite.grids if not names or grid.name in names))


def with_guests(suite: Suite, names: Collection[str], plugins: Plugins) -> Suite:
    """The suite with every plugin of `names` that it lacks: a row of its first grid, by the suite's own recipe."""
    there = {name for entry in suite.methods for name in (entry.name, entry.label)}
    guests = tuple(MethodEntry(name, name) for name in names if name not in there and name in plugins.methods)
    first, *others = suite.grids
    for guest in guests:
        required = plugins.methods[guest.name].requires_start
        if required not in ("", first.start.kind):
            raise UserError(
                f"method '{guest.name}' requires the start '{required}'; name it in a grid of a suite file."
            )
    first = replace(first, methods=first.methods + tuple(guest.label for guest in guests))
    return replace(suite, methods=suite.methods + guests, grids=(first, *others))


def check_filters(suite: Suite, filters: Filters) -> None:
    """Raise UserError for a filter that names something the suite does not have."""
    where = f"suite '{suite.name}'"
    methods = {name for entry in suite.methods for name in (entry.name, entry.label)}
    _require(filters.methods, methods, "method", where)
    _require(filters.tasks, {entry.name for entry in suite.tasks}, "task", where)
    _require_number(filters.seeds, {seed for grid in suite.grids for seed in grid.seeds}, "seed", where)
    sizes = {size for grid in suite.grids for task in suite.tasks for size in _sizes(grid, task)}
    _require_number(filters.train_sizes, sizes, "train size", where, " To change them all, --set train_size=N.")


def _sizes(grid: Grid, task: TaskEntry) -> list[int]:
    """The grid's train sizes on one task, each once."""
    return list(dict.fromkeys(size or task.train_size for size in grid.train_sizes))


def _require(wanted: Collection[str], known: Collection[str], kind: str, where: str) -> None:
    for name in wanted:
        if name not in known:
            raise unknown(kind, name, known, where)


def _require_number(wanted: Collection[int], known: Collection[int], kind: str, where: str, advice: str = "") -> None:
    for number in wanted:
        if number not in known:
            raise UserError(f"{where} has no {kind} {number}; it has: {', '.join(map(str, sorted(known)))}.{advice}")


class _Planner:
    """Makes trials of one suite; backbones and methods are resolved once each."""

    def __init__(self, suite: Suite, selection: Selection, settings: Settings, plugins: Plugins) -> None:
        self._suite = suite
        self._filters = selection.filters
        self._settings = settings
        self._plugins = plugins
        self._tasks = [entry for entry in suite.tasks if self._wants_task(entry)]
        self._methods = [entry for entry in suite.methods if self._wants_method(entry)]
        classes = {entry.label: plugins.methods[entry.name] for entry in self._methods}
        self._set = split_overrides(selection.overrides, classes)
        self._parameters: dict[tuple[str, str], dict[str, Any]] = {
            (entry.label, task.name): self._configured(entry, task) for entry in self._methods for task in self._tasks
        }
        self._backbones: dict[tuple[str, str], Backbone] = {}
        self._texts: dict[str, str] = {}

    def members(self, grid: Grid) -> Iterator[Member]:
        """The grid's trials in file order: task, method, train size, seed."""
        for task in self._tasks:
            if task.name not in grid.tasks:
                continue
            for method in self._methods:
                if method.label in grid.methods and task.name in (method.tasks or (task.name,)):
                    for trial in self._trials(grid, task, method):
                        yield Member(grid.name, method.label, trial)

    def _trials(self, grid: Grid, task: TaskEntry, method: MethodEntry) -> Iterator[Trial]:
        layers = (
            self._suite.recipe,
            task.recipe,
            method.recipe,
            method.task_recipes.get(task.name, {}),
            grid.recipe,
            self._set[method.label].recipe,
        )
        merged = {key: value for layer in layers for key, value in layer.items()}
        recipe = make_recipe(merged, f"{self._suite.where}, recipe of '{method.label}' on '{task.name}'")
        recipe = self._fitting(recipe, task.name, f"{self._suite.where}, recipe of '{method.label}'")
        start = self._start(grid, task)
        for size in _sizes(grid, task):
            for seed in grid.seeds:
                if self._wants_size_and_seed(size, seed):
                    yield Trial(
                        backbone=self._backbone(task),
                        task=task.name,
                        task_version=self._plugins.tasks[task.name].version,
                        method=method.name,
                        parameters=self._parameters[method.label, task.name],
                        recipe=recipe,
                        seed=seed,
                        train_size=size,
                        start=start,
                    )

    def _fitting(self, recipe: Recipe, task: str, where: str) -> Recipe:
        """The recipe with the hash of its held-out text; UserError for what only tasks answered in text can have."""
        kind = self._plugins.tasks[task].kind
        for key in ("packing", "chat_template", "forgetting"):
            if getattr(recipe, key) and kind != "generation":
                raise UserError(f"{where}: {key} is for tasks answered in text; '{task}' is {kind}.")
        if not recipe.forgetting:
            return recipe
        if recipe.forgetting not in self._texts:
            text = read_text(recipe.forgetting, DataRoot(self._settings.data_root))
            self._texts[recipe.forgetting] = text_hash(text)
        found = replace(recipe, forgetting_sha256=self._texts[recipe.forgetting])
        if recipe.forgetting_sha256 not in ("", found.forgetting_sha256):
            raise UserError(
                f"{where}: the text '{recipe.forgetting}' has the hash {found.forgetting_sha256}, "
                f"not {recipe.forgetting_sha256}."
            )
        return found

    def _start(self, grid: Grid, task: TaskEntry) -> Start:
        """The grid's start for one task; a transfer must come from another task that the same model can learn."""
        start, tasks = grid.start, self._plugins.tasks
        if start.kind != "transfer":
            return start
        where = f"{self._suite.where}, [[grid]] '{grid.name}', start"
        if start.task not in tasks:
            raise unknown("task", start.task, tasks, where)
        if start.task == task.name:
            raise UserError(f"{where}: task '{task.name}' cannot start from itself; a warmup start is that.")
        if (tasks[start.task].kind == "generation") != (tasks[task.name].kind == "generation"):
            raise UserError(f"{where}: '{start.task}' and '{task.name}' are not answered by the same kind of model.")
        return replace(start, task_version=tasks[start.task].version)

    def _configured(self, entry: MethodEntry, task: TaskEntry) -> dict[str, Any]:
        own = entry.task_parameters.get(task.name, {})
        values = {**entry.parameters, **own, **self._set[entry.label].parameters}
        where = f"{self._suite.where}, [[method]] '{entry.label}'"
        return parameters_of(make_method(self._plugins.methods[entry.name], values, where))

    def _backbone(self, task: TaskEntry) -> Backbone:
        key = (task.backbone, task.revision)
        if key not in self._backbones:
            self._backbones[key] = resolve(task.backbone, self._settings, task.revision)
        return self._backbones[key]

    def _wants_task(self, entry: TaskEntry) -> bool:
        return entry.name in (self._filters.tasks or (entry.name,))

    def _wants_method(self, entry: MethodEntry) -> bool:
        wanted = self._filters.methods
        return not wanted or entry.label in wanted or entry.name in wanted

    def _wants_size_and_seed(self, size: int, seed: int) -> bool:
        filters = self._filters
        return size in (filters.train_sizes or (size,)) and seed in (filters.seeds or (seed,))
