"""What the fuzzing tests share: how many inputs, what was tried, damage, and looking from outside.

HARNESS_FUZZ=N takes N inputs in all instead of the few of `make test`; `make faults` takes 10,000.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from harness.cli import app

TOTAL = int(os.environ.get("HARNESS_FUZZ") or 300)
COUNTS: Counter[str] = Counter()
"""Inputs tried, by kind."""


def some(share: float) -> settings:
    """A share of all inputs."""
    return settings(
        max_examples=max(1, round(TOTAL * share)),
        deadline=None,
        database=None,
        derandomize=TOTAL < 1000,
        phases=[phase for phase in Phase if TOTAL < 1000 or phase != Phase.shrink],  # of many inputs that takes minutes
        suppress_health_check=list(HealthCheck),
    )


def outside(folder: Path) -> dict[str, str]:
    """Hashes of all files beside `inside`."""
    return {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and folder / "inside" not in file.parents
    }


def invoke(*arguments: str) -> Any:
    """Run a command; it may refuse in one line, and may not raise."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code in (0, 1, 2), (arguments, result.output)
    raised = result.exception
    assert raised is None or isinstance(raised, SystemExit), (arguments, raised)
    assert "Traceback" not in result.output, arguments
    return result


def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes changed, cut off or put in."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(0, max(0, len(found) - 1)))
        match draw(st.integers(0, 3)):
            case 0:
                found[first : first + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del found[first:]
            case 2:
                found[first : first + 8] = draw(st.binary(max_size=16))
            case _:
                del found[first : first + draw(st.integers(1, 600))]
    return bytes(found)
