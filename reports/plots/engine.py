"""Vega-Lite to SVG, by vl-convert: no browser, no network.

Its engine takes most of a second to start, as long as it takes to read and judge a suite of a thousand runs. `ahead`
has another process start it meanwhile, and draw.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

Part = dict[str, Any]
"""A part of a description in Vega-Lite (https://vega.github.io/vega-lite/docs/)."""

_BLANK: Part = {"mark": "point"}
_apart: list[subprocess.Popen[str]] = []
"""The process that draws, if there is one."""


def svg(description: Part) -> str:
    """The drawing as the text of an SVG file. Equal descriptions give equal texts, wherever they are drawn."""
    drawn = _drawn_apart(_apart[0], description) if _apart else None
    return _drawn_here(description) if drawn is None else drawn


@contextmanager
def ahead() -> Iterator[None]:
    """Until this is left, another process draws; it starts at once, and this one goes on."""
    if _apart:  # it has been started further out
        yield
        return
    # A session of its own: Ctrl-C is this process's affair, and the end of its input ends the other.
    command = [sys.executable, "-m", "reports.plots.engine"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    _apart.append(subprocess.Popen(command, **pipes, encoding="utf-8", start_new_session=True))
    try:
        yield
    finally:
        dismiss()


def dismiss() -> None:
    """End the other process, if there is one: nothing is to be drawn."""
    while _apart:
        process = _apart.pop()
        process.kill()
        with suppress(OSError):  # it may have ended before, with something left to read
            process.communicate()


def _drawn_apart(process: subprocess.Popen[str], description: Part) -> str | None:
    """None if the process has ended, whatever ended it: an error in a drawing is raised where it can be told."""
    assert process.stdin is not None
    assert process.stdout is not None
    line = ""
    with suppress(OSError):
        process.stdin.write(json.dumps(description) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    return json.loads(line) if line.endswith("\n") else None


def _drawn_here(description: Part) -> str:
    import vl_convert  # only where it is drawn

    drawn: str = vl_convert.vegalite_to_svg(description)
    return drawn


def serve(asked: IO[str], answered: IO[str]) -> None:
    """A description a line, a drawing a line, both as JSON."""
    _drawn_here(_BLANK)
    for line in asked:
        print(json.dumps(_drawn_here(json.loads(line))), file=answered, flush=True)


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
