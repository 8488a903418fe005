"""SVG written element by element, for drawings that occur by the thousand or that a chart library does badly.

Text is escaped by markupsafe, as in the templates. Colours are classes and variables of `static/charts.css`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from markupsafe import Markup, escape

from reports.labels import NARROW, text_width
from reports.marks import Mark

SIZE = 12
"""Of text, in pixels."""
_NOT_IN_XML = "\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff"
_UNPRINTABLE = re.compile(f"[{_NOT_IN_XML}]")
"""What XML does not allow, escaped or not."""
_SPECIAL = re.compile(f"[&<>\"'{_NOT_IN_XML}]")
"""What does not stand as it is in an element or an attribute."""
KEPT_NUMBERS = 1 << 14
"""Numbers whose writing is kept: the same places occur on page after page."""


def tag(name: str, *inside: str, **attributes: str | float | None) -> Markup:
    """An element. Plain text inside it is escaped; `class_` and `stroke_width` become class and stroke-width.

    Attributes that are None are left out; numbers are rounded to hundredths.
    """
    written = _attributes(attributes)
    if not inside:
        return Markup(f"<{name}{written}/>")
    content = "".join([part if isinstance(part, Markup) else _escaped(part) for part in inside])
    return Markup(f"<{name}{written}>{content}</{name}>")


def _attributes(attributes: Mapping[str, str | float | None]) -> str:
    # Written as plain text and marked once: there are dozens of these on the page of every run.
    return "".join(
        [
            f'{_opening(key)}{_escaped(value) if isinstance(value, str) else _number(value)}"'
            for key, value in attributes.items()
            if value is not None
        ]
    )


def _escaped(words: str) -> str:
    """As it stands in an element or an attribute. Nearly all that is written needs nothing."""
    return str(escape(clean(words))) if _SPECIAL.search(words) else words


def text(words: str, x: float, y: float, *, anchor: str | None = None, class_: str | None = None) -> Markup:
    """A line of text whose middle is at height y. anchor: "middle" or "end" of it is at x; its start without."""
    place = f'x="{_number(x)}" y="{_number(y + 0.34 * SIZE)}"'
    return Markup(f"<text {place}{_manner(anchor, class_)}>{_escaped(words)}</text>")


@lru_cache
def _manner(anchor: str | None, class_: str | None) -> str:
    """The attributes that many lines of text share."""
    return _attributes({"text_anchor": anchor, "class": class_})


def named(words: str, x: float, y: float, room: float, *, anchor: str | None = None, class_: str = "") -> Markup:
    """A name, cut to `room` pixels; the whole of it shows on hover."""
    short = shortened(words, room)
    if short == words:
        return text(words, x, y, anchor=anchor, class_=class_ or None)
    inner = tag("title", words) + Markup(_escaped(short))
    return tag("text", inner, x=x, y=y + 0.34 * SIZE, text_anchor=anchor, class_=class_ or None)


def symbol(mark: Mark, x: float, y: float, hover: str = "", radius: float = 4.5) -> Markup:
    """A row's mark around a point, told on hover."""
    place = f"translate({_number(x)},{_number(y)}) scale({_number(radius)})"
    title = f"<title>{_escaped(hover)}</title>" if hover else ""
    return Markup(f'<path{_look(mark)} transform="{place}">{title}</path>')


@lru_cache
def _look(mark: Mark) -> str:
    """The attributes that all symbols of a mark have."""
    fill = "none" if mark.hollow else mark.colour
    return _attributes({"class": "mark", "d": mark.path, "fill": fill, "stroke": mark.colour, "stroke-width": 0.3})


@lru_cache
def _opening(key: str) -> str:
    """What stands before an attribute's value."""
    return f' {key.rstrip("_").replace("_", "-")}="'


def path(points: Iterable[tuple[float, float]]) -> str:
    """The d of a line through points."""
    return "M" + "L".join([f"{_number(x)},{_number(y)}" for x, y in points])


def clean(words: str) -> str:
    """Text without the characters that XML does not allow."""
    return words if words.isprintable() else _UNPRINTABLE.sub("\ufffd", words)


def shortened(words: str, room: float) -> str:
    """The text, or its two ends with an ellipsis between: variants of one method often differ at their end."""
    words = " ".join(words.split())
    if text_width(words) <= room:
        return words
    kept = min(len(words) - 1, max(int(room / NARROW), 2))
    while kept > 2 and text_width(_ends(words, kept)) > room:
        kept -= 1
    return _ends(words, kept)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers within two ends, about as many as `most`; both ends must be finite and low below high."""
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def tick_text(value: float) -> str:
    """A tick's number: 0.25, 1,000."""
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:.6g}"


def _ends(words: str, kept: int) -> str:
    tail = kept * 2 // 5
    return words[: kept - tail] + "…" + (words[-tail:] if tail else "")


@lru_cache(KEPT_NUMBERS)
def _number(value: float) -> str:
    written = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if written == "-0" else written
