"""`verify`, `rescore` and `doctor`: do the numbers hold, and does the machine?"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import DATABASE, AsJson, Database, Places, expanded
from harness.commands.output import print_json
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.verification import Verification

SHOWN = 8
"""Differences that are printed."""


@expanded
def verify(
    places: Places,
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="The first digits of a run's id.")] = None,
    site: Annotated[Path | None, typer.Option(metavar="DIR", help="Check every number of a built site.")] = None,
    base_url: Annotated[str, typer.Option(metavar="URL", help="The address that the site was built for.")] = "",
    db: Database = DATABASE,
    json: AsJson = False,
) -> None:
    """Repeat a run and compare it with what is stored, or check a site against the database. Stores nothing.

    The repetition is bit-identical, within tolerance (another processor rounds otherwise) or different; recorded inputs
    that have changed since are named. Exit code 1 for a difference.
    """
    if (run is None) == (site is None):
        raise UserError("say which run to repeat, or --site DIR.")
    if site is not None:
        _verify_site(site, base_url, db, json)
        return
    from harness.bundle.writing import all_predictions
    from harness.runner import run_trial
    from harness.store import open_store
    from harness.verification import verify as repeat_and_compare

    with open_store(db, create=False) as store:
        details = store.run(str(run))
        kept = all_predictions(store, details.id)
    plugins, trial = places.plugins(), details.record.trial
    for kind, name, known in (("method", trial.method, plugins.methods), ("task", trial.task, plugins.tasks)):
        if name not in known:
            raise UserError(
                f"run {details.id} needs the {kind} '{name}', which is not here; give its file with --plugin."
            )
    typer.echo(f"run {details.id}: {trial.method} on {trial.task}, seed {trial.seed}, once more", err=True)
    found = repeat_and_compare(details, kept, places.settings(), run_trial)
    if json:
        print_json(dataclasses.asdict(found))
    else:
        _print(found, details.record.costs.pack_trials)
    if found.verdict == "different":
        raise typer.Exit(1)


def _print(found: Verification, pack_trials: int | None) -> None:
    typer.echo(f"run {found.run_id}: {'bit-identical' if found.verdict == 'identical' else found.verdict}")
    for text in found.differences[:SHOWN]:
        typer.echo(f"  {text}")
    if len(found.differences) > SHOWN:
        typer.echo(f"  and {len(found.differences) - SHOWN} more")
    if found.changes:
        typer.echo("inputs that have changed:")
    for change in found.changes:
        typer.echo(f"  {change}")
    if found.verdict != "identical" and not found.changes:
        typer.echo("no recorded input has changed.")
    if found.unrecorded:
        typer.echo(f"not recorded then: {', '.join(found.unrecorded)}")
    if pack_trials is not None:
        typer.echo(f"the run shared the steps of {pack_trials} trials, and was repeated alone.")


def _verify_site(folder: Path, base_url: str, db: str, json: bool) -> None:
    from harness.commands.reporting import build
    from harness.store import open_store
    from reports.checking import compare_sites

    if not (folder / "index.html").is_file():
        raise UserError(f"{folder} holds no site (no index.html); `python -m harness site --out {folder}` builds one.")
    with tempfile.TemporaryDirectory() as scratch:
        again = Path(scratch) / "site"  # what the build keeps for the next one lies beside it
        with open_store(db, create=False) as store:
            build(store, again, base_url)
        found = compare_sites(folder, again)
    if json:
        print_json(dataclasses.asdict(found))
    else:
        for text in found.differences[:SHOWN]:
            typer.echo(text)
        wrong = len(found.differences)
        verdict = f"{wrong} files differ from the database" if wrong else "all as the database gives them"
        typer.echo(f"{found.files} files, {found.numbers} numbers: {verdict}")
    if found.differences:
        raise typer.Exit(1)


def rescore(
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="Add this metric to all runs that can have it.")
    ] = None,
    db: Database = DATABASE,
    json: AsJson = False,
) -> None:
    """Compute stored scores again from kept predictions, or add a metric. Exit code 1 if one differs."""
    from harness import metrics
    from harness.errors import unknown
    from harness.rescoring import rescore as compute
    from harness.store import open_store

    if metric is not None and metric not in metrics.METRIC_NAMES:
        raise unknown("metric", metric, metrics.METRIC_NAMES)
    with open_store(db, create=False) as store:
        found = compute(store, metric)
    if json:
        print_json(dataclasses.asdict(found))
    else:
        for text in found.differing[:SHOWN]:
            typer.echo(text)
        typer.echo(f"{found.runs} runs: {found.agreeing} scores came out again, {len(found.differing)} did not")
        if metric is not None:
            typer.echo(f"{metric}: {found.added} scores added")
        for text in found.unfit:
            typer.echo(f"  not for {text}")
    if found.differing:
        raise typer.Exit(1)


@expanded
def doctor(places: Places, db: Database = DATABASE, json: AsJson = False) -> None:
    """Check machine, versions, caches, mirrors and database; print what would fail. Exit code 1 if something would."""
    from harness.doctor import examine

    findings = examine(places.settings(), db)
    if json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            typer.echo(f"{finding.state.ljust(7)}  {finding.name.ljust(width)}  {finding.detail}")
    if any(finding.state == "FAILS" for finding in findings):
        raise typer.Exit(1)
