"""`python -m harness`: the command line. Wrong use is one line on standard error and exit code 2."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from harness import __version__
from harness.commands import (
    analysing,
    backbone,
    carrying,
    checking,
    claiming,
    exporting,
    listing,
    publishing,
    reporting,
    running,
    starting,
    verifying,
)
from harness.errors import UserError
from harness.redaction import install, redact


class _Group(TyperGroup):
    """Prints a UserError as one line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            typer.echo("error: " + redact(" ".join(str(error).split())), err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=_Group,
    name="harness",
    help="Benchmark parameter-efficient fine-tuning: plan, run, compare.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("list")(listing.list_command)
app.command()(running.plan)
app.command()(running.run)
app.command()(reporting.results)
app.command()(reporting.show)
app.command()(claiming.claims)
app.command()(listing.params)
app.command()(checking.check)
app.command()(starting.new)
app.command()(exporting.export)
app.command()(reporting.site)
app.command()(publishing.publish)
app.command()(publishing.serve)
app.command()(reporting.documents)
app.command()(verifying.verify)
app.command()(verifying.rescore)
app.command()(verifying.doctor)
app.command()(carrying.bundle)
app.command()(carrying.merge)
app.add_typer(carrying.db_app, name="db")
app.add_typer(analysing.app, name="analyse")
app.add_typer(backbone.app, name="backbone")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main_options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Benchmark parameter-efficient fine-tuning: plan, run, compare."""


def main() -> None:
    """Entry point of `peft-harness` and `python -m harness`."""
    install()
    app()
