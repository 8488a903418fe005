"""Where each page lies. Names from the database become safe parts of a path; no two of them the same one."""

from __future__ import annotations

import hashlib
import re

_LETTERS = re.compile(r"[a-z0-9]{1,60}")


def slug(name: str) -> str:
    """The name as a part of a file name or anchor: itself if it is plain, else a plain form and a hash.

    A plain name of this form, and one that some file system keeps for itself, carry a hash too: no two names meet.
    """
    if _LETTERS.fullmatch(name) and name not in RESERVED:  # as run ids are, of which there may be many thousands
        return name
    plain = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:60]
    if plain and plain == name and not re.search(r"-[0-9a-f]{8}$", name) and name not in RESERVED:
        return plain
    return f"{plain or 'x'}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    "index",
    "compare",
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}
"""Names that Windows keeps for itself, and those of our own pages."""


def suite_file(suite: str) -> str:
    """The page of a suite."""
    return f"suites/{slug(suite)}.html"


def row_file(suite: str, label: str) -> str:
    """The page of one row of a suite."""
    return f"suites/{slug(suite)}/{slug(label)}.html"


def compare_file(suite: str) -> str:
    """The page of all pairs of a suite's rows."""
    return f"suites/{slug(suite)}/compare.html"


def pair_file(suite: str, first: str, second: str) -> str:
    """The page of one pair of a suite's rows."""
    return f"suites/{slug(suite)}/compare/{slug(first)}--{slug(second)}.html"


def run_file(run_id: str) -> str:
    """The page of a run."""
    return f"runs/{slug(run_id)}.html"


def task_file(name: str, version: int) -> str:
    """The page of a task, one for each version of its meaning."""
    return f"tasks/{slug(name)}-v{version}.html"


def method_file(name: str) -> str:
    """The page of a method."""
    return f"methods/{slug(name)}.html"


def numbered(file: str, number: int) -> str:
    """The file of a later part of a page: failures.html, failures-2.html."""
    return file if number == 1 else f"{file.removesuffix('.html')}-{number}.html"


def anchor(grid: str, task: str) -> str:
    """Where the runs of one cell are on the page of its row."""
    return f"{slug(grid)}.{slug(task)}"
