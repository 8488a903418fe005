"""`backbone build`: pretrain one of the starter backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, help="Make backbones.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def backbone() -> None:
    """Make backbones."""


@app.command()
def build(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which recipe: starter-encoder or starter-decoder.")],
    corpus: Annotated[Path, typer.Option(metavar="PATH", help="Parquet file, or folder of them, with English text.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write the backbone to.")],
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of everything that is random.")] = 0,
    steps: Annotated[int | None, typer.Option(metavar="N", min=1, help="Fewer steps, for a trial run.")] = None,
) -> None:
    """Pretrain a backbone on a corpus, with its tokenizer and a model card."""
    from harness import pretrain

    typer.echo(pretrain.build(name, corpus, out, seed, lambda line: typer.echo(line, err=True), steps))
