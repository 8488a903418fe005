"""What a plot is: a drawing to be put into a page, and the same as a file of its own."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from functools import cache

from markupsafe import Markup

from reports.assets import STATIC
from reports.labels import NORMAL
from reports.names import slug
from reports.plots.svg import clean, tag, text

STYLE = "charts.css"
LINE = 18
"""Pixels from one line of text to the next around a drawing in its own file."""
WIDE = 480
"""Pixels; a wider drawing is scrolled on a phone, where its text would be too small to read."""
PALETTE = """svg {
  --page: #fff; --ink: #1b1f24; --soft: #59626d; --line: #dfe3e8;
  background: var(--page); font: 12px system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif;
}
@media (prefers-color-scheme: dark) {
  svg { --page: #15181d; --ink: #e6e9ed; --soft: #9aa4b0; --line: #30363e; }
}
"""
"""What a drawing takes from the page that it stands in, for a file of its own."""


@dataclass(frozen=True)
class Chart:
    """A drawing with what a reader who cannot see it needs."""

    name: str
    """Of its file, and of its ids in a page: unlike those of other charts of the page."""
    title: str
    description: str
    """The drawn numbers in words."""
    caption: str
    """How to read it."""
    width: float
    height: float
    body: str
    """SVG elements."""

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{slug(self.name)}.svg"

    @property
    def svg(self) -> Markup:
        """For a page that has `charts.css`: one image with title and description, as wide as there is room."""
        key = f"chart-{slug(self.name)}"
        size = {"width": round(self.width), "height": round(self.height)}
        return tag(
            "svg",
            tag("title", self.title, id=f"{key}-title"),
            tag("desc", self.description, id=f"{key}-desc"),
            Markup(self.body),
            xmlns="http://www.w3.org/2000/svg",
            class_="chart wide" if self.width > WIDE else "chart",
            role="img",
            aria_labelledby=f"{key}-title",
            aria_describedby=f"{key}-desc",
            **size,
            viewBox=f"0 0 {size['width']} {size['height']}",
        )

    @property
    def standalone(self) -> str:
        """A whole file: title above, caption below, light or dark as the reader's system is."""
        lines = textwrap.wrap(clean(self.caption), max(int(self.width / NORMAL), 20))
        above, below = 2.0 * LINE, (len(lines) + 1.0) * LINE
        width, height = round(self.width + 2 * LINE), round(above + self.height + below)
        down = above + self.height + LINE
        drawn = tag(
            "svg",
            tag("title", self.title),
            tag("desc", self.description),
            tag("style", Markup(PALETTE + _style())),
            tag("text", self.title, x=LINE, y=1.3 * LINE, class_="heading"),
            tag("g", Markup(self.body), transform=f"translate({LINE},{above:g})"),
            *(text(line, LINE, down + index * LINE, class_="soft") for index, line in enumerate(lines)),
            xmlns="http://www.w3.org/2000/svg",
            class_="chart",
            role="img",
            width=width,
            height=height,
            viewBox=f"0 0 {width} {height}",
        )
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{drawn}\n'


@cache
def _style() -> str:
    return (STATIC / STYLE).read_text(encoding="utf-8")
