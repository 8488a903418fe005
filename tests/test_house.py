"""The house rules of docs/architecture.md that a machine can hold."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.plugins import discover

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("harness", "methods", "tasks", "reports", "benchmarks")
FORBIDDEN = {
    # room -> rooms (or modules) that it must not import
    "harness": {"methods", "tasks"},
    "reports": {"methods", "tasks", "torch", "transformers"},
    "methods": {"methods", "tasks", "reports"},
    "tasks": {"methods", "reports"},
    "benchmarks": {"reports", "tests"},
}
CORE = ("api", "trial.py", "records.py", "errors.py", "stats", "store.py", "scoring.py")
"""What knows nothing of training and nothing of pages."""


def sources(room: str) -> Iterator[Path]:
    yield from (path for path in (ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room: str) -> None:
    for path in sources(room):
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & FORBIDDEN[room], path


@pytest.mark.parametrize("room", ["methods", "tasks"])
def test_plugins_import_the_surface_and_their_own_content_only(room: str) -> None:
    for path in sources(room):
        inside = {name for name in imported(path) if name.split(".")[0] in ("harness", "reports", "methods", "tasks")}
        allowed = ("harness.api", "harness.errors", "tasks._content")
        assert all(name.startswith(allowed) or name == "harness" for name in inside), (path, inside)


@pytest.mark.parametrize("room", ["harness", "reports"])
def test_no_plugin_is_asked_for_by_name(room: str) -> None:
    plugins = discover()
    names = set(plugins.methods) | set(plugins.tasks)
    for path in sources(room):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in names, f"{path}:{node.lineno} names the plugin '{node.value}'"


def test_the_core_imports_neither_training_nor_pages() -> None:
    for name in CORE:
        target = ROOT / "harness" / name
        for path in target.rglob("*.py") if target.is_dir() else [target]:
            if path.exists():
                assert not imported(path) & {"harness.runner", "harness.loop", "harness.bench", "reports"}, path


def test_statistics_take_arrays_and_give_numbers() -> None:
    allowed = ("harness.stats", "harness.errors", "harness.records", "numpy", "scipy")
    for path in (ROOT / "harness" / "stats").rglob("*.py"):
        outside = {name for name in imported(path) if name.split(".")[0] not in sys.stdlib_module_names}
        assert all(name.startswith(allowed) for name in outside), (path, outside)
        # a generator is given, never made: the caller's seed is what makes a page the same twice
        assert not re.search(r"default_rng|np\.random\.(?!Generator)", path.read_text()), path


@pytest.mark.parametrize("room", ROOMS)
def test_files_and_functions_stay_small(room: str) -> None:
    for path in sources(room):
        text = path.read_text()
        assert text.count("\n") <= 320, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno <= 60, f"{path}:{node.lineno} {node.name}"
                count = len(node.args.args) + len(node.args.kwonlyargs)
                # a command's parameters are its options
                assert count < 10 or "commands" in path.parts, f"{path}:{node.lineno} {node.name}"


def test_nothing_is_unpickled() -> None:
    for room in ROOMS:
        for path in sources(room):
            assert not re.search(r"\bpickle\b|torch\.load\(|joblib\.load\(", path.read_text()), path


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_function_says_what_it_does(room: str) -> None:
    for path in sources(room):
        if "migrations" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree) or not tree.body, path
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name}"
