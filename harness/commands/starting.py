"""`new`: a commented file to start a plugin from."""

from __future__ import annotations

import keyword
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UserError

_TEMPLATES = Path(__file__).parent.parent / "templates"


class Plugin(StrEnum):
    """What can be started."""

    METHOD = "method"
    TASK = "task"


def new(
    kind: Annotated[Plugin, typer.Argument(help="What to write.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and underscores.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder; default: methods/ or tasks/.")] = None,
) -> None:
    """Write a commented starter file for a method or a task; it passes `check` as it is."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(f"'{name}' cannot be a plugin's name: take lower-case letters, digits and underscores.")
    file = (out or Path(f"{kind}s")) / f"{name}.py"
    words = name.split("_")
    names = {"name": name, "cls": "".join(word.capitalize() for word in words), "title": " ".join(words).capitalize()}
    text = (_TEMPLATES / f"{kind}.py.txt").read_text().format(**names)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x") as stream:
            stream.write(text)
    except FileExistsError:
        raise UserError(f"{file} exists already; take another name, or --out DIR.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from None
    typer.echo(f"{file}\nnext: python -m harness check {file}")
