"""The options of `run` for what goes wrong: what they do on a toy suite, and one line for each wrong use."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cli_support import SUITE
from typer.testing import CliRunner

from harness.cli import app
from harness.commands.faults import Faults
from harness.errors import UserError
from harness.settings import Settings

PLUGIN = Path(__file__).parent.parent / "cli_support.py"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": "5"}, "--timeout 5: give a time such as 2h"),
        ({"timeout": "0s"}, "--timeout 0s: give a time"),
        ({"checkpoint_every": "0"}, "--checkpoint-every 0: give a number of steps from 1 on"),
        ({"checkpoint_every": "often"}, "--checkpoint-every often: give a time"),
        ({"checkpoint_every": "²"}, "--checkpoint-every ²: give a time"),
        ({"retry": "fialed"}, "unknown status 'fialed' in --retry: did you mean 'failed'?"),
        ({"retry": "ok"}, "unknown status 'ok'"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    faults = Faults(**options)
    with pytest.raises(UserError) as refused:  # noqa: PT012  (options are read in two places)
        faults.applied(Settings())
        faults.conduct()
    assert message in str(refused.value)


def test_checkpoints_and_packs_of_a_given_size_do_not_go_together() -> None:
    with pytest.raises(UserError, match="--pack 4 trains them together"):
        Faults(checkpoint_every="10").applied(Settings(pack="4"))


def test_options_become_settings() -> None:
    settings = Faults(timeout="1h30m", checkpoint_every="500").applied(Settings())
    assert (settings.timeout, settings.checkpoint_steps, settings.checkpoint_seconds) == (5400.0, 500, 0.0)
    settings = Faults(checkpoint_every="10m").applied(Settings())
    assert (settings.timeout, settings.checkpoint_steps, settings.checkpoint_seconds) == (0.0, 0, 600.0)
    assert Faults(retry="failed, oom").conduct().retry == {"failed", "oom"}
    assert Faults(retry="none").conduct().retry == frozenset()
    assert Faults().conduct().retry is None


def test_bad_ends_stop_a_plan_or_not_and_are_tried_again_or_not(toy_models: Path, tmp_path: Path) -> None:
    suite = tmp_path / "toys.toml"
    suite.write_text(SUITE.replace('name = "lora"\nparameters = { r = 2 }', 'name = "breaks"'))
    places = ["--models-root", toy_models, "--cache-root", tmp_path / "cache", "--plugin", PLUGIN, "--device", "cpu"]

    def run(*more: str) -> tuple[int, str, int]:
        arguments = ["run", "--suite", suite, "--db", tmp_path / "x.db", "--jobs", "1", "--quiet", *places, *more]
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        with sqlite3.connect(tmp_path / "x.db") as connection:
            (rows,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        return result.exit_code, result.stderr.splitlines()[-1], rows

    code, summary, rows = run("--fail-fast")
    assert (code, rows) == (1, 1)
    assert "stopped at the first bad end, 3 are left" in summary
    code, summary, rows = run("--retry", "oom")
    assert (code, rows) == (1, 4)
    assert "2 trials ended well, 1 did not" in summary
    assert "1 ended badly before and were not tried again" in summary
    assert run("--retry", "failed")[2] == 6
    assert run("--retry", "none")[2] == 6
