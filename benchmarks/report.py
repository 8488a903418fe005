"""docs/performance.md and its plots, from benchmarks/results/*.json and benchmarks/notes.md.

    python -m benchmarks.report

Says of every figure on which machine it was taken, and "not measured" where its file is missing or was made with
--quick. Nothing on the page is written by hand but what `notes.md` holds: what bounds each case, what was tried and did
not help.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks._common import RESULTS, Line, Table, Target, machine_line, read_result, shown

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
PLOTS = "performance"
"""Folder of the plots, beside the page."""
NOTES = Path(__file__).parent / "notes.md"


@dataclass(frozen=True)
class Wanted:
    """A figure that the page is to have."""

    name: str
    """Stem of its file."""
    command: str
    what: str


@dataclass(frozen=True)
class Section:
    """Figures that belong together."""

    title: str
    text: str
    figures: tuple[Wanted, ...]


def _on(benchmark: str, backbones: Sequence[str], devices: Sequence[str], what: str) -> tuple[Wanted, ...]:
    return tuple(
        Wanted(f"{benchmark}-{backbone}-{device}", f"python -m benchmarks.{benchmark} --backbone {backbone}", place)
        for device in devices
        for backbone in backbones
        for place in [f"{what}, {backbone}, {'a GPU' if device == 'cuda' else 'CPU'}"]
    )


SECTIONS = (
    Section(
        "A grid against Trainer + peft",
        "Trials per hour of a grid of methods, learning rates and seeds, whole and with everything around the steps.",
        (
            *_on("vs_peft", ("starter", "minilm"), ("cpu",), "grid"),
            *_on("vs_peft", ("minilm", "roberta-base", "roberta-large"), ("cuda",), "grid"),
        ),
    ),
    Section(
        "One trial alone",
        "What is left of it without packing.",
        (*_on("solo", ("starter",), ("cpu",), "one trial"), *_on("solo", ("roberta-base",), ("cuda",), "one trial")),
    ),
    Section(
        "Steps of language models",
        "Random weights of the real dimensions, LoRA of rank 32 on all linear maps, bfloat16, 4 rows of 768 tokens.",
        tuple(
            Wanted(f"llm_step-{name}-cuda", f"python -m benchmarks.llm_step --backbone {name}", f"{name}, a GPU")
            for name in ("llama-3.2-3b", "mistral-7b")
        ),
    ),
    Section(
        "How time grows",
        "Wall time along each axis should be a line, and memory should not grow with the trials that are done.",
        (*_on("scaling", ("starter",), ("cpu",), "scaling"), *_on("scaling", ("roberta-base",), ("cuda",), "scaling")),
    ),
    Section(
        "What surrounds the steps",
        "Wall time of a run without evaluation over the time of its steps, and the starter suite as a whole.",
        (
            *_on("overhead", ("starter",), ("cpu",), "overhead"),
            *_on("overhead", ("roberta-base",), ("cuda",), "overhead"),
            Wanted("starter_suite-cpu", "python -m benchmarks.starter_suite", "the starter suite, CPU"),
        ),
    ),
    Section(
        "Trials on Ray",
        "Ray on one machine, beside the worker processes that run without it.",
        (Wanted("cluster", "python -m benchmarks.cluster", "trials on Ray"),),
    ),
    Section(
        "The site",
        "Built from databases of made-up runs, in suites of at most 1,000 runs.",
        (Wanted("site", "python -m benchmarks.site", "the site"),),
    ),
    Section(
        "Packed scores with dropout",
        "With dropout off, packed and solo trials agree to rounding (tests); with dropout on, in distribution:",
        (Wanted("dropout_scores-cpu", "python -m benchmarks.dropout_scores", "scores with dropout, CPU"),),
    ),
)


def page(results: Path = RESULTS, notes: Path = NOTES, plots: Path | None = None) -> str:
    """The page as Markdown. plots: where to write its drawings; None writes none, and the text is the same."""
    parts = [
        "# Performance",
        "",
        "Made by `python -m benchmarks.report` from the files in `benchmarks/results/` and from `benchmarks/notes.md`. "
        "Every ratio was measured in one run of one process, both sides in turn. Figures of different machines are not "
        "comparable. What no machine at hand could measure is called so; nothing is estimated.",
    ]
    named: set[str] = set()
    for section in SECTIONS:
        parts += ["", f"## {section.title}", "", section.text]
        for figure in section.figures:
            named.add(figure.name)
            parts += ["", *_figure(figure, results / f"{figure.name}.json", plots)]
    others = sorted(file for file in results.glob("*.json") if file.stem not in named)
    if others:
        parts += ["", "## Other figures"]
    for file in others:
        result = read_result(file)
        parts += ["", *_figure(Wanted(result.name, result.command, result.title), file, plots)]
    return "\n".join([*parts, "", notes.read_text(encoding="utf-8").strip(), ""])


def _figure(figure: Wanted, file: Path, plots: Path | None) -> list[str]:
    result = read_result(file) if file.is_file() else None
    if result is None or result.quick:
        return [f"**{figure.what[0].upper()}{figure.what[1:]}: not measured.** `{figure.command}`"]
    parts = [f"### {result.title}", "", f"`{result.command}`, {result.made[:10]}. {machine_line(result.machine)}."]
    for target in result.targets:
        parts += ["", _target(target)]
    for table in result.tables:
        parts += ["", f"{table.title}:", "", *_markdown(table)]
    for number, line in enumerate(result.lines):
        name = f"{result.name}-{number}.svg"
        if plots is not None:
            plots.mkdir(parents=True, exist_ok=True)
            (plots / name).write_text(drawing(line), encoding="utf-8")
        parts += ["", f"![{line.title}: {line.y} over {line.x}]({PLOTS}/{name})", "", _fit(line)]
    return [*parts, "", *(f"- {note}" for note in result.notes)]


def _target(target: Target) -> str:
    verdict = {True: "**reached**", False: "**not reached**", None: "not judged here"}[target.reached]
    return f"{target.what}: {shown(target.measured)} (to reach: {target.wanted}), {verdict}."


def _fit(line: Line) -> str:
    intercept, slope = line.fit
    return (
        f"{line.y} = {shown(intercept)} + {shown(slope)} x {line.x}; no point is further off than {line.deviation:.1%}."
    )


def _markdown(table: Table) -> list[str]:
    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    aligned = [":---", *("---:" for _ in table.columns[1:])]
    return [
        row(table.columns),
        f"|{'|'.join(aligned)}|",
        *(row([shown(cell) for cell in cells]) for cells in table.rows),
    ]


def drawing(line: Line) -> str:
    """Points and fitted line as SVG text, on white, for a page that may be dark."""
    import vl_convert

    intercept, slope = line.fit
    at = [x for x, _ in line.points]
    ends = [{"x": x, "y": intercept + slope * x} for x in (min(at), max(at))]
    axes = {
        "x": {"field": "x", "type": "quantitative", "title": line.x},
        "y": {"field": "y", "type": "quantitative", "title": line.y, "scale": {"zero": True}},
    }
    fitted = {"type": "line", "color": "#888", "strokeDash": [4, 3]}
    measured = {"type": "point", "color": "#1f5fa8", "filled": True, "size": 50}
    described = {
        "width": 420,
        "height": 200,
        "background": "white",
        "encoding": axes,
        "layer": [
            {"data": {"values": ends}, "mark": fitted},
            {"data": {"values": [{"x": x, "y": y} for x, y in line.points]}, "mark": measured},
        ],
    }
    svg: str = vl_convert.vegalite_to_svg(described)
    return svg


def main(arguments: Sequence[str]) -> None:
    """Write the page and its plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PAGE, help="the page; plots go into a folder beside it")
    options = parser.parse_args(arguments)
    options.out.write_text(page(plots=options.out.parent / PLOTS), encoding="utf-8")
    print(f"written: {options.out.name}")


if __name__ == "__main__":
    main(sys.argv[1:])
