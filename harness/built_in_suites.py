"""The suites that come with the package, by name: known without reading any."""

from __future__ import annotations

from pathlib import Path

SUITES = Path(__file__).parent / "suites"
"""Where they live."""


def suite_names() -> list[str]:
    """Their names, sorted."""
    return sorted(file.stem for file in SUITES.glob("*.toml"))
