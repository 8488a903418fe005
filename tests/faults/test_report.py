"""docs/reliability.md says what is tested, and shows the figures of the last full run."""

from __future__ import annotations

import re
from pathlib import Path

import report

ROOT = Path(__file__).resolve().parent.parent.parent


def test_every_test_that_the_page_names_exists() -> None:
    text = report.PAGE.read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) >= 20
    for file, name in named:
        assert (ROOT / file).is_file(), file
        assert not name or f"def {name}(" in (ROOT / file).read_text(), name


def test_the_page_shows_the_figures_of_the_last_run_and_these_keep_the_promise() -> None:
    assert report.PAGE.read_text() == report.page()
    found = report.figures()
    assert found["kills"]["kills"] >= 50
    assert [found["kills"][name] for name in ("lost", "doubled", "different", "damaged")] == [0, 0, 0, 0]
    assert (found["fuzzed"]["total"] >= 10_000, found["fuzzed"]["failed"]) == (True, 0)
