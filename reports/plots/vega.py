"""Points and lines over two axes, described in Vega-Lite.

A row's points carry its mark (colour and shape), its name and their numbers on hover; nothing is told by colour alone.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.marks import GREY, Mark
from reports.plots.engine import Part, svg
from reports.plots.svg import clean

Marks = Mapping[str, Mark]
"""Row label -> mark."""
Ends = tuple[float, float]
LOOK = {
    "background": "transparent",
    "font": "Helvetica, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {"titleFontWeight": "normal", "titlePadding": 8, "labelFontSize": 11, "titleFontSize": 12},
}
_OF_ROW = re.compile(r"(\d+)¦(.*)", re.DOTALL)
"""A mark's description on its way through Vega: the place of its row among the plot's, and what it says on hover."""


@dataclass(frozen=True)
class Size:
    """Inner width and height of a plot in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class Axis:
    """An axis: its title, its ends, and ticks with their names (none: chosen by the library)."""

    title: str
    low: float
    high: float
    ticks: Mapping[float, str] = field(default_factory=dict)

    def pixel(self, value: float, length: float) -> float:
        """Pixels from the low end of an axis of this length."""
        return (value - self.low) / (self.high - self.low) * length


@dataclass(frozen=True)
class Point:
    """One point of a row, in units of the axes."""

    label: str
    x: float
    y: float
    hover: str
    spread: Ends | None = None
    """Drawn as a thick bar."""
    interval: Ends | None = None
    """Drawn as a thin bar, or as a band where the row's points are joined; cut off at the ends of the axis."""
    shown: bool = True
    """Whether it has a symbol; without, it only bends its row's line."""


@dataclass(frozen=True)
class Name:
    """A name, with the hair line that leads to what it names."""

    text: str
    x: float
    y: float
    leftward: bool = False
    line: tuple[float, float, float, float] | None = None
    """x, y, x2, y2."""


@dataclass(frozen=True)
class Plane:
    """Everything on one plot."""

    points: Sequence[Point]
    names: Sequence[Name]
    x: Axis
    y: Axis
    joined: bool = False
    """Whether the points of a row are joined by a line."""
    front: Sequence[tuple[float, float]] = ()
    """Corners of a staircase, from the left."""
    faint: frozenset[str] = frozenset()
    """Rows drawn in the background."""
    keys: Sequence[Point] = ()
    """Symbols beside names."""


@dataclass(frozen=True)
class Drawn:
    """SVG elements and the space that they take."""

    body: str
    left: float
    """Pixels left of the plot, for its axis."""
    width: float
    height: float


def draw(plane: Plane, marks: Marks, size: Size) -> Drawn:
    """The plot as SVG. Equal planes give equal bytes."""
    canvas = _Canvas(plane, marks)
    look = {"width": size.width, "height": size.height, "config": LOOK}
    return _tidy(svg({"layer": _layers(canvas), "datasets": canvas.tables, **look}))


def score_axis(title: str, points: Sequence[Point]) -> Axis:
    """The axis that shows all points with their spreads, and of their intervals at most as much again on each side."""
    near = [value for point in points for value in (point.y, *(point.spread or ()))]
    low, high = min(near), max(near)
    reach = max(0.5 * (high - low), 1.0)
    far = [value for point in points for value in point.interval or ()]
    low = max(min([low, *far]), low - reach)
    high = min(max([high, *far]), high + reach)
    air = max(0.06 * (high - low), 0.5)
    return Axis(title, low - air, high + air)


@dataclass(frozen=True)
class _Canvas:
    """A plot while it is put together."""

    plane: Plane
    marks: Marks
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Data by name."""

    def layer(self, rows: Sequence[Mapping[str, Any]], mark: Part, **channels: Part) -> Part:
        """One mark for each of these rows, or a line through them, over the plane's axes."""
        name = f"table{len(self.tables)}"
        self.tables[name] = [dict(row) for row in rows]
        axes = {"x": _scaled(self.plane.x, "x"), "y": _scaled(self.plane.y, "y")}
        return {"data": {"name": name}, "mark": mark, "encoding": axes | channels}


def _layers(canvas: _Canvas) -> list[Part]:
    """From the back to the front."""
    plane = canvas.plane
    clear = [point for point in plane.points if point.label not in plane.faint]
    faint = [point for point in plane.points if point.label in plane.faint]
    layers: list[Part] = []
    if plane.front:
        layers.append(_front(canvas))
    if plane.joined:
        layers += [*_background(canvas, faint), *_lines(canvas, clear)]
    else:
        layers += _bars(canvas, clear)
    layers.append(_symbols(canvas, [*(point for point in clear if point.shown), *plane.keys]))
    return layers + _names(canvas)


def _scaled(axis: Axis, name: str) -> Part:
    look: Part = {"title": axis.title, "tickCount": 5}
    if axis.ticks:
        look = {"title": axis.title, "values": list(axis.ticks), "labelExpr": _tick_names(axis), "grid": False}
    scale = {"domain": [axis.low, axis.high], "nice": False, "zero": False}
    return {"field": name, "type": "quantitative", "scale": scale, "axis": look}


def _by(name: str) -> Part:
    """What differs from row to row."""
    return {"field": name, "type": "nominal"}


def _as_said(name: str) -> Part:
    """Colours and shapes that the rows themselves name."""
    return _by(name) | {"scale": None}


def _places(plane: Plane) -> dict[str, int]:
    """The number of each row in the drawing, by which a page's script knows its marks."""
    return {label: place for place, label in enumerate(dict.fromkeys(point.label for point in plane.points))}


