"""What a test asks of a drawing: its elements, and where its symbols are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from report_support import make_row, make_suite_rows

from reports.marks import Mark, mark_of
from reports.plots.chart import Chart
from reports.views import SuiteView, suite_view

SVG = "{http://www.w3.org/2000/svg}"


def tree(chart: Chart) -> ElementTree.Element:
    """The drawing as a page has it, parsed as XML."""
    return ElementTree.fromstring(str(chart.svg))


def elements(chart: Chart, name: str, class_: str = "") -> list[ElementTree.Element]:
    """Elements of one kind; those of one class."""
    found = tree(chart).iter(SVG + name)
    return [element for element in found if class_ in (element.get("class") or "").split() or not class_]


def words(element: ElementTree.Element) -> str:
    """Text of an element without what it says on hover."""
    return "".join((element.text or "", *(words(c) + (c.tail or "") for c in element if c.tag != SVG + "title")))


def texts(chart: Chart) -> list[str]:
    return [words(element) for element in elements(chart, "text")]


def hovers(chart: Chart) -> dict[str, ElementTree.Element]:
    """Elements by what they say on hover, without the drawing's own title."""
    found = {}
    for parent in list(tree(chart).iter())[1:]:
        for title in parent.findall(SVG + "title"):
            found[title.text or ""] = parent
    return found


def symbols(chart: Chart) -> dict[str, tuple[float, float]]:
    """Pixels of the symbols by the start of their hover text, up to the first colon or comma."""
    found = {}
    for told, element in hovers(chart).items():
        place = re.match(r"translate\((-?[\d.]+),(-?[\d.]+)\)", element.get("transform") or "")
        if place and element.tag == SVG + "path":
            found[told] = (float(place.group(1)), float(place.group(2)))
    return found


def example(
    levels: Mapping[str, float], tasks: int = 3, seeds: int = 2, **changes: Any
) -> tuple[SuiteView, dict[str, Mark]]:
    """A suite of rows with these scores on the first task, 0.05 less on each further; controls begin with "control"."""
    rows = [
        make_row(
            method=name,
            method_title=name,
            task=f"task{task}",
            seed=seed,
            score_selected=level - 0.05 * task + 0.01 * seed,
            adapter_params=1000 * 10**place,
            control=name.startswith("control"),
            **changes,
        )
        for place, (name, level) in enumerate(levels.items())
        for task in range(tasks)
        for seed in range(seeds)
    ]
    return viewed(*rows)


def viewed(*rows: Any) -> tuple[SuiteView, dict[str, Mark]]:
    """The view of some rows, and the marks of its labels."""
    view = suite_view(make_suite_rows(*rows))
    controls = frozenset(row.label for row in view.rows if row.control)
    return view, {label: mark_of(label, view.labels, controls) for label in view.labels}
