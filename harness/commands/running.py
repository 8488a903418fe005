"""`plan` and `run`."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.faults import Faults
from harness.commands.machines import Where
from harness.commands.options import DATABASE, AsJson, Choice, Database, Places, expanded
from harness.commands.output import print_json, print_table
from harness.commands.separating import Further, print_separation
from harness.errors import UserError
from harness.settings import Settings

if TYPE_CHECKING:
    from harness.campaign import Request
    from harness.contests import OpenPair
    from harness.estimates import PlanRow
    from harness.execution import Outcome


NEAREST = 3
"""Pairs that a plan names."""


@dataclass(frozen=True)
class Manner:
    """How to run."""

    db: Database = DATABASE
    jobs: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="Trials at a time; auto: one per core (at most 4), one on a GPU; with ray what its nodes carry.",
        ),
    ] = "auto"
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no leaderboard.")] = False
    json: AsJson = False
    keep_adapters: Annotated[
        bool,
        typer.Option("--keep-adapters", help="Keep trained tensors in the cache, for `export`."),
    ] = False
    checkpointing: Annotated[
        str,
        typer.Option(
            metavar="auto|recipe",
            help="auto: gradient checkpointing also where a GPU's memory is estimated not to suffice.",
        ),
    ] = "auto"
    compile: Annotated[
        str, typer.Option(metavar="auto|off", help="auto: measure steps through torch.compile, keep what is quicker.")
    ] = "off"
    whole_batches: Annotated[
        bool, typer.Option("--whole-batches", help="Never compute a batch in parts of similar length, as a CPU does.")
    ] = False
    pack: Annotated[
        str,
        typer.Option(
            metavar="auto|N|off|verify",
            help="Trials that share the steps of one model; auto: as many as pay and fit; verify: some also run alone.",
        ),
    ] = "auto"

    def job_count(self) -> int:
        """Trials at a time; 0 for automatic."""
        if self.jobs == "auto":
            return 0
        if not self.jobs.isdecimal() or int(self.jobs) < 1:
            raise UserError(f"--jobs {self.jobs}: give a number from 1 on, or auto.")
        return int(self.jobs)

    def applied(self, settings: Settings) -> Settings:
        """The settings with what was said here."""
        for name, said, known in (
            ("checkpointing", self.checkpointing, ("auto", "recipe")),
            ("compile", self.compile, ("auto", "off")),
        ):
            if said not in known:
                raise UserError(f"--{name} {said}: say {known[0]} or {known[1]}.")
        return dataclasses.replace(
            settings,
            keep_adapters=self.keep_adapters,
            pack=self.pack,
            split_batches=not self.whole_batches,
            checkpointing=self.checkpointing,  # type: ignore[arg-type]
            compile=self.compile,  # type: ignore[arg-type]
        )


@expanded
def run(choice: Choice, places: Places, manner: Manner, where: Where, faults: Faults, further: Further) -> None:
    """Run what is missing of a suite, and print its leaderboard. Exit code 1 if a trial did not end well."""
    from harness.campaign import execute
    from harness.progress import make_reporter

    request = _request(choice, places, manner.db, manner.job_count())
    goal = further.goal()
    settings = faults.applied(manner.applied(request.settings))
    cluster = where.cluster(settings)
    request = dataclasses.replace(request, settings=settings, goal=goal, conduct=faults.conduct(), cluster=cluster)
    with _termination_interrupts():
        info, outcome = execute(request, lambda tasks: make_reporter(tasks, manner.quiet))
    if manner.json:
        print_json({"suite": info.name, **dataclasses.asdict(outcome)})
    elif not manner.quiet and not outcome.cut_short:
        _print_leaderboard(manner.db, info.name)
        if goal is not None:
            print_separation(outcome, goal.margin)
    typer.echo(_summary(outcome, manner.db), err=True)
    if not outcome.all_well:
        raise typer.Exit(1)


@expanded
def plan(choice: Choice, places: Places, db: Database = DATABASE, json: AsJson = False) -> None:
    """Show what `run` would do: trials, parameters, estimated cost, and what is done. Trains nothing.

    Of rows that have been run: about how many more seeds separate those that are not separated yet, nearest first.
    """
    from harness.campaign import finished_trials, make_plan, pairs_to_separate
    from harness.estimates import Estimator, plan_as_dict

    request = _request(choice, places, db, jobs=0)
    plans = make_plan(request)
    estimator = Estimator(plans.plugins, request.settings, _pace(request))
    rows = list(estimator.rows(plans.info, finished_trials(db, plans.info.members)))
    first = plans.search
    search = [] if first is None else list(estimator.rows(first, finished_trials(db, first.members)))
    pairs = pairs_to_separate(db, plans)
    if json:
        data = {**plan_as_dict(plans.info.name, rows), "not_separated": [dataclasses.asdict(pair) for pair in pairs]}
        print_json(data if first is None else {**data, "search": plan_as_dict(first.name, search)})
        return
    if first is not None:
        _print_plan(first.name, search)
    _print_plan(plans.info.name, rows)
    _print_pairs(pairs)


def _request(choice: Choice, places: Places, db: str, jobs: int) -> Request:
    from harness.campaign import Request

    return Request(choice.suite_name(), choice.selection(), places.settings(), db, jobs)


def _summary(outcome: Outcome, db: str) -> str:
    trials = "trial" if outcome.ok == 1 else "trials"
    counts = f"{outcome.ok} {trials} ended well, {outcome.failed} did not, {outcome.skipped} were done before"
    if outcome.elsewhere:
        counts += f", {outcome.elsewhere} were run by another driver"
    if outcome.passed_over:
        counts += f", {outcome.passed_over} ended badly before and were not tried again"
    if outcome.stopped:
        counts += f"; stopped at the first bad end, {outcome.left} are left"
    if outcome.interrupted:
        return f"interrupted: {counts}, {outcome.left} are left; the same command goes on where this one stopped."
    advice = f"; `python -m harness show RUN --db {db}` tells why" if outcome.failed else ""
    return f"{counts}{advice}."


def _print_leaderboard(db: str, suite: str) -> None:
    from harness.commands.reporting import print_leaderboards
    from harness.store import open_store

    with open_store(db, create=False) as store:
        print_leaderboards(store, suite)


def _pace(request: Request) -> float | None:
    from harness.database import Database as Connections
    from harness.estimates import measured_pace
    from harness.store import open_store

    path = Connections(request.db).path
    if path is not None and not path.exists():
        return None
    with open_store(request.db, create=False) as store:
        return measured_pace(store, request.settings)


def _print_plan(name: str, rows: list[PlanRow]) -> None:
    from harness.estimates import totals

    header = ["grid", "task", "method", "backbone", "trials", "done", "adapter", "head"]
    header += ["est. FLOPs", "est. time", "est. memory"]
    papers = any(row.printed_as for row in rows)
    header += ["paper prints"] if papers else []
    body: list[list[str | int | None]] = [
        [
            row.grid,
            row.task,
            row.label,
            row.backbone,
            row.trials,
            row.done,
            row.adapter_params,
            row.head_params,
            _flops(row.train_flops),
            _time(row.seconds),
            _memory(row.memory_bytes),
            *([_printed(row)] if papers else []),
        ]
        for row in rows
    ]
    total: dict[str, Any] = dict(totals(rows))
    typer.echo(f"suite {name}")
    print_table(header, body)
    typer.echo(
        f"\n{total['trials']} trials, {total['done']} done; to go: {_flops(total['train_flops'])} training FLOPs, "
        f"{_time(total['seconds'])} one at a time (estimates)."
    )
    if any(row.adapter_params is None for row in rows):
        typer.echo("adapter –: needs weights; a run counts it.")
    if total["train_flops"] is None:
        typer.echo("FLOPs unknown: the data are not at hand; name a mirror with --data-root.")
    elif total["seconds"] is None:
        typer.echo("time unknown: no run in the database was measured on this stack.")


def _print_pairs(pairs: list[OpenPair]) -> None:
    """The nearest pairs in a line each, the others in one."""
    near = [pair for pair in pairs[:NEAREST] if pair.seeds is not None]
    for pair in near:
        seeds = "1 more seed separates" if pair.seeds == 1 else f"{pair.seeds} more seeds separate"
        typer.echo(f"about {seeds} {pair.first} from {pair.second} ({pair.grid}).")
    if rest := len(pairs) - len(near):
        hopeless = sum(pair.seeds is None for pair in pairs)
        say = f"; no number of seeds is expected to separate {hopeless} of them" if hopeless else ""
        typer.echo(f"{rest} {'more ' if near else ''}{'pair is' if rest == 1 else 'pairs are'} not separated{say}.")


def _printed(row: PlanRow) -> str | None:
    verdict = {True: "agrees", False: "differs", None: "needs weights"}[row.printed_agrees]
    return f"{row.printed_as} ({verdict})" if row.printed_as else None


def _flops(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1e}"


def _memory(value: int | None) -> str:
    return "unknown" if value is None else f"{value / 1e9:.2f} GB"


def _time(seconds: float | None) -> str:
    from harness.progress import duration

    return "unknown" if seconds is None else duration(seconds)


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """A polite request to end (SIGTERM) ends like Ctrl-C: what is under way is recorded, workers are stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
