"""Documents whose numbers come from the database: what lies between two markers is written anew.

    <!-- leaderboard:start suite=starter grid=main -->
    <!-- leaderboard:end -->

`reports.blocks` says what kinds there are, and which options each has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from reports.blocks import Source, fill

START = re.compile(r"<!-- (?P<kind>[a-z-]+):start(?P<options>(?: [a-z]+=\S+)*) -->\n")


@dataclass(frozen=True)
class Block:
    """One place of a document to be filled."""

    kind: str
    options: Mapping[str, str]
    start: int
    """Of what lies between the markers."""
    end: int


def update_document(file: Path, source: Source) -> bool:
    """Fill a document's blocks, and write the pictures that they show beside it; True if the document changed.

    UserError for a file that cannot be read or has no markers, for a kind of block or an option that does not exist,
    and for a suite that the database does not have; nothing is written then.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}; name the file to update.") from error
    updated = text
    pictures: dict[str, str] = {}
    for block in reversed(_blocks(text, file)):
        filled = fill(source, block.kind, block.options, str(file))
        updated = f"{updated[: block.start]}\n{filled.text}\n{updated[block.end :]}"
        pictures |= filled.pictures
    for name, content in pictures.items():
        (file.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (file.parent / name).write_text(content, encoding="utf-8")
    if updated != text:
        file.write_text(updated, encoding="utf-8")
    return updated != text


def _blocks(text: str, file: Path) -> list[Block]:
    found = []
    for match in START.finditer(text):
        closing = f"<!-- {match['kind']}:end -->"
        end = text.find(closing, match.end())
        if end < 0 or START.search(text, match.end(), end):
            raise UserError(f"{file}: '{match.group().strip()}' has no '{closing}' after it; add one.")
        options = dict(option.split("=", 1) for option in match["options"].split())
        found.append(Block(match["kind"], options, match.end(), end))
    if not found:
        raise UserError(f"{file} has no '<!-- leaderboard:start suite=NAME -->' line; add it and its ':end' line.")
    return found
