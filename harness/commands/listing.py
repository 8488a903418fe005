"""`list`: what there is to name. `params`: what a method trains on a backbone."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.commands.analysing import TABLES
from harness.commands.options import AsJson, Places, expanded
from harness.commands.output import print_json, print_table
from harness.errors import UserError, unknown


class Listed(StrEnum):
    """What `list` can list."""

    METHODS = "methods"
    TASKS = "tasks"
    SUITES = "suites"
    BACKBONES = "backbones"


@expanded
def list_command(
    places: Places,
    what: Annotated[Listed | None, typer.Argument(help="Only these.")] = None,
    json: AsJson = False,
) -> None:
    """List methods, tasks, suites with the analyses beside them, and backbones."""
    listers = {
        Listed.METHODS: _methods,
        Listed.TASKS: _tasks,
        Listed.SUITES: _suites,
        Listed.BACKBONES: _backbones,
    }
    found = {str(kind): lister(places) for kind, lister in listers.items() if what in (None, kind)}
    if what in (None, Listed.SUITES):  # with the suites, all of the papers' tables are named
        found["analyses"] = [{"command": f"analyse {name}", "title": title} for name, title in TABLES.items()]
    if json:
        print_json(found)
        return
    for kind, items in found.items():
        typer.echo(kind)
        columns = [name for name in (items[0] if items else {}) if name != "parameters"]
        rows = [["", *(_text(item[name]) for name in columns)] for item in items]
        print_table(["", *columns], rows)
        typer.echo("")


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list | tuple) else str(value)


def _methods(places: Places) -> list[dict[str, Any]]:
    methods = places.plugins().methods
    single = [
        {
            "name": name,
            "title": cls.title,
            "formula": cls.formula,
            "paper": cls.paper,
            "parameters": {item.name: item.default for item in dataclasses.fields(cls)},
        }
        for name, cls in sorted(methods.items())
    ]
    families = [
        {"name": f"{prefix}:NAME", "title": family.title, "formula": "", "paper": "", "parameters": {}}
        for prefix, family in sorted(methods.families.items())
    ]
    return single + families


def _tasks(places: Places) -> list[dict[str, Any]]:
    tasks = places.plugins().tasks
    single = [
        {"name": name, "title": task.title, "version": task.version, "kind": task.kind, "metrics": task.metrics}
        for name, task in sorted(tasks.items())
    ]
    families = [
        {"name": f"{prefix}:NAME", "title": family.title, "version": "", "kind": "", "metrics": ()}
        for prefix, family in sorted(tasks.families.items())
    ]
    return single + families


def _suites(places: Places) -> list[dict[str, Any]]:
    from harness.built_in_suites import suite_names
    from harness.suite_file import load_suite

    plugins = places.plugins()
    suites = [load_suite(name, plugins) for name in suite_names()]
    return [
        {"name": suite.name, "title": suite.title, "tasks": len(suite.tasks), "methods": len(suite.methods)}
        for suite in suites
    ]


def _backbones(places: Places) -> list[dict[str, Any]]:
    from harness.backbones import bundled_names
    from harness.shipped import config_names, find_shipped

    root = places.settings().models_root
    found = [(name, "ships with weights") for name in bundled_names()]
    found += [(name, f"below {root}") for name in (_below(root) if root else [])]
    shipped = [item for name in config_names() if (item := find_shipped(name))]
    found += [(item.name, f"ships its dimensions; weights: {item.hub_id}") for item in shipped]
    return [{"name": name, "where": where} for name, where in found]


def _below(root: Path) -> list[str]:
    """Names of the backbones in a models root: folders with a config.json, one or two levels deep."""
    if not root.is_dir():
        raise UserError(f"the models root {root} is not a folder; check --models-root and HARNESS_MODELS.")
    files = [*root.glob("*/config.json"), *root.glob("*/*/config.json")]
    return sorted(str(file.parent.relative_to(root)) for file in files)


@dataclasses.dataclass(frozen=True)
class Model:
    """What to count on."""

    backbone: Annotated[str, typer.Option(metavar="NAME", help="A backbone; `list backbones` names those at hand.")]
    method: Annotated[str, typer.Option(metavar="NAME", help="A method.")]
    set: Annotated[list[str], typer.Option(metavar="KEY=VALUE", help="A parameter of the method; repeatable.")] = (
        dataclasses.field(default_factory=list)
    )
    labels: Annotated[int, typer.Option(metavar="N", min=1, help="Outputs of the head (encoders).")] = 2


@expanded
def params(model: Model, places: Places, json: AsJson = False) -> None:
    """Count what a method trains on a backbone, from shapes alone: no weights, no training."""
    from harness.counts import Shape, count, natural_kind
    from harness.overrides import parse_overrides
    from harness.plugins import make_method

    methods = places.plugins().methods
    if model.method not in methods:
        raise unknown("method", model.method, methods)
    values = {override.key: override.value for override in parse_overrides(model.set)}
    method = make_method(methods[model.method], values, "--set")
    settings = places.settings()
    kind = natural_kind(model.backbone, settings)
    counts = count(method, Shape(model.backbone, kind, model.labels), settings)
    summary: dict[str, Any] = {
        "backbone": model.backbone,
        "method": model.method,
        "parameters": dataclasses.asdict(method),
        "adapter_params": counts.adapter_params,
        "head_params": counts.head_params,
        "trainable_params": counts.trainable_params,
        "total_params": counts.total_params,
        "maps": [dataclasses.asdict(item) for item in counts.maps],
    }
    if json:
        print_json(summary)
        return
    names = ("adapter_params", "head_params", "trainable_params", "total_params")
    print_table(["count", model.backbone], [[name, summary[name]] for name in names])
    if counts.maps:
        typer.echo("")
        rows = [[item.module, f"{item.shape[0]} x {item.shape[1]}", item.adapter_params] for item in counts.maps]
        print_table(["map", "shape", "adapter_params"], rows)
    if counts.adapter_params is None:
        typer.echo("\n–: depends on the weights' values; a run counts it.")
