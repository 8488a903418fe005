"""`check`: the conformance kit on plugins."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.options import AsJson, Places, expanded
from harness.commands.output import print_json
from harness.errors import unknown
from harness.overrides import parse_overrides

if TYPE_CHECKING:
    from harness.checks import Verdict
    from harness.plugins import Plugins

_SIGNS = {"passed": "ok", "failed": "FAILED", "exempt": "exempt"}


@expanded
def check(
    places: Places,
    what: Annotated[
        str | None, typer.Argument(metavar="NAME|FILE", help="A method, a task or a plugin file; else all methods.")
    ] = None,
    set: Annotated[list[str], typer.Option(metavar="KEY=VALUE", help="Change a method parameter.")] = [],  # noqa: B006
    json: AsJson = False,
) -> None:
    """Check that plugins keep their promises; exit code 1 if one does not."""
    found = {name: list(verdicts) for name, verdicts in _checked(places, what, set)}
    if json:
        print_json({name: [dataclasses.asdict(verdict) for verdict in verdicts] for name, verdicts in found.items()})
    else:
        for name, verdicts in found.items():
            _print(name, verdicts)
    if any(verdict.status == "failed" for verdicts in found.values() for verdict in verdicts):
        raise typer.Exit(1)


def _checked(places: Places, what: str | None, changes: list[str]) -> Iterator[tuple[str, list[Verdict]]]:
    from harness.api import DataRoot
    from harness.checks import check_method, check_task

    if what is not None and what.endswith(".py"):
        places = dataclasses.replace(places, plugin=[*places.plugin, Path(what)])
    plugins = places.plugins()
    names = _names(plugins, what)
    parameters = _parameters(changes)
    root = DataRoot(places.settings().data_root)
    for name in names:
        if name in plugins.methods:
            yield name, check_method(plugins.methods[name], parameters)
        else:
            yield name, check_task(plugins.tasks[name], root)


def _names(plugins: Plugins, what: str | None) -> list[str]:
    if what is None:
        return sorted(plugins.methods)
    if what.endswith(".py"):
        return [name for name, origin in plugins.origins.items() if Path(origin).absolute() == Path(what).absolute()]
    if what not in plugins.origins:
        raise unknown("plugin", what, plugins.origins)
    return [what]


def _parameters(changes: list[str]) -> dict[str, Any]:
    return {item.key: item.value for item in parse_overrides(changes)}


def _print(name: str, verdicts: list[Verdict]) -> None:
    typer.echo(name)
    for verdict in verdicts:
        typer.echo(f"  {_SIGNS[verdict.status]:<7} {verdict.check}" + (f": {verdict.reason}" if verdict.reason else ""))
    if not verdicts:
        typer.echo("  nothing to check: it has no model")
