"""Renders `docs/methods.md` from plugins and notes: `python -m harness.methods_doc > docs/methods.md`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from pathlib import Path
from typing import Any

from harness.api import LinearMethod, Method
from harness.plugins import discover

NOTES = Path(__file__).resolve().parent.parent / "docs" / "methods_notes"
"""One hand-written file per method that has something to say: deviations from its paper, inconsistencies in it."""

INTRODUCTION = """# The methods

<!-- Made by `python -m harness.methods_doc > docs/methods.md`; change methods/ and docs/methods_notes/ instead. -->

What each method computes, what it trains, its parameters with their defaults, where it leaves its paper and why, and
what the paper leaves open or contradicts. Shapes are [out, in] = [m, n]; y = W x.
"""
_SHARED = ("targets", "layers", "bias", "dropout")


def render() -> str:
    """The whole page as Markdown, methods by name, controls last."""
    methods = sorted(discover().methods.values(), key=lambda cls: (cls.control, cls.name))
    return "\n".join([INTRODUCTION, _shared(), *(_section(cls) for cls in methods)])


def _shared() -> str:
    rows = [row for row in _parameters(LinearMethod) if row[0] in _SHARED]
    return "Methods that adapt linear maps all take:\n\n" + _table(rows)


def _section(cls: type[Method]) -> str:
    parts = [f"## {cls.title} (`{cls.name}`)", f"```\n{inspect.getdoc(inspect.getmodule(cls))}\n```"]
    defaults = {item.name: item.default for item in dataclasses.fields(cls)}
    shared = {item.name: item.default for item in dataclasses.fields(LinearMethod)}
    rows = [row for row in _parameters(cls) if row[0] not in _SHARED or defaults[row[0]] != shared.get(row[0])]
    if rows:
        parts.append(_table(rows).rstrip())
    if cls.name in (notes := {file.stem: file for file in NOTES.glob("*.md")}):
        parts.append(notes[cls.name].read_text(encoding="utf-8").strip())
    return "\n\n".join(parts) + "\n"


def _table(rows: list[tuple[str, str, str]]) -> str:
    return "| parameter | default | meaning |\n| --- | --- | --- |\n" + "".join(
        f"| `{name}` | {default} | {meaning} |\n" for name, default, meaning in rows
    )


def _parameters(cls: type[Any]) -> list[tuple[str, str, str]]:
    """Name, default and meaning (the text below the field) of each configuration field."""
    meanings: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            meanings |= _texts_below_fields(base)
    return [(item.name, f"`{item.default!r}`", meanings.get(item.name, "")) for item in dataclasses.fields(cls)]


def _texts_below_fields(cls: type) -> dict[str, str]:
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for line, below in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            text = below.value if isinstance(below, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[line.target.id] = " ".join(text.value.split())
    return found


if __name__ == "__main__":
    sys.stdout.write(render())
