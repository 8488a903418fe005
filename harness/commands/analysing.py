"""`analyse`: the papers' tables that are analyses, not grids of trials."""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.options import DATABASE, AsJson, Database, Places, expanded
from harness.commands.output import print_json, print_table
from harness.errors import UserError, unknown

if TYPE_CHECKING:
    from harness.analyses.start_cost import StartCost
    from harness.api import Method

app = typer.Typer(help="Analyse shapes, stored runs and trained weights.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def analyse() -> None:
    """Analyse shapes, stored runs and trained weights."""


@dataclasses.dataclass(frozen=True)
class Model:
    """What to count on."""

    backbone: Annotated[str, typer.Option(metavar="NAME", help="A backbone; `list backbones` names those at hand.")]
    method: Annotated[
        list[str],
        typer.Option(metavar="'NAME [KEY=VALUE ...]'", help="A method with its parameters, 'lora r=8'; repeatable."),
    ]
    set: Annotated[list[str], typer.Option(metavar="KEY=VALUE", help="A parameter of all of them; repeatable.")] = (
        dataclasses.field(default_factory=list)
    )
    length: Annotated[int, typer.Option(metavar="N", help="Tokens of the example.")] = 128
    labels: Annotated[int, typer.Option(metavar="N", min=1, help="Outputs of the head (encoders).")] = 2


@app.command()
@expanded
def inference(model: Model, places: Places, json: AsJson = False) -> None:
    """MACs and FLOPs of one example with each method attached and not merged, from shapes alone."""
    from harness.analyses.inference import inference_costs
    from harness.counts import Shape, natural_kind

    settings = places.settings()
    methods = {text: _method(text, model.set, places) for text in model.method}
    shape = Shape(model.backbone, natural_kind(model.backbone, settings), model.labels)
    costs = inference_costs(shape, methods, model.length, settings)
    if json:
        print_json([{**dataclasses.asdict(cost), "macs": cost.macs} for cost in costs])
        return
    typer.echo(f"{model.backbone}, one example of {model.length} tokens, adapters not merged")
    rows = [
        [cost.label, cost.adapter_params, _giga(cost.macs), _giga(cost.flops), _percent(cost.overhead)]
        for cost in costs
    ]
    print_table(["method", "adapter", "MACs", "FLOPs", "overhead"], rows)
    if any(cost.flops is None for cost in costs):
        typer.echo("\n–: depends on the weights' values; a run counts it.")


@app.command("start-cost")
def start_cost(
    suite: Annotated[str | None, typer.Option(metavar="NAME", help="One suite; else all in the database.")] = None,
    db: Database = DATABASE,
    json: AsJson = False,
) -> None:
    """Seconds of initialisation (SVD, QR, gradient estimate) of stored runs, as shares of a training epoch."""
    from harness.analyses.start_cost import start_costs
    from harness.store import open_store

    with open_store(db, create=False) as store:
        costs = start_costs(store, suite)
    if json:
        print_json([dataclasses.asdict(cost) for cost in costs])
        return
    if not costs:
        typer.echo("no timed run that trained; `python -m harness run --all` makes some.")
    for name in dict.fromkeys(cost.suite for cost in costs):
        typer.echo(f"suite {name}: initialisation against one epoch, mean over seeds, each run within itself")
        _print_start_costs([cost for cost in costs if cost.suite == name])


def _print_start_costs(costs: list[StartCost]) -> None:
    header = ["grid", "task", "size", "method", "runs", "init s", "epoch s", "share", "lowest", "highest"]
    rows = [
        [
            cost.grid,
            cost.task,
            str(cost.train_size or "all"),
            cost.label,
            cost.runs,
            f"{cost.init_seconds:.3g}",
            f"{cost.epoch_seconds:.3g}",
            _percent(cost.share),
            _percent(cost.lowest),
            _percent(cost.highest),
        ]
        for cost in costs
    ]
    print_table(header, rows)


def _method(text: str, shared: list[str], places: Places) -> Method:
    """The method that `'NAME KEY=VALUE ...'` says; what it says of itself goes before `--set`."""
    from harness.overrides import parse_overrides
    from harness.plugins import make_method

    try:
        name, *own = shlex.split(text)
    except ValueError as error:
        raise UserError(f"--method {text!r}: write 'NAME KEY=VALUE ...', as in 'lora r=8' ({error}).") from error
    methods = places.plugins().methods
    if name not in methods:
        raise unknown("method", name, methods)
    values: dict[str, Any] = {item.key: item.value for item in parse_overrides(shared)}
    values |= {item.key: item.value for item in parse_overrides(own)}
    return make_method(methods[name], values, f"--method '{text}'")


def _giga(value: float | None) -> str | None:
    return None if value is None else f"{value / 1e9:,.2f} G"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.3f} %"
