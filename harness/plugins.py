"""Finds methods and tasks: the two folders, installed entry points, files given on the command line.

A plugin file is imported and every concrete subclass of `Method` or `Task` that it defines is taken; names that
begin with an underscore are skipped. Nothing in the harness knows a plugin by name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.api import Kind, Method, MethodFamily, Task, TaskFamily
from harness.api.families import Family, Member
from harness.errors import UserError, unknown
from harness.fields import declared, fits
from harness.metrics import check_metrics
from harness.records import MethodInfo, TaskInfo

ENTRY_POINTS = "peft_harness.plugins"
"""Entry-point group of installed plugins: each names a module whose methods and tasks are taken."""

FOLDERS = ("methods", "tasks")


class Named(dict[str, Member]):
    """Plugins by name. A member of a family (`peft:ADALORA`) is there when it is asked for, and not listed before."""

    def __init__(self) -> None:
        super().__init__()
        self.families: dict[str, Family[Member]] = {}

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and self._family(name) is not None)

    def __missing__(self, name: str) -> Member:
        family = self._family(name)
        if family is None:
            raise KeyError(name)
        self[name] = family.member(name.partition(":")[2])
        return self[name]

    def _family(self, name: str) -> Family[Member] | None:
        prefix, colon, _ = name.partition(":")
        return self.families.get(prefix) if colon else None


@dataclass
class Plugins:
    """All methods and tasks by name, and where each came from."""

    methods: Named[type[Method]] = field(default_factory=Named)
    tasks: Named[Task] = field(default_factory=Named)
    origins: dict[str, str] = field(default_factory=dict)

    def add(self, module: ModuleType, origin: str) -> None:
        """Take the plugins that `module` defines; a name already taken is an error."""
        found = list(_defined(module))
        if not found:
            raise UserError(f"{origin} defines no method and no task: subclass harness.api.Method or harness.api.Task.")
        for cls in found:
            if issubclass(cls, MethodFamily):
                self.methods.families[cls.prefix] = cls()
                continue
            if issubclass(cls, TaskFamily):
                self.tasks.families[cls.prefix] = cls()
                continue
            _require_attributes(cls, origin)
            name = cls.name
            if name in self.origins:
                raise UserError(f"{origin}: the name '{name}' is already taken by {self.origins[name]}; rename yours.")
            if issubclass(cls, Method):
                self.methods[name] = cls
            else:
                self.tasks[name] = cls()
            self.origins[name] = origin


def _require_attributes(cls: type[Method] | type[Task], origin: str) -> None:
    """Raise UserError for a class that does not say all that its base class leaves open."""
    needed = ("name", "title") if issubclass(cls, Method) else ("name", "title", "kind", "metrics")
    for attribute in needed:
        if not getattr(cls, attribute, None):
            raise UserError(
                f"{origin}: class {cls.__name__} has no `{attribute}`; give it a class attribute `{attribute}`."
            )
    if issubclass(cls, Task) and cls.kind not in typing.get_args(Kind):
        raise unknown("kind", str(cls.kind), typing.get_args(Kind), f"{origin}: class {cls.__name__}")
    if issubclass(cls, Task):
        check_metrics(cls.metrics, cls.kind, f"{origin}: class {cls.__name__}")


def discover(files: Sequence[Path] = ()) -> Plugins:
    """Everything that can be named: the folders `methods/` and `tasks/`, entry points, then `files`."""
    plugins = Plugins()
    for folder in FOLDERS:
        package = importlib.import_module(folder)
        for item in sorted(pkgutil.iter_modules(package.__path__), key=lambda item: item.name):
            if not item.name.startswith("_"):
                load = partial(importlib.import_module, f"{folder}.{item.name}")
                origin = f"{folder}/{item.name}.py"
                plugins.add(_guarded(load, f"plugin file {origin}"), origin)
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        plugins.add(_guarded(point.load, f"entry point {point.name}"), f"entry point {point.name}")
    for file in files:
        plugins.add(_load_file(file), str(file))
    return plugins


def make_method(cls: type[Method], values: Mapping[str, Any], where: str = "") -> Method:
    """An instance with defaults filled in; unknown keys, wrong types and bad values are UserErrors."""
    place = f" in {where}" if where else ""
    fields = {item.name: declared(cls)[item.name] for item in dataclasses.fields(cls)}
    for key, value in values.items():
        if key not in fields:
            nearest = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"it takes: {', '.join(fields) or 'nothing'}."
            raise UserError(f"method '{cls.name}' has no parameter '{key}'{place}: {hint}")
        if not fits(value, fields[key]):
            kind = "finite float" if fields[key] is float else getattr(fields[key], "__name__", str(fields[key]))
            raise UserError(f"method '{cls.name}': {key} = {value!r}{place} must be of type {kind}.")
    converted = {key: float(value) if fields[key] is float else value for key, value in values.items()}
    method = cls(**converted)
    method.validate()
    return method


def method_info(cls: type[Method]) -> MethodInfo:
    """What the database keeps of a method."""
    module_doc = inspect.getdoc(inspect.getmodule(cls)) or ""
    summary = (module_doc or inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
    return MethodInfo(cls.name, cls.title, cls.paper, cls.formula, summary, cls.control)


def task_info(task: Task) -> TaskInfo:
    """What the database keeps of a task."""
    return TaskInfo(task.name, task.version, task.title, task.kind, task.metrics, task.tests, task.source)


def _defined(module: ModuleType) -> Iterator[type[Method] | type[Task] | type[MethodFamily] | type[TaskFamily]]:
    for _, cls in sorted(inspect.getmembers(module, inspect.isclass)):
        mine = cls.__module__ == module.__name__ and not cls.__name__.startswith("_")
        if mine and issubclass(cls, Method | Task | MethodFamily | TaskFamily) and not inspect.isabstract(cls):
            yield cls


def _load_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise UserError(f"plugin file {file} does not exist.")
    name = f"harness_plugin_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"plugin file {file} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader = spec.loader

    def execute() -> ModuleType:
        loader.exec_module(module)
        return module

    return _guarded(execute, f"plugin file {file}")


def _guarded(load: typing.Callable[[], ModuleType], what: str) -> ModuleType:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output belongs to the commands
            return load()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        line = str(error).split("\n")[0]
        raise UserError(f"{what} cannot be imported: {type(error).__name__}: {line}") from error
