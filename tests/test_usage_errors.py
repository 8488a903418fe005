"""What the parser of the command line refuses is one line: what, the nearest right name, where to look."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from harness.cli import app


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "--sute", "x"], "no such option: --sute, did you mean --suite? See `harness run --help`."),
        (["rum"], "no such command 'rum'. Did you mean 'run'? See `harness --help`."),
        (["--vers"], "no such option: --vers, did you mean --version? See `harness --help`."),
        (["show"], "missing argument 'RUN'. See `harness show --help`."),
        (["run", "more"], "got unexpected extra argument(s) (more). See `harness run --help`."),
        (["site", "--out"], "option '--out' requires an argument. See `python -m harness --help`."),
        (["db", "cpy"], "no such command 'cpy'. Did you mean 'copy'? See `harness db --help`."),
    ],
)
def test_what_the_parser_refuses_is_one_line(arguments: list[str], line: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {line}\n")


@pytest.mark.parametrize("arguments", [[], ["db"], ["analyse"]])
def test_a_command_of_commands_alone_lists_them(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "Commands:" in result.stderr
