"""Which browser is used, and how it is started."""

from __future__ import annotations

import shutil

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def chromium() -> str:
    """Where Debian's chromium, or another one, is installed."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert found, "no chromium: `make test-browser` installs Debian's where it may; else install one"
    return found
