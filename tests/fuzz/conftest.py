"""How many inputs, what counts as a write, and the figures of the whole run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis.strategies import SearchStrategy

SHARES = {"suites": 0.4, "arguments": 0.1, "mirrors": 0.25, "databases": 0.15, "bundles": 0.1}
"""Of all inputs."""
WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

Fuzz = Callable[[str, SearchStrategy[Any], Callable[[Any], None]], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The size of the run."""
    parser.addoption("--inputs", type=int, default=200, help="tests/fuzz: inputs over all; `make faults` has 10,000.")
    parser.addoption("--figures", type=Path, help="tests/fuzz: a JSON file that takes the figures.")


class Writes:
    """What this process writes, by Python's audit events; only while it is `watched`."""

    def __init__(self) -> None:
        self._seen: list[str] | None = None
        sys.addaudithook(self._hear)  # for good: it cannot be taken out again

    def _hear(self, event: str, given: tuple[Any, ...]) -> None:
        if self._seen is None:
            return
        if event == "open" and isinstance(given[0], str | bytes | os.PathLike) and (given[2] or 0) & WRITING:
            self._seen.append(os.fsdecode(given[0]))
        elif event in WRITES:
            self._seen += [os.fsdecode(part) for part in given[:2] if isinstance(part, str | bytes | os.PathLike)]

    @contextmanager
    def watched(self, folder: Path) -> Iterator[None]:
        """Inside, nothing may be written but below `folder`."""
        self._seen, allowed = [], (str(folder), "/dev/")
        try:
            yield
        finally:
            seen, self._seen = self._seen, None
        outside = [path for path in seen if not os.path.abspath(path).startswith(allowed)]
        assert not outside, f"written outside {folder}: {outside}"


_writes = Writes()
_counts: dict[str, int] = {}
_failed: set[str] = set()


@pytest.fixture
def fuzz(pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fuzz]:
    """`fuzz(part, strategy, check)` checks as many inputs as this part has; they may write below the test's folder."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)

    def run(part: str, strategy: SearchStrategy[Any], check: Callable[[Any], None]) -> None:
        def one(value: Any) -> None:
            _counts[part] = _counts.get(part, 0) + 1
            try:
                with _writes.watched(tmp_path):
                    check(value)
            except BaseException:
                _failed.add(part)
                raise

        wanted = hypothesis_settings(
            max_examples=max(1, round(pytestconfig.getoption("--inputs") * SHARES[part])),
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        wanted(given(strategy)(one))()

    yield run
    file = pytestconfig.getoption("--figures")
    if file is not None:
        file = pytestconfig.invocation_params.dir / file
        told = {**_counts, "total": sum(_counts.values()), "failed": len(_failed)}
        file.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