def _rows(plane: Plane, points: Sequence[Point], marks: Marks) -> list[dict[str, Any]]:
    rows = []
    places = _places(plane)
    for point in points:
        mark, place = marks[point.label], places[point.label]
        row = {"x": point.x, "y": point.y, "label": clean(point.label)}
        row |= {"hover": f"{place}¦{clean(point.hover)}", "row": f"{place}¦"}
        row |= {"colour": mark.colour, "fill": mark.fill, "path": mark.path}
        for name, ends in (("spread", point.spread), ("interval", point.interval)):
            if ends is not None and all(map(math.isfinite, ends)):
                row[f"{name}_low"], row[f"{name}_high"] = (min(max(e, plane.y.low), plane.y.high) for e in ends)
        rows.append(row)
    return rows


def _front(canvas: _Canvas) -> Part:
    mark = {"type": "line", "interpolate": "step-after", "strokeDash": [5, 4], "stroke": GREY, "aria": False}
    return canvas.layer([{"x": x, "y": y} for x, y in canvas.plane.front], mark)


def _background(canvas: _Canvas, points: Sequence[Point]) -> list[Part]:
    last = {point.label: clean(point.hover) for point in points}  # a line is one element, with one hover text
    places = _places(canvas.plane)
    rows = [
        {"x": p.x, "y": p.y, "label": clean(p.label), "hover": f"{places[p.label]}¦{last[p.label]}"} for p in points
    ]
    if not rows:
        return []
    mark = {"type": "line", "strokeWidth": 1, "stroke": GREY, "opacity": 0.5}
    return [canvas.layer(rows, mark, detail=_by("label"), description=_by("hover"))]


def _lines(canvas: _Canvas, points: Sequence[Point]) -> list[Part]:
    rows = _rows(canvas.plane, points, canvas.marks)
    of_row = {"detail": _by("label"), "description": _by("row")}
    line = canvas.layer(rows, {"type": "line", "strokeWidth": 1.75}, color=_as_said("colour"), **of_row)
    known = [row for row in rows if "interval_low" in row]
    if not known:
        return [line]
    band = {"type": "area", "opacity": 0.13}
    return [canvas.layer(known, band, **_ends(canvas, "interval"), fill=_as_said("colour"), **of_row), line]


def _bars(canvas: _Canvas, points: Sequence[Point]) -> list[Part]:
    rows, layers = _rows(canvas.plane, points, canvas.marks), []
    for name, width, opacity in (("interval", 1, 0.7), ("spread", 3, 0.45)):
        known = [row for row in rows if f"{name}_low" in row]
        if known:
            mark = {"type": "rule", "strokeWidth": width, "opacity": opacity}
            layers.append(canvas.layer(known, mark, **_ends(canvas, name), color=_as_said("colour")))
    return layers


def _ends(canvas: _Canvas, name: str) -> dict[str, Part]:
    return {"y": _scaled(canvas.plane.y, f"{name}_low"), "y2": {"field": f"{name}_high"}}


def _symbols(canvas: _Canvas, points: Sequence[Point]) -> Part:
    mark = {"type": "point", "size": 55 if canvas.plane.joined else 90, "opacity": 1}
    look = {"color": _as_said("colour"), "fill": _as_said("fill"), "shape": _as_said("path")}
    return canvas.layer(_rows(canvas.plane, points, canvas.marks), mark, **look, description=_by("hover"))


def _names(canvas: _Canvas) -> list[Part]:
    """Names beside points, and hair lines to those that had to move away."""
    layers = []
    lines = [dict(zip(("x", "y", "x2", "y2"), name.line, strict=True)) for name in canvas.plane.names if name.line]
    if lines:
        mark = {"type": "rule", "strokeWidth": 0.75, "opacity": 0.6, "stroke": GREY}
        layers.append(canvas.layer(lines, mark, x2={"field": "x2"}, y2={"field": "y2"}))
    for leftward, align in ((False, "left"), (True, "right")):
        rows = [{"x": n.x, "y": n.y, "name": clean(n.text)} for n in canvas.plane.names if n.leftward == leftward]
        if rows:
            mark = {"type": "text", "align": align, "baseline": "middle", "fontSize": 12}
            layers.append(canvas.layer(rows, mark, text=_by("name")))
    return layers


def _tick_names(axis: Axis) -> str:
    """A Vega expression from a tick's value to its name; both are ours, never a user's."""
    tests = (f"abs(datum.value - {value!r}) < 1e-6 ? '{name}' : " for value, name in axis.ticks.items())
    return "".join(tests) + "''"


def _tidy(written: str) -> Drawn:
    """The drawing's elements: no background, hover text as titles, and nothing that only one image does not need."""
    opening = re.match(r"<svg[^>]*?width=\"([\d.]+)\" height=\"([\d.]+)\"[^>]*>", written)
    assert opening is not None
    body = written[opening.end() :].removesuffix("</svg>")
    kinds = r'aria-roledescription="(?:point|line mark|area mark)"'
    body = re.sub(rf'<path aria-label="([^"]*)" role="graphics-symbol" {kinds}([^>]*)/>', _with_title, body)
    body = re.sub(r' (?:aria-[a-z]+|role|pointer-events|font-family|opacity)="(?:[^"01][^"]*|1)"', "", body)
    body = re.sub(r'<path class="(?:back|fore)ground"[^>]*/>', "", body)
    moved = re.search(r'transform="translate\((-?[\d.]+),', body)
    assert moved is not None
    return Drawn(body, float(moved.group(1)), float(opening.group(1)), float(opening.group(2)))


def _with_title(found: re.Match[str]) -> str:
    of_row = _OF_ROW.fullmatch(html.unescape(found.group(1)))
    place, words = (f' data-row="{of_row[1]}"', of_row[2]) if of_row else ("", html.unescape(found.group(1)))
    title = f"<title>{html.escape(words, quote=False)}</title>" if words else ""
    return f"<path{place}{found.group(2)}>{title}</path>"
