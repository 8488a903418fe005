"""Options that commands share, as dataclasses: a command takes a few of them instead of a dozen parameters."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.errors import UserError
from harness.settings import Settings

if TYPE_CHECKING:
    from harness.plugins import Plugins
    from harness.suite import Selection

Database = Annotated[
    str, typer.Option("--db", metavar="URL", help="Leaderboard database: a file or an SQLAlchemy URL.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DATABASE = "leaderboard.db"


@dataclass(frozen=True)
class Places:
    """Where to read from, cache and compute, and what to load beside the built-in plugins."""

    data_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Local mirror of the tasks' data; else HARNESS_DATA, else the hub."),
    ] = None
    models_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of local backbones; else HARNESS_MODELS, else the hub.")
    ] = None
    cache_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Cache of tokens, starts and decompositions; else HARNESS_CACHE.")
    ] = None
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")] = "auto"
    plugin: Annotated[list[Path], typer.Option(metavar="FILE", help="A file with methods or tasks; repeatable.")] = (
        field(default_factory=list)
    )

    def settings(self) -> Settings:
        """Settings with what was given; the rest by environment and default."""
        named = {"data_root": self.data_root, "models_root": self.models_root, "cache_root": self.cache_root}
        given: dict[str, Any] = {name: path for name, path in named.items() if path is not None}
        return dataclasses.replace(
            Settings(), device=self.device, plugin_files=tuple(path.absolute() for path in self.plugin), **given
        )

    def plugins(self) -> Plugins:
        """All methods and tasks, those of the plugin files among them."""
        from harness.plugins import discover

        return discover(self.settings().plugin_files)


@dataclass(frozen=True)
class Choice:
    """Which suite, which part of it, and what to change in it."""

    all: Annotated[bool, typer.Option("--all", help="The whole suite `starter`.")] = False
    suite: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="A built-in suite, or a suite file (TOML).")
    ] = None
    method: Annotated[list[str], typer.Option(metavar="NAME", help="Only this method or row label; repeatable.")] = (
        field(default_factory=list)
    )
    task: Annotated[list[str], typer.Option(metavar="NAME", help="Only this task; repeatable.")] = field(
        default_factory=list
    )
    seed: Annotated[list[int], typer.Option(metavar="N", help="Only this seed; repeatable.")] = field(
        default_factory=list
    )
    train_size: Annotated[
        list[int], typer.Option(metavar="N", help="Only this train size (0: all rows); repeatable.")
    ] = field(default_factory=list)
    grid: Annotated[list[str], typer.Option(metavar="NAME", help="Only this grid of the suite; repeatable.")] = field(
        default_factory=list
    )
    backbone: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="Only this backbone of the suite, or another in their place (one encoder, one decoder); repeatable.",
        ),
    ] = field(default_factory=list)
    set: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUE",
            help="Change a method parameter, a recipe field or train_size; METHOD.KEY for one method.",
        ),
    ] = field(default_factory=list)

    def suite_name(self) -> str:
        """The suite that is meant."""
        if self.all == (self.suite is not None):
            raise UserError("say either --all, or --suite with a name or a file.")
        return self.suite or "starter"

    def selection(self) -> Selection:
        """The part of the suite, and the changes to it."""
        from harness.overrides import parse_overrides
        from harness.suite import Filters, Selection

        filters = Filters(
            methods=tuple(self.method),
            tasks=tuple(self.task),
            seeds=tuple(self.seed),
            train_sizes=tuple(self.train_size),
            backbones=tuple(self.backbone),
            grids=tuple(self.grid),
        )
        return Selection(filters, parse_overrides(self.set))


def expanded(function: Callable[..., None]) -> Callable[..., None]:
    """The command with each parameter that is a dataclass replaced by one option per field, for typer to read."""
    hints = typing.get_type_hints(function, include_extras=True)
    bundles: dict[str, Any] = {name: cls for name, cls in hints.items() if dataclasses.is_dataclass(cls)}

    @functools.wraps(function)
    def command(**values: Any) -> None:
        for name, cls in bundles.items():
            values[name] = cls(**{item.name: values.pop(item.name) for item in dataclasses.fields(cls)})
        function(**values)

    parameters = list(_parameters(inspect.signature(function), hints))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del command.__wrapped__  # type: ignore[attr-defined]
    return command


def _parameters(signature: inspect.Signature, hints: dict[str, Any]) -> Iterator[inspect.Parameter]:
    for parameter in signature.parameters.values():
        cls = hints[parameter.name]
        if not dataclasses.is_dataclass(cls):
            yield parameter.replace(annotation=cls, kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        annotations = typing.get_type_hints(cls, include_extras=True)
        for item in dataclasses.fields(cls):
            yield inspect.Parameter(
                item.name, inspect.Parameter.KEYWORD_ONLY, default=_default(item), annotation=annotations[item.name]
            )


def _default(item: dataclasses.Field[Any]) -> Any:
    """The field's default; none makes the option a required one."""
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return inspect.Parameter.empty if item.default is dataclasses.MISSING else item.default
