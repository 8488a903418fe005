"""`python -m harness`: the command line. Wrong use is one line on standard error and exit code 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

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

UsageError: Any = typer.BadParameter.__mro__[1]
"""What the parser raises; typer names only this one of its kinds."""


class _Group(TyperGroup):
    """Prints a UserError, or what the parser refuses, as one line without a traceback."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _one_line():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        _refuse(str(error))
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a command of commands without one: all of them are listed
            raise
        _refuse(_refusal(error))


def _refusal(error: Any) -> str:
    """What is wrong with the command line, what was meant, and where to look."""
    possible = getattr(error, "possibilities", None)
    message = f"{error.message}, did you mean {possible[0]}?" if possible else error.format_message()
    message = message if message.endswith("?") else message.rstrip(".") + "."
    path = error.ctx.command_path if error.ctx else "python -m harness"
    return f"{message[:1].lower()}{message[1:]} See `{path} --help`."


def _refuse(message: str) -> NoReturn:
    typer.echo("error: " + redact(" ".join(message.split())), err=True)
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
