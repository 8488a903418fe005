"""`check` and `new`: what they print, what they exit with, and that what `new` writes passes `check`."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import UserError
from harness.plugins import discover

EXAMPLE = Path(__file__).parent / "example_plugin"


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_check_prints_a_line_for_each_check_of_a_method() -> None:
    done = invoke("check", "lora_sb")
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines()]
    assert lines[0] == ["lora_sb"]
    assert ["ok", "merges_to_its_forward"] in lines
    assert ["exempt", "starts_as_backbone:"] in [line[:2] for line in lines]


def test_check_takes_parameters_and_prints_json() -> None:
    done = invoke("check", "svd_lora", "--set", "residual=true", "--json")
    verdicts = {verdict["check"]: verdict["status"] for verdict in json.loads(done.output)["svd_lora"]}
    assert verdicts["starts_as_backbone"] == "passed"
    assert set(verdicts.values()) == {"passed"}


def test_check_of_a_file_takes_what_the_file_defines_and_exits_with_1_on_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    invoke("new", "method", "broken", "--out", tmp_path)
    file.write_text(file.read_text().replace("return self.r * (m + n)", "return self.r"))
    done = invoke("check", file)
    assert done.exit_code == 1
    assert done.output.startswith("broken\n")
    assert "FAILED  counts_what_it_trains: expected count" in done.output


def test_plugins_from_outside_conform() -> None:
    files = sorted(EXAMPLE.rglob("*.py"))
    assert files
    for file in files:
        done = invoke("check", file)
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize("kind", ["method", "task"])
def test_what_new_writes_conforms_as_it_is(kind: str, tmp_path: Path) -> None:
    written = invoke("new", kind, "my_own", "--out", tmp_path)
    assert written.exit_code == 0, written.output
    assert written.output.splitlines()[0] == str(tmp_path / "my_own.py")
    done = invoke("check", tmp_path / "my_own.py")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("my_own\n")
    assert "FAILED" not in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "lorra"], "unknown plugin 'lorra': did you mean 'lora'?"),
        (["check", "none.py"], "none.py does not exist"),
        (["check", "lora", "--set", "rr=3"], "method 'lora' has no parameter 'rr': did you mean 'r'?"),
        (["check", "lora", "--set", "r=x"], "r = 'x'"),
        (["new", "method", "My-Method"], "'My-Method' cannot be a plugin's name"),
        (["new", "method", "class"], "'class' cannot be a plugin's name"),
        (["new", "task", "taken", "--out", "/proc"], "taken.py cannot be written"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], message: str) -> None:
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def (:", "cannot be imported: SyntaxError"),
        ("raise ValueError('boom\\nand more')", "cannot be imported: ValueError: boom"),
        ("import sys\nsys.exit(0)", "cannot be imported: SystemExit: 0"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "faulty.py"
    file.write_text(text)
    for arguments in (("list", "methods", "--plugin", file), ("check", file)):
        done = invoke(*arguments)
        assert done.exit_code == 2, done.output
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_broken_file_in_the_folder_of_methods_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(name: str) -> Any:
        raise SyntaxError("invalid syntax") if name == "methods.lora" else AssertionError(name)

    monkeypatch.setattr("harness.plugins.FOLDERS", ("methods",))
    monkeypatch.setattr("harness.plugins.pkgutil.iter_modules", lambda path: [SimpleNamespace(name="lora")])
    package = importlib.import_module("methods")
    monkeypatch.setattr(
        "harness.plugins.importlib.import_module", lambda name: package if name == "methods" else faulty(name)
    )
    with pytest.raises(UserError, match=r"plugin file methods/lora.py cannot be imported: SyntaxError: invalid syntax"):
        discover()


@pytest.mark.parametrize(
    ("kind", "line", "message"),
    [
        ("method", "title", "class MyOwn has no `title`; give it a class attribute `title`."),
        ("task", "title", "class MyOwn has no `title`"),
        ("task", "metrics", "class MyOwn has no `metrics`"),
        ("task", "kind", "class MyOwn has no `kind`"),
    ],
)
def test_a_plugin_that_leaves_open_what_it_must_say_is_one_line(
    kind: str, line: str, message: str, tmp_path: Path
) -> None:
    invoke("new", kind, "my_own", "--out", tmp_path)
    file = tmp_path / "my_own.py"
    kept = [text for text in file.read_text().splitlines() if not text.strip().startswith((f"{line} =", f"{line}:"))]
    file.write_text("\n".join(kept))
    done = invoke("list", f"{kind}s", "--plugin", file)
    assert done.exit_code == 2, done.output
    assert message in done.stderr


def test_an_unknown_kind_of_task_names_the_nearest(tmp_path: Path) -> None:
    invoke("new", "task", "my_own", "--out", tmp_path)
    file = tmp_path / "my_own.py"
    file.write_text(file.read_text().replace('"classification"', '"clasification"'))
    done = invoke("list", "tasks", "--plugin", file)
    assert done.exit_code == 2
    assert "did you mean 'classification'?" in done.stderr


def test_new_never_overwrites(tmp_path: Path) -> None:
    invoke("new", "task", "mine", "--out", tmp_path)
    before = (tmp_path / "mine.py").read_text()
    done = invoke("new", "task", "mine", "--out", tmp_path)
    assert (done.exit_code, (tmp_path / "mine.py").read_text()) == (2, before)
    assert "exists already" in done.output


@pytest.mark.parametrize(
    ("metric", "message"),
    [("acuracy", "did you mean 'accuracy'?"), ("pearson", "the metric pearson is for regression; for classification")],
)
def test_a_metric_that_does_not_fit_the_task_is_one_line(metric: str, message: str, tmp_path: Path) -> None:
    invoke("new", "task", "my_own", "--out", tmp_path)
    file = tmp_path / "my_own.py"
    file.write_text(re.sub(r"metrics = .*", f'metrics = ("{metric}",)', file.read_text()))
    done = invoke("list", "tasks", "--plugin", file)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
