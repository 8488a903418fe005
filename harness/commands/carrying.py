"""`bundle`, `merge`, `db copy` and `db salvage`: runs from one database to another."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import DATABASE, AsJson, Database
from harness.commands.output import print_json
from harness.errors import UserError, unknown

if TYPE_CHECKING:
    from harness.store import Store

Origin = Annotated[
    str | None,
    typer.Option("--origin", metavar="NAME", help="Who made the runs that name nobody."),
]

app = typer.Typer(add_completion=False, help="Look after databases.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def databases() -> None:
    """Look after databases."""


def bundle(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as runs.zip.")],
    run: Annotated[list[str], typer.Option(metavar="RUN", help="Only this run; repeatable.")] = [],  # noqa: B006
    suite: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this suite.")] = None,
    origin: Origin = None,
    db: Database = DATABASE,
    json: AsJson = False,
) -> None:
    """Write runs into one file that another database can merge: JSON lines, arrays and hashes, no code."""
    from harness.bundle.writing import write_bundle
    from harness.store import open_store

    _check_origin(origin)
    with open_store(db, create=False) as store:
        run_ids = _chosen(store, run, suite)
        counts = write_bundle(store, run_ids, file, origin)
    if json:
        print_json({"file": str(file), **counts})
        return
    typer.echo(f"{file}: {counts['runs']} runs, {counts['suites']} suites, {counts['arrays']} arrays")


def merge(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle.")],
    origin: Origin = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is new; write nothing.")] = False,
    db: Database = DATABASE,
    json: AsJson = False,
) -> None:
    """Bring the runs of a bundle into a database, all or nothing; what is there stays as it is."""
    from harness.bundle.merging import merge as merge_bundle
    from harness.bundle.reading import read_bundle
    from harness.store import open_store

    _check_origin(origin)
    content = read_bundle(file)
    with open_store(db, create=not dry_run) as store:
        merged = merge_bundle(store, content, origin, dry_run)
    if json:
        print_json(dataclasses.asdict(merged))
        return
    would = "would be " if dry_run else ""
    typer.echo(f"{len(merged.added)} runs {would}added, {merged.known} were there before")
    if merged.outside:
        typer.echo(
            f"{merged.outside} places in suites hold another recipe here: these runs are kept outside the suites"
        )


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A file, or postgresql+psycopg://...")],
    target: Annotated[str, typer.Argument(metavar="TO", help="An empty or new database.")],
    json: AsJson = False,
) -> None:
    """Copy all of a database into an empty one, from a file to a server or back; the source stays as it is."""
    from harness.copying import copy_database
    from harness.store import open_store

    with open_store(source, create=False) as first, open_store(target) as second:
        copied = copy_database(first, second)
    if json:
        print_json(copied)
        return
    typer.echo(f"{target}: " + ", ".join(f"{count} {name}" for name, count in copied.items() if count))


@app.command()
def salvage(
    damaged: Annotated[Path, typer.Argument(metavar="DAMAGED", help="A database file; it stays as it is.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The file to write; it must not be there yet.")],
    json: AsJson = False,
) -> None:
    """Copy the good rows of a damaged SQLite database into a new one: whole runs, or none of them."""
    from harness.salvage import salvage as copy_good

    found = copy_good(damaged, new)
    if json:
        print_json({"kept": found.kept, "lost": found.lost, "unreadable": sorted(found.unreadable)})
        return
    typer.echo(f"{new}: " + (", ".join(f"{count} {name}" for name, count in found.kept.items()) or "nothing"))
    if found.lost:
        typer.echo("seen but not whole: " + ", ".join(f"{count} {name}" for name, count in found.lost.items()))
    if found.unreadable:
        typer.echo(f"not all could be read of: {', '.join(sorted(found.unreadable))}")
    typer.echo("the commands that made the runs make again what is missing.")


def _chosen(store: Store, prefixes: list[str], suite: str | None) -> list[str]:
    """Ids of the runs that are meant, oldest first; all if nothing is said."""
    import sqlalchemy as sa

    from harness.schema import RUNS, SUITE_MEMBERS

    query = sa.select(RUNS.c.id).order_by(RUNS.c.started_at, RUNS.c.id)
    if suite is not None:
        names = [summary.name for summary in store.suites()]
        if suite not in names:
            raise unknown("suite", suite, names, store.database.where)
        of_suite = sa.select(SUITE_MEMBERS.c.trial_id).where(SUITE_MEMBERS.c.suite == suite)
        query = query.where(RUNS.c.trial_id.in_(of_suite))
    if prefixes:
        query = query.where(RUNS.c.id.in_([store.run(prefix).id for prefix in prefixes]))
    with store.reading() as connection:
        found = list(connection.scalars(query))
    if not found:
        raise UserError(f"{store.database.where} has no such run to put into a bundle.")
    return found


def _check_origin(origin: str | None) -> None:
    from harness.bundle.format import name

    if origin is not None and not name(origin):
        raise UserError(f"--origin {origin!r}: give a name of at most 500 printable characters.")
