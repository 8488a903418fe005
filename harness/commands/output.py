"""Plain output of commands: aligned columns for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import typer


def print_json(data: Any) -> None:
    """`data` as indented JSON on standard output."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str | int | None]]) -> None:
    """Columns as wide as their widest cell, numbers to the right; unknown is a dash."""
    cells = [["–" if cell is None else f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(header), *cells]) for column in range(len(header))]
    right = [all(isinstance(row[column], int | None) for row in rows) for column in range(len(header))]
    for row in [list(header), *cells]:
        parts = [
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ]
        typer.echo("  ".join(parts).rstrip())
