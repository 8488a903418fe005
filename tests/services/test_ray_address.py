"""A Ray cluster that does not answer: one line, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app


@pytest.mark.parametrize(
    ("address", "line"),
    [
        (
            "127.0.0.1:9",
            "no Ray cluster answers at 127.0.0.1:9 (Connection refused): start one with",
        ),
        (
            "ray://head:1",
            "--address ray://head:1: give host:port of the cluster's head, such as 10.0.0.1:6379",
        ),
    ],
)
def test_an_address_where_no_cluster_answers_is_one_line(address: str, line: str, tmp_path: Path) -> None:
    db = tmp_path / "leaderboard.db"
    where = ["--executor", "ray", "--address", address]
    result = CliRunner().invoke(app, ["run", "--all", "--db", str(db), "--device", "cpu", *where])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {line}")
    assert result.stderr.count("\n") == 1
    assert not db.exists()
