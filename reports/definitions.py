"""The texts of the definitions' page, from the docstrings of what computes each number."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Definition:
    """A term of the page of definitions."""

    title: str
    anchor: str
    paragraphs: list[str]


def definitions() -> dict[str, Any]:
    """What the page's template takes."""
    from harness import protocols
    from harness.measure import DEFINITIONS
    from harness.stats.profiles import performance_profile
    from harness.stats.ranks import average_ranks, interquartile_mean

    overall = {
        "Average rank": average_ranks,
        "Interquartile mean": interquartile_mean,
        "Performance profile": performance_profile,
    }
    return {
        "overall": [
            Definition(title, title.lower().replace(" ", "-"), paragraphs(function)[:-1])  # the last has the shapes
            for title, function in overall.items()
        ],
        "scores": paragraphs(protocols)[1:],
        "protocols": [Definition(name, name, paragraphs(choose)) for name, choose in protocols.PROTOCOLS.items()],
        "quantities": [Definition(name, name, paragraphs(function)) for name, function in DEFINITIONS.items()],
    }


def paragraphs(documented: object) -> list[str]:
    """The paragraphs of a docstring as plain text."""
    text = re.sub(r"[`*](\S[^`*]*)[`*]", r"\1", inspect.getdoc(documented) or "")  # `code`, *emphasis*
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
