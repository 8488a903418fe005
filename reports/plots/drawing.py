"""What all charts share: Altair to SVG through vl-convert, made fit for a page and for a file of its own.

Colours of text and lines come from the page's style sheet, so that a chart follows the light or dark page; a file
brings the few rules that it needs. Nothing is told by colour alone: points carry their row's shape, cells their number.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt
import vl_convert

from reports.marks import Mark

Marks = Mapping[str, Mark]
"""Row label -> mark."""

_FILE_STYLE = (
    "svg{background:#fff;font-family:Helvetica,Arial,sans-serif}"
    '.mark-symbol path[fill="transparent"]{fill:#fff}.role-axis-grid line{stroke:#dfe3e8}'
)
_SAYS = re.compile(r' aria-label="(?:(\d+)\|([^"]*)|[^"]*)"')
_EMPTY_ELEMENT = re.compile(r"<(path|line|rect)((?:\s[^<>]*?)?) data-says=\"([^\"]*)\"([^<>]*?)/>")
_NOISE = re.compile(r' (?:role="graphics-\w+"|aria-roledescription="[^"]*"|aria-hidden="true")')


@dataclass(frozen=True)
class Size:
    """Inner width and height of a plot in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class Chart:
    """A drawing with what a reader who cannot see it needs."""

    title: str
    description: str
    svg: str
    """To be put into a page."""

    @property
    def file(self) -> str:
        """The same as a file that stands alone."""
        return self.svg.replace(">", f"><style>{_FILE_STYLE}</style>", 1) + "\n"


def says(row: int, text: str) -> str:
    """What a mark's `description` is to hold: the place of its row among the names given to `finish`, and its words."""
    return f"{row}|{text}"


def names_axis(names: Sequence[str]) -> str:
    """A Vega expression from the place of a row (0, 1, ...) to its name, whatever the name holds."""
    quoted = ("".join(f"\\u{unit:04x}" for unit in _utf16(name)) for name in names)
    return "".join(f"datum.value == {place} ? '{name}' : " for place, name in enumerate(quoted)) + "''"


def _utf16(text: str) -> Sequence[int]:
    return memoryview(text.encode("utf-16-le", "replace")).cast("H")


def finish(
    chart: alt.Chart | alt.LayerChart,
    title: str,
    description: str,
    names: Sequence[str] = (),
    toggles: bool = False,
) -> Chart:
    """The chart as SVG: one labelled image, no background, no style of its own.

    names: titles of rows; a mark whose description is made by `says` shows its words on hover and belongs to its row.
    toggles: whether the page may let rows be switched off.
    """
    configured = (
        chart.configure(background="transparent", font="Helvetica, Arial, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(titleFontWeight="normal", titlePadding=8, labelLimit=220)
    )
    # Unchecked by Altair: twice as fast; the tests look at the result.
    svg: str = vl_convert.vegalite_to_svg(configured.to_dict(validate=False))
    opening = re.match(r"<svg[^>]*?(width=\"[\d.]+\" height=\"[\d.]+\" viewBox=\"[^\"]*\")[^>]*>", svg)
    assert opening is not None
    return Chart(
        title,
        description,
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart{" toggles" if toggles else ""}" role="img" '
        f'aria-label="{html.escape(title)}" {opening.group(1)}><title>{html.escape(title)}</title>'
        f"<desc>{html.escape(description)}</desc>{_marked(svg[opening.end() :], names)}",
    )


def _marked(body: str, names: Sequence[str]) -> str:
    """The drawing with hover words and row names where `says` put them, and without Vega's own labels."""

    def label(found: re.Match[str]) -> str:
        if found.group(1) is None:
            return ""
        return f' data-row="{html.escape(names[int(found.group(1))])}" data-says="{found.group(2)}"'

    marked = _SAYS.sub(label, _NOISE.sub("", body))
    return _EMPTY_ELEMENT.sub(r"<\1\2\4><title>\3</title></\1>", marked).replace(' data-says=""', "")
