"""`analyse`: the papers' tables that are analyses, not grids of trials."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.exporting import Epoch
from harness.commands.options import DATABASE, AsJson, Database, Places, expanded
from harness.commands.output import print_json, print_table
from harness.errors import UserError, unknown

if TYPE_CHECKING:
    from harness.analyses.start_cost import StartCost
    from harness.analyses.trained_weights import Answer, Question, Subject
    from harness.api import Method

TABLES = {
    "retention": "LoRA-XS, Tables 6, 7, 8: singular values of trained weights",
    "subspaces": "LoRA-XS, Table 9: the update in singular subspaces",
    "start-cost": "LoRA-SB, Table 5: cost of initialisation",
    "inference": "LoRA-SB, Table 6: cost of inference",
}
"""The papers' tables by command."""

app = typer.Typer(
    add_completion=False,
    help="Analyse shapes, stored runs and trained weights.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


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


@app.command()
def stacks(
    suite: Annotated[str | None, typer.Option(metavar="NAME", help="One suite; else all in the database.")] = None,
    db: Database = DATABASE,
    json: AsJson = False,
) -> None:
    """Training seconds of rows on each stack, as ratios to the canary trial there: comparable across stacks."""
    from harness.analyses.stacks import stack_times
    from harness.canary import CANARY
    from harness.store import open_store

    with open_store(db, create=False) as store:
        times = stack_times(store, suite)
    if json:
        print_json([dataclasses.asdict(time) for time in times])
        return
    header = ["suite", "grid", "task", "size", "row", "stack", "runs", "seconds", "x canary"]
    body = [
        [
            t.suite,
            t.grid,
            t.task,
            str(t.train_size or "all"),
            t.label,
            t.stack,
            t.runs,
            f"{t.seconds:.3g}",
            _times(t.ratio),
        ]
        for t in times
    ]
    print_table(header, body)
    unmarked = {time.stack: time.threads for time in times if time.ratio is None}
    for stack, threads in unmarked.items():
        command = f"OMP_NUM_THREADS={threads or 'N'} python -m harness run --suite {CANARY} --pack off --db canary.db"
        typer.echo(f"\n–: the canary was not run on stack {stack}; `{command}` does, alone on that machine; then")
        typer.echo("`bundle` and `merge` bring it here.")


def _times(ratio: float | None) -> str | None:
    return None if ratio is None else f"{ratio:.3g}"


Fractions = Annotated[list[float], typer.Option("--fraction", metavar="F", help="Share kept; repeatable.")]


@dataclasses.dataclass(frozen=True)
class StoredModel:
    """Which trained model, and which of its maps."""

    run: Annotated[str, typer.Argument(metavar="RUN", help="The first digits of a run's id; meant for full training.")]
    targets: Annotated[
        str, typer.Option(metavar="NAMES", help="Families of maps, each taken apart by itself: q,k,v,o,up,down.")
    ] = "q"
    layers: Annotated[str, typer.Option(metavar="SCOPE", help="all, or last:N.")] = "all"
    epoch: Annotated[Epoch, typer.Option(help="The epoch that was best on `select`, or the last.")] = Epoch.SELECTED
    db: Database = DATABASE
    json: AsJson = False

    def question(self, fractions: list[float]) -> Question:
        """What to take apart, checked."""
        from harness.analyses.trained_weights import Question

        families = tuple(name.strip() for name in self.targets.split(",") if name.strip())
        question = Question(families, tuple(fractions), self.layers)
        question.check()
        return question


@app.command()
@expanded
def retention(model: StoredModel, places: Places, fraction: Fractions = [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1]) -> None:  # noqa: B006
    """Test scores with only the top, middle or bottom singular triplets of a run's trained weights kept."""
    from harness.analyses.trained_weights import retention as analysis

    _take_apart(model, places, model.question(fraction), analysis)


@app.command()
@expanded
def subspaces(model: StoredModel, places: Places, fraction: Fractions = [0.01, 0.1, 0.25, 0.5]) -> None:  # noqa: B006
    """Test scores with only the part of a run's weight update that lies in some singular directions of W."""
    from harness.analyses.trained_weights import subspaces as analysis

    _take_apart(model, places, model.question(fraction), analysis)


def _take_apart(
    chosen: StoredModel,
    places: Places,
    question: Question,
    analysis: Callable[[Subject, Question], Iterator[Answer]],
) -> None:
    from harness.analyses.trained_weights import Subject
    from harness.export.trained import rebuild, stored_state
    from harness.store import open_store

    with open_store(chosen.db, create=False) as store:
        wanted = stored_state(store, store.run(chosen.run), chosen.epoch.value)
    trial = wanted.trial
    typer.echo(f"run {wanted.run_id}, epoch {wanted.epoch}: {trial.method} on {trial.task}", err=True)
    trained = rebuild(wanted, places.settings())
    subject = Subject.of(trained)
    answers = list(analysis(subject, question))
    if chosen.json:
        facts = {"run": wanted.run_id, "epoch": wanted.epoch, "method": trial.method, "task": trial.task}
        measured = {"metric": trained.bench.task.metrics[0], "score": subject.score, "agreement": trained.agreement}
        print_json({**facts, **measured, "answers": [dataclasses.asdict(answer) for answer in answers]})
        return
    typer.echo(
        f"{trained.bench.task.metrics[0]} x 100 on the test sets (share of the squared norm kept); "
        f"whole: {100 * subject.score:.1f}; {trained.agreement:.2%} of the run's predictions came out again"
    )
    _print_answers(answers, question.fractions)


def _print_answers(answers: list[Answer], fractions: tuple[float, ...]) -> None:
    cells = {(item.family, item.part, item.fraction): item for item in answers}
    rows: list[list[str]] = []
    for family, part in dict.fromkeys((item.family, item.part) for item in answers):
        found = [cells[family, part, fraction] for fraction in fractions]
        rows.append([family, part, *(f"{100 * item.score:.1f} ({100 * item.energy:.0f} %)" for item in found)])
    print_table(["maps", "kept", *(f"{fraction:g}" for fraction in fractions)], rows)


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
