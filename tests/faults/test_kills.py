"""Ten kills at random moments; `make faults` does many more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_nothing_finished_is_lost_or_doubled_by_kills_at_random_moments(tmp_path: Path) -> None:
    figures = tmp_path / "kills.json"
    script = Path(__file__).with_name("kills.py")
    command = [sys.executable, str(script), "--kills", "10", "--seed", "1", "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert found["kills"] >= 10
    assert found["runs_compared"] >= 12
    assert {name: found[name] for name in ("lost", "doubled", "different", "damaged")} == {
        "lost": 0,
        "doubled": 0,
        "different": 0,
        "damaged": 0,
    }
