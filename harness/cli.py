"""`python -m harness`: the command line. Wrong use is one line on standard error and exit code 2."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from harness import __version__
from harness.errors import UserError
from harness.redaction import install, redact

COMMANDS = {
    "list": "listing.list_command",
    "plan": "running.plan",
    "run": "running.run",
    "results": "reporting.results",
    "show": "reporting.show",
    "claims": "claiming.claims",
    "params": "listing.params",
    "check": "checking.check",
    "new": "starting.new",
    "export": "exporting.export",
    "site": "reporting.site",
    "publish": "publishing.publish",
    "serve": "publishing.serve",
    "documents": "reporting.documents",
    "verify": "verifying.verify",
    "rescore": "verifying.rescore",
    "doctor": "verifying.doctor",
    "bundle": "carrying.bundle",
    "merge": "carrying.merge",
    "db": "carrying.app",
    "analyse": "analysing.app",
    "backbone": "backbone.app",
}
"""Where each is, in `harness.commands`: a function, or commands of its own."""
UsageError: Any = typer.BadParameter.__mro__[1]
"""What the parser raises; typer names only this one of its kinds."""


class _Commands(Mapping[str, Any]):
    """The commands by name. Each is imported when it is asked for: a start does not wait for those of others."""

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = COMMANDS[name].partition(".")
        found = getattr(import_module(f"harness.commands.{module}"), attribute)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False, rich_markup_mode=None)
            alone.command()(found)
            found = alone
        command = typer.main.get_command(found)
        command.name = name
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Group(TyperGroup):
    """Prints a UserError, or what the parser refuses, as one line without a traceback."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = _Commands()

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
    try:
        app()
    finally:
        gc.freeze()  # Python would look for cycles in all there is before it ends: a sixth of a second
