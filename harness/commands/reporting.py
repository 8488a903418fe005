"""`results`, `show`, `site` and `documents`: what is in the database, for reading."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.options import DATABASE, AsJson, Database
from harness.commands.output import print_json, print_table
from harness.errors import UserError
from harness.garbage_collection import rarely_collected

if TYPE_CHECKING:
    from harness.store import RunDetails, Store
    from reports.claims import ClaimLine
    from reports.site import Site


MOST_TABLES = 12
"""Suites whose tables are printed one after the other; more are named."""


def print_leaderboards(store: Store, suite: str | None) -> None:
    """The leaderboard of one suite, or of each in the database; of many suites their names."""
    summaries = store.suites() if suite is None else []
    if len(summaries) > MOST_TABLES:
        print_table(["suite", "trials", "title"], [[item.name, item.trials, item.title] for item in summaries])
        typer.echo(f"\n{len(summaries)} suites: name one with --suite to see its table.")
        return
    from rich.console import Console

    from reports.ranks import first_standings
    from reports.rows import load_suite, load_suites
    from reports.terminal import render_leaderboard
    from reports.views import suite_view

    console = Console()
    suites = load_suites(store) if suite is None else [load_suite(store, suite)]
    for view in map(suite_view, suites):
        render_leaderboard(view, console, first_standings(store, view))
    if not suites:
        typer.echo("no suite in this database yet; `python -m harness run --all` makes one.")


@rarely_collected()
def results(
    suite: Annotated[str | None, typer.Option(metavar="NAME", help="One suite; else all, of many their names.")] = None,
    db: Database = DATABASE,
    json: AsJson = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Print the leaderboard; with --json or --csv, one row per trial.

    The last columns of a trial tell what its table row comes to, all its seeds and tasks together: interval_low and
    interval_high (95 %, on the scale of the scores), rank_best and rank_worst (the ranks that it may hold), unranked
    (why it has none).
    """
    from harness.store import open_store

    if json and csv:
        raise UserError("say --json or --csv, not both.")
    with open_store(db, create=False) as store:
        if not json and not csv:
            print_leaderboards(store, suite)
            return
        from reports.ranks import first_standings, row_standings
        from reports.rows import as_csv, as_json, load_suite, load_suites, rows_as_records
        from reports.views import suite_view

        suites = load_suites(store) if suite is None else [load_suite(store, suite)]
        views = [suite_view(part) for part in suites]
        found = [row_standings(view, first_standings(store, view)) for view in views]
        standings = {place: standing for part in found for place, standing in part.items()}
        rows = [row for part in suites for row in part.rows]
        typer.echo((as_json if json else as_csv)(rows_as_records(rows, standings)).rstrip("\n"))


@rarely_collected()
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The first digits of a run's id.")],
    db: Database = DATABASE,
    json: AsJson = False,
) -> None:
    """Show one run: configuration, scores, cost, provenance, and why it failed if it did."""
    from harness.store import open_store

    with open_store(db, create=False) as store:
        details = store.run(run)
        if json:
            print_json(_run_as_dict(details))
            return
    from rich.console import Console

    from reports.terminal import render_run

    render_run(details, Console())


@rarely_collected()
def site(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")] = Path("site"),
    db: Database = DATABASE,
) -> None:
    """Write the leaderboard as a site that opens from disk, with what became of the papers' claims.

    What has not changed since the last build in the same folder is not made again.
    """
    from reports.plots import engine

    with engine.ahead():  # before all else: it takes longest
        from harness.store import open_store

        with open_store(db, create=False) as store:
            build(store, out)
    typer.echo(out / "index.html")


@rarely_collected()
def build(store: Store, folder: Path, base_url: str = "") -> Site:
    """The site of a database with the claims page. base_url: where it will be, if that is known."""
    from harness.built_in_suites import suite_names
    from reports.site import ClaimSource, build_site

    return build_site(store, folder, ClaimSource(frozenset(suite_names()), _judged_claims), base_url)


def _judged_claims(store: Store) -> list[ClaimLine]:
    from harness.built_in_suites import suite_names
    from harness.claims.evaluation import evaluate
    from harness.claims.evidence import load
    from harness.claims.register import load_claims
    from harness.plugins import discover
    from reports.claims import ClaimLine

    claims = load_claims(discover())
    return [
        ClaimLine(item.id, item.paper, item.reference, item.table, item.quote, found.verdict, found.why)
        for item, found in zip(claims, evaluate(claims, load(store, suite_names())), strict=True)
    ]


@rarely_collected()
def documents(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Markdown files with markers.", show_default=False)
    ] = None,
    db: Database = DATABASE,
) -> None:
    """Bring the numbers between the markers of documents up to date: README.md, docs/findings.md, docs/reproduction.md,
    or those named.

    A marker is a line `<!-- KIND:start suite=NAME -->`, with `<!-- KIND:end -->` after it. KIND: leaderboard, best,
    order, protocols (suite=, and grid= where it is not main), fronts, made (suite=), sizes (suite=, grid=), plot
    (suite=, and folder=), claims.
    """
    from harness.store import open_store
    from reports.blocks import Source
    from reports.documents import update_document

    with open_store(db, create=False) as store:
        source = Source(store, partial(_judged_claims, store))
        for file in files or (Path("README.md"), Path("docs/findings.md"), Path("docs/reproduction.md")):
            changed = update_document(file, source)
            typer.echo(f"{file} {'updated' if changed else 'was up to date'}")


def _run_as_dict(details: RunDetails) -> dict[str, Any]:
    """A run for JSON: dates as text, what is not finite as null."""
    from harness.rows import finite

    record = details.record
    data: dict[str, Any] = finite(dataclasses.asdict(record))
    data["trial"]["id"] = record.trial.id
    data["started_at"], data["finished_at"] = record.started_at.isoformat(), record.finished_at.isoformat()
    del data["predictions"]
    members = [list(member) for member in details.members]
    return {"id": details.id, "stack": details.stack, "origin": details.origin, "members": members, **data}
