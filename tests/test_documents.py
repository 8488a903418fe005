"""What the documents promise exists: commands and options, make targets, links, suites."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from harness import methods_doc
from harness.built_in_suites import suite_names
from harness.cli import app
from harness.plugins import discover
from harness.suite_file import load_suite

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
LINE = re.compile(r"^\s*python -m harness (.+?)(?:\s+#.*)?$", re.MULTILINE)


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The command that `words` name, and the words after it."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"no command '{rest[0]}'"
        command = command.commands[rest.pop(0)]
    return command, rest


def command_lines() -> list[str]:
    return [match for path in DOCUMENTS for match in LINE.findall(path.read_text())]


def test_documented_command_lines_exist() -> None:
    lines = command_lines()
    assert len(lines) >= 10
    for line in lines:
        command, rest = resolve(shlex.split(line))
        options = {name for parameter in command.params for name in parameter.opts}
        for word in rest:
            assert not word.startswith("--") or word in options, f"'{line}': no option {word}"


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    root: Any = typer.main.get_command(app)
    for name in root.commands:
        assert f"python -m harness {name}" in text, name


def test_makefile_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text())):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / link).exists(), link


def test_built_in_suites_are_sound() -> None:
    plugins = discover()
    names = suite_names()
    assert {"starter", "glue-minilm", "glue-minilm-small"} <= set(names)
    for name in names:
        assert load_suite(name, plugins).name == name


def test_the_methods_page_is_what_the_plugins_and_notes_make() -> None:
    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8") == methods_doc.render()


def test_every_note_is_about_a_method_that_exists() -> None:
    notes = {file.stem for file in methods_doc.NOTES.glob("*.md")}
    assert notes <= set(discover().methods)
    assert len(notes) > 5


@pytest.mark.parametrize("name", ["README.md", "docs/findings.md", "docs/reproduction.md"])
def test_numbers_of_committed_documents_are_those_of_the_committed_database(name: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    copy = tmp_path / name
    copy.write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    shutil.copytree(ROOT / "docs" / "pictures", tmp_path / "docs" / "pictures")
    done = CliRunner().invoke(app, ["documents", str(copy), "--db", str(ROOT / "leaderboard.db")])
    assert done.exit_code == 0, done.output
    assert done.output.strip().endswith("was up to date")
