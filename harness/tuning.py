"""Equal tuning budgets: a search of so many trials for every row, the winner by `select` alone, then fresh seeds.

A search is a suite of its own, `NAME.search`: a row for each configuration that is tried. What it chooses joins the
suite itself as a row `LABEL-tuned` beside the default one. Test scores choose nothing.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.api import Baseline, Method
from harness.errors import UserError, unknown
from harness.fields import field_names
from harness.plugins import Plugins
from harness.trial import Recipe

if TYPE_CHECKING:
    import pandas as pd

    from harness.suite import MethodEntry, Selection, Suite

SEARCH = ".search"
TUNED = "-tuned"


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds, both above 0, drawn evenly on a logarithmic scale."""

    low: float
    high: float
    whole: bool = False
    """Whether the values are whole numbers."""

    def draw(self, generator: random.Random) -> float | int:
        """One value, to three significant digits."""
        value = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        return round(value) if self.whole else float(f"{value:.2e}")


Space = Mapping[str, Sequence[Any] | Range]
"""What may be chosen for each method parameter or recipe field."""


@dataclass(frozen=True)
class Tuning:
    """The section [tuning] of a suite."""

    budget: int
    """Trials that each row may spend on each task, for each seed of the search."""
    how: Literal["random", "grid"]
    seeds: tuple[int, ...]
    """Of the search; none of the suite's own."""
    grids: tuple[str, ...]
    """Grids whose rows are tuned."""
    space: Space = field(default_factory=dict)
    """For every row, as far as its method has the parameters."""


def search_suite(suite: Suite, plugins: Plugins) -> Suite | None:
    """The suite of all configurations that are tried; None if the suite tunes nothing."""
    if suite.tuning is None:
        return None
    _check_shared_keys(suite, plugins)
    tried: dict[str, list[MethodEntry]] = {}
    for entry in suite.methods:
        tried[entry.label] = [
            _candidate(entry, number, choice, plugins)
            for number, choice in enumerate(configurations(suite, entry, plugins), start=1)
        ]
    grids = []
    for grid in suite.grids:
        labels = tuple(other.label for label in grid.methods for other in tried[label])
        if grid.name in suite.tuning.grids and labels:
            grids.append(replace(grid, methods=labels, seeds=suite.tuning.seeds))
    if not grids:
        raise UserError(f"{suite.where}, [tuning]: no row of its grids has anything to choose; give it a space.")
    methods = tuple(entry for entries in tried.values() for entry in entries)
    name, title = suite.name + SEARCH, f"{suite.title}: the search"
    return replace(suite, name=name, title=title, rank_by="selected", methods=methods, grids=tuple(grids), tuning=None)


def configurations(suite: Suite, entry: MethodEntry, plugins: Plugins) -> list[dict[str, Any]]:
    """What is tried for one row, at most the budget; empty for a row without a space. The same on every machine."""
    tuning = suite.tuning
    assert tuning is not None
    cls = plugins.methods[entry.name]
    if issubclass(cls, Baseline):
        return []  # nothing to train
    known = {*field_names(cls), *field_names(Recipe)}
    space = {key: values for key, values in {**tuning.space, **entry.space}.items() if key in known}
    if not space:
        return []
    if tuning.how == "grid":
        points = [dict(zip(space, values, strict=True)) for values in itertools.product(*_lists(space, suite, entry))]
        if len(points) > tuning.budget:
            raise UserError(
                f"{suite.where}, [[method]] '{entry.label}': its grid has {len(points)} points, the budget is "
                f"{tuning.budget}; narrow the space or draw at random."
            )
        return points
    generator = random.Random(f"tuning/{tuning.seeds[0]}/{entry.label}")
    drawn: list[dict[str, Any]] = []
    for _ in range(100 * tuning.budget):
        point = {
            key: values.draw(generator) if isinstance(values, Range) else generator.choice(values)
            for key, values in space.items()
        }
        if point not in drawn:
            drawn.append(point)
        if len(drawn) == tuning.budget:
            break
    return drawn


def search_selection(selection: Selection, search: Suite) -> Selection | None:
    """The part of the search that a part of its suite asks for: rows by their label there; the seeds are its own.

    None if that part of the suite tunes nothing.
    """
    filters = selection.filters
    wanted = set(filters.methods)
    labels = tuple(entry.label for entry in search.methods if wanted & {entry.name, _row(entry.label)})
    grids = tuple(grid.name for grid in search.grids if grid.name in filters.grids)
    if (wanted and not labels) or (filters.grids and not grids):
        return None
    return replace(selection, filters=replace(filters, methods=labels, grids=grids, seeds=()))


def chosen(suite: Suite, results: pd.DataFrame, plugins: Plugins) -> dict[tuple[str, str], dict[str, Any]]:
    """The configuration with the best mean on `select` for each (row label, task), the earliest of equals.

    One counts only if all its trials ended well: a mean over those that did would reward luck.
    results: rows of `harness.scoring.results` of the search: label, task, status, select_selected.
    """
    well = (results["status"] == "ok") & results["select_selected"].notna()
    whole = well.groupby([results["task"], results["label"]]).transform("all")
    best: dict[tuple[str, str], tuple[float, int]] = {}
    means = results[whole].groupby(["task", "label"])["select_selected"].mean().reset_index()
    for record in means.to_dict("records"):
        task, label = str(record["task"]), str(record["label"])
        row, number = _row(label), int(label.rpartition("#")[2])
        candidate = (float(record["select_selected"]), -number)
        best[row, task] = max(best.get((row, task), candidate), candidate)
    entries = {entry.label: entry for entry in suite.methods}
    tried = {label: configurations(suite, entries[label], plugins) for label in {row for row, _ in best}}
    return {(row, task): tried[row][-number - 1] for (row, task), (_, number) in best.items()}


