"""Puts the figures of the last full fault run into docs/reliability.md: `python tests/faults/report.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGE = DOCS / "reliability.md"
BEGIN, END = "<!-- figures:start -->\n", "<!-- figures:end -->"
KILLS = {
    "kills": "kills of a whole run (SIGKILL)",
    "worker_kills": "kills of one worker process",
    "interrupts": "Ctrl-C and SIGTERM",
    "rounds": "suites that were completed all the same",
    "runs_compared": "runs compared bit for bit with those of an undisturbed run",
    "resumed": "of these, runs that went on from a checkpoint",
    "lost": "finished runs that were lost",
    "doubled": "trials with two finished runs",
    "different": "runs that came out differently",
    "damaged": "databases that were damaged",
}


def figures(folder: Path = DOCS / "reliability") -> dict[str, Any]:
    """What `tests/faults/kills.py` and `tests/fuzz` wrote down."""
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("kills", "fuzzed")}


def block(found: dict[str, Any]) -> str:
    """The figures as a table."""
    kills, fuzzed = found["kills"], found["fuzzed"]
    rows = [(text, kills[name]) for name, text in KILLS.items()]
    rows += [(f"fuzzed {name}", count) for name, count in sorted(fuzzed.items()) if name not in ("total", "failed")]
    rows += [("fuzzed inputs over all", fuzzed["total"]), ("kinds of input that broke the promise", fuzzed["failed"])]
    return "\n| What | How many |\n|:---|---:|\n" + "".join(f"| {text} | {count:,} |\n" for text, count in rows) + "\n"


def page() -> str:
    """The page with its figures."""
    before, rest = PAGE.read_text().split(BEGIN)
    return before + BEGIN + block(figures()) + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page())
