"""A built site against the database it was made from: every file is made again, and the first difference is named."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class SiteCheck:
    """What a comparison showed."""

    files: int
    """Files that the database gives."""
    numbers: int
    """Numbers in them."""
    differences: tuple[str, ...]
    """One line for each file that is not what the database gives."""


def compare_sites(built: Path, again: Path) -> SiteCheck:
    """Compare a built site with one made `again` from the database, byte for byte; other files in `built` are left."""
    files = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    differences, numbers = [], 0
    for name in files:
        expected = (again / name).read_bytes()
        numbers += len(_NUMBER.findall(expected.decode("utf-8", "replace"))) if name.suffix != ".js" else 0
        place = built / name
        if not place.is_file():
            differences.append(f"{name}: the site lacks this file")
        elif place.read_bytes() != expected:
            found = place.read_bytes().decode("utf-8", "replace")
            differences.append(f"{name}: {first_difference(name.suffix, found, expected.decode('utf-8', 'replace'))}")
    return SiteCheck(len(files), numbers, tuple(differences))


def first_difference(kind: str, site: str, database: str) -> str:
    """The first place where two texts differ: a field of JSON, a column of CSV, else the first other number or text."""
    readers = {".json": _json_fields, ".csv": _csv_fields}
    try:
        first, second = (list(readers.get(kind, _numbers)(text)) for text in (site, database))
    except (ValueError, csv.Error):
        return "it cannot be read"
    for (place, mine), (other, theirs) in zip(first, second, strict=False):
        if place != other:
            return f"{place} on the site stands where the database gives {other}"
        if mine != theirs:
            return f"{place} is {mine} on the site, {theirs} from the database"
    if len(first) != len(second):
        return f"{len(first)} values on the site, {len(second)} from the database"
    return "the text differs, the numbers do not"


def _json_fields(text: str) -> Iterator[tuple[str, str]]:
    def walk(place: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for key, item in value.items():
                yield from walk(f"{place}.{key}", item)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from walk(f"{place}[{index}]", item)
        else:
            yield place or "the whole", json.dumps(value)

    yield from walk("", json.loads(text))


def _csv_fields(text: str) -> Iterator[tuple[str, str]]:
    for count, row in enumerate(csv.DictReader(io.StringIO(text)), start=1):
        for column, value in row.items():
            yield f"row {count}, {column}", str(value)


def _numbers(text: str) -> Iterator[tuple[str, str]]:
    for count, found in enumerate(_NUMBER.finditer(text), start=1):
        around = " ".join(re.sub(r"<[^>]*>?", " ", text[max(0, found.start() - 60) : found.start()]).split())
        yield f"number {count}" + (f" (after '{around[-40:]}')" if around else ""), found[0]
