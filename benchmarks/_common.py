"""What the benchmarks share: results as tables, lines and targets in a JSON file, machine facts, interleaving."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from harness.provenance import provenance
from harness.settings import Settings

RESULTS = Path(__file__).parent / "results"
"""Where each benchmark writes its JSON, and `benchmarks.report` reads."""
STATISTICS = RESULTS / "statistics"
"""Where benchmarks of what the statistics promise write theirs: no times, and no part of docs/performance.md."""

Cell = str | int | float | None
Item = TypeVar("Item")


@dataclass(frozen=True)
class Table:
    """Figures as they are printed and reported; None is shown as a dash."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Line:
    """Measured points, and the straight line fitted to them by least squares."""

    title: str
    x: str
    y: str
    points: tuple[tuple[float, float], ...]

    @property
    def fit(self) -> tuple[float, float]:
        """(value at 0, slope)."""
        xs, ys = zip(*self.points, strict=True)
        slope, intercept = statistics.linear_regression(xs, ys)
        return intercept, slope

    @property
    def deviation(self) -> float:
        """Largest distance of a point from the line, over the largest value: 0 is a line."""
        intercept, slope = self.fit
        return max(abs(y - intercept - slope * x) for x, y in self.points) / max(abs(y) for _, y in self.points)


@dataclass(frozen=True)
class Target:
    """A figure that a benchmark has to reach, as the issue words it."""

    what: str
    wanted: str
    measured: float | None
    reached: bool | None
    """None: not at this size, or not on this device."""


@dataclass(frozen=True)
class Result:
    """All that one benchmark run found."""

    name: str
    """Stem of the file: benchmark, and what was benchmarked."""
    title: str
    command: str
    """What repeats it."""
    quick: bool
    """Whether sizes were cut down so far that the figures show nothing but that the benchmark runs."""
    options: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    """What a reader must know to read the figures."""
    tables: tuple[Table, ...] = ()
    lines: tuple[Line, ...] = ()
    targets: tuple[Target, ...] = ()
    made: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    machine: Mapping[str, Any] = field(default_factory=dict)
    """`harness.provenance.provenance`, and the load average of the minute before the benchmark began."""


def machine(settings: Settings) -> dict[str, Any]:
    """Facts about machine and versions; to be taken before anything is timed, for the load of others."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {**provenance(settings), "load_before": load}


def is_cuda(facts: Mapping[str, Any]) -> bool:
    """Whether a benchmark with these machine facts ran on a CUDA GPU."""
    return str(facts["stack"]["device"]).startswith("cuda")


def interleaved(sides: Mapping[str, Callable[[], Item]], repeats: int) -> dict[str, list[Item]]:
    """Each side's results over `repeats` rounds. The order turns round every time, so that a drift hits all alike."""
    found: dict[str, list[Item]] = {name: [] for name in sides}
    for number in range(repeats):
        names = list(sides)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            found[name].append(sides[name]())
    return found


def shown(cell: Cell) -> str:
    """A cell as text: four significant digits, thousands apart."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int) or abs(cell) >= 1000:
        return f"{cell:,.0f}"
    return f"{cell:.4g}"


def print_table(table: Table) -> None:
    """The table in columns: the first flush left, the others flush right."""
    lines = [table.columns, *(tuple(shown(cell) for cell in row) for row in table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.columns))]
    print(f"\n{table.title}")
    for first, *rest in lines:
        cells = [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip(), flush=True)


def report(result: Result, folder: Path | None) -> None:
    """Print a result and write it to `folder`/NAME.json; None writes nothing."""
    print(f"{result.title}: {machine_line(result.machine)}" + (" (--quick: shows nothing)" if result.quick else ""))
    for table in result.tables:
        print_table(table)
    for line in result.lines:
        intercept, slope = line.fit
        text = f"{shown(intercept)} + {shown(slope)} x {line.x}, off it by at most {line.deviation:.1%}"
        print(f"{line.title}: {line.y} = {text}")
    for target in result.targets:
        verdict = {True: "reached", False: "not reached", None: "not judged here"}[target.reached]
        print(f"{target.what}: {shown(target.measured)}, to reach {target.wanted}: {verdict}")
    for note in result.notes:
        print(f"- {note}")
    if result.quick and folder in (RESULTS, STATISTICS):
        print("not written: figures of toy size say nothing (--out DIR writes them)")
    elif folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(result), indent=1, ensure_ascii=False, default=str)
        (folder / f"{result.name}.json").write_text(text + "\n", encoding="utf-8")
        print(f"written: {result.name}.json")


def read_result(file: Path) -> Result:
    """What `report` wrote."""
    data = json.loads(file.read_text(encoding="utf-8"))
    data["tables"] = tuple(
        Table(item["title"], tuple(item["columns"]), tuple(map(tuple, item["rows"]))) for item in data["tables"]
    )
    data["lines"] = tuple(
        Line(item["title"], item["x"], item["y"], tuple((x, y) for x, y in item["points"])) for item in data["lines"]
    )
    data["targets"] = tuple(Target(**item) for item in data["targets"])
    return Result(**{**data, "notes": tuple(data["notes"])})


def machine_line(facts: Mapping[str, Any]) -> str:
    """The machine in one line."""
    stack = facts["stack"]
    where = stack["gpu"]["name"] if stack["gpu"] else stack["processor"] or stack["system"]
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in ("torch", "transformers", "peft"))
    load = "" if facts["load_before"] is None else f", load before {facts['load_before']:.1f}"
    return f"{stack['device']}, {where}, {stack['cores']} cores, {stack['threads']} threads{load}; {versions}"


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="toy size, seconds: shows only that it runs")
    made.add_argument("--device", default="auto")
    made.add_argument("--threads", type=int, default=0, help="of torch; 0: its default")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    return made


def parse(made: argparse.ArgumentParser, name: str, arguments: Sequence[str], **quick: Any) -> argparse.Namespace:
    """The options, and as `command` what repeats them. With --quick what is left at its default takes its toy value."""
    options = made.parse_args(arguments)
    command = " ".join(["python -m", f"benchmarks.{name}", *map(shlex.quote, arguments)])
    for place in (str(value) for value in vars(options).values() if isinstance(value, Path)):
        command = command.replace(place, "DIR")  # no folder of this machine gets into a file
    options.command = command
    if options.quick:
        for name, value in quick.items():
            if getattr(options, name) == made.get_default(name):
                setattr(options, name, value)
    return options


def plain_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options for a JSON file: whatever names a place on this machine is left out."""
    return {name: value for name, value in vars(options).items() if not isinstance(value, Path) and name != "command"}