def tuned_suite(suite: Suite, choices: Mapping[tuple[str, str], Mapping[str, Any]], plugins: Plugins) -> Suite:
    """The suite with a row `LABEL-tuned` beside every row that has a choice, on the tasks that have one."""
    assert suite.tuning is not None
    rows: list[MethodEntry] = []
    for entry in suite.methods:
        of_tasks = {task: choice for (label, task), choice in choices.items() if label == entry.label}
        if of_tasks:
            rows.append(_tuned(entry, of_tasks, plugins))
    grids = []
    for grid in suite.grids:
        joining = [row for row in rows if row.label.removesuffix(TUNED) in grid.methods]
        labels = tuple(row.label for row in joining) if grid.name in suite.tuning.grids else ()
        grids.append(replace(grid, methods=grid.methods + labels))
    return replace(suite, methods=suite.methods + tuple(rows), grids=tuple(grids))


def _tuned(entry: MethodEntry, of_tasks: Mapping[str, Mapping[str, Any]], plugins: Plugins) -> MethodEntry:
    parameters, recipes = dict(entry.task_parameters), dict(entry.task_recipes)
    for task, choice in of_tasks.items():
        for_method, for_recipe = _split(entry, choice, plugins)
        parameters[task] = {**parameters.get(task, {}), **for_method}
        recipes[task] = {**recipes.get(task, {}), **for_recipe}
    label = entry.label + TUNED
    return replace(
        entry, label=label, task_parameters=parameters, task_recipes=recipes, tasks=tuple(of_tasks), printed=None
    )


def _candidate(entry: MethodEntry, number: int, choice: Mapping[str, Any], plugins: Plugins) -> MethodEntry:
    """The row of the search that tries one configuration on every task."""
    for_method, for_recipe = _split(entry, choice, plugins)
    return replace(
        entry,
        label=f"{entry.label}#{number}",
        parameters={**entry.parameters, **for_method},
        recipe={**entry.recipe, **for_recipe},
        task_parameters={task: {**values, **for_method} for task, values in entry.task_parameters.items()},
        task_recipes={task: {**values, **for_recipe} for task, values in entry.task_recipes.items()},
        printed=None,
    )


def _split(entry: MethodEntry, choice: Mapping[str, Any], plugins: Plugins) -> tuple[dict[str, Any], dict[str, Any]]:
    """A configuration as method parameters and recipe fields; a parameter goes before a recipe field of its name."""
    own = field_names(plugins.methods[entry.name])
    for_method = {key: value for key, value in choice.items() if key in own}
    return for_method, {key: value for key, value in choice.items() if key not in own}


def _row(label: str) -> str:
    return label.rpartition("#")[0]


def _lists(space: Space, suite: Suite, entry: MethodEntry) -> list[Sequence[Any]]:
    for key, values in space.items():
        if isinstance(values, Range):
            raise UserError(f"{suite.where}, [[method]] '{entry.label}': a grid needs a list for '{key}', not a range.")
    return [values for values in space.values() if not isinstance(values, Range)]


def _check_shared_keys(suite: Suite, plugins: Plugins) -> None:
    """Raise UserError for a key of the shared space that neither a recipe nor any method of the suite has."""
    assert suite.tuning is not None
    known = {name for entry in suite.methods for name in field_names(plugins.methods[entry.name])}
    for key in suite.tuning.space:
        if key not in known | set(field_names(Recipe)):
            raise unknown("parameter", key, known | set(field_names(Recipe)), f"{suite.where}, [tuning.space]")


def make_space(values: Mapping[str, Any], where: str) -> dict[str, Sequence[Any] | Range]:
    """A space from TOML: lists of values, or tables with low and high."""
    space: dict[str, Sequence[Any] | Range] = {}
    for key, choices in values.items():
        if isinstance(choices, list) and choices:
            space[key] = choices
        elif isinstance(choices, dict) and set(choices) == {"low", "high"}:
            space[key] = _range(choices["low"], choices["high"], f"{where}.{key}")
        else:
            raise UserError(f"{where}.{key} = {choices!r} must be a list of values, or {{ low = ..., high = ... }}.")
    return space


def check_space(space: Space, cls: type[Method], where: str) -> None:
    """Raise UserError for a key that is neither a parameter of the method nor a recipe field."""
    known = {*field_names(cls), *field_names(Recipe)}
    for key in space:
        if key not in known:
            raise unknown("parameter", key, known, where)


def _range(low: Any, high: Any, where: str) -> Range:
    numbers = [value for value in (low, high) if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < 2 or not 0 < low < high:
        raise UserError(f"{where}: low = {low!r}, high = {high!r} must be numbers with 0 < low < high.")
    return Range(float(low), float(high), whole=isinstance(low, int) and isinstance(high, int))
