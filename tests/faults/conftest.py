"""How many inputs the fuzzing tests tried, for `full.py`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    if target := os.environ.get("HARNESS_FUZZ_JSON"):
        from fuzzing import COUNTS

        Path(target).write_text(json.dumps(COUNTS))
