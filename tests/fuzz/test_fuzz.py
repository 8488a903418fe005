"""Whatever is in a suite file, a mirror, a database, a bundle or a command's words: an answer, or one line of error.

Nowhere a traceback, nothing written outside the folder at hand, and no database changed by what was refused.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from cli_support import SUITE
from factories import fill, make_record
from hypothesis import strategies as st
from inputs import LITERALS, arguments, changed_bytes, changed_text
from typer.testing import CliRunner

from harness import campaign, data
from harness.api import DataRoot
from harness.cli import app
from harness.errors import UserError
from harness.plugins import discover
from harness.scoring import results
from harness.settings import Settings
from harness.store import open_store
from harness.suite import Selection, plan
from harness.suite_file import read_suite

Fuzz = Callable[..., None]
RICH = (
    SUITE
    + """
recipe = { epochs = 2, learning_rate = 1e-3, schedule = "cosine" }
[[method]]
name = "lora"
label = "tuned"
printed_params = 24576
printed_as = "25K"
task_recipes = { parity = { learning_rate = 2e-3 } }
[tuning]
budget = 2
how = "random"
seeds = [7]
space = { learning_rate = [1e-3, 2e-3] }
[[grid]]
name = "main"
seeds = [0, 1]
train_sizes = [0, 8]
start = { kind = "warmup", epochs = 1, learning_rate = 1e-3 }
"""
)


def accepted(action: Callable[[], Any]) -> bool:
    """Whether the action succeeded; what it may raise is a UserError."""
    try:
        action()
    except UserError:
        return False
    return True


def test_suite_files(fuzz: Fuzz, toys: Settings, tmp_path: Path) -> None:
    plugins, file = discover(toys.plugin_files), tmp_path / "fuzzed.toml"

    def read(text: str) -> None:
        file.write_bytes(text.encode(errors="surrogatepass"))
        accepted(lambda: plan(read_suite(file, plugins), Selection(), toys, plugins))

    fuzz("suites", changed_text(SUITE) | changed_text(RICH) | st.text(max_size=80), read)


def test_parquet_mirrors(fuzz: Fuzz, tmp_path: Path) -> None:
    task = discover().tasks["mrpc"]
    frame = pd.DataFrame({"idx": range(12), "sentence1": ["a b"] * 12, "sentence2": ["c"] * 12, "label": [0, 1] * 6})
    train, test = (tmp_path / f"{mirror}.parquet" for mirror in task.mirrored)
    train.parent.mkdir(parents=True)
    for file in (train, test):
        frame.to_parquet(file)
    sound = train.read_bytes()
    cell = st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3)
    cells = st.lists(cell, min_size=12, max_size=12)
    columns = st.dictionaries(st.sampled_from(["idx", "sentence1", "sentence2", "label", "other"]), cells)

    def read(given: bytes | dict[str, list[Any]]) -> None:
        if isinstance(given, bytes):
            train.write_bytes(given)
        else:
            try:
                frame.assign(**given).drop(columns=["idx"] if len(given) == 1 else []).to_parquet(train)
            except (ValueError, TypeError, OverflowError):  # pyarrow cannot write such a column
                return
        data._loaded.clear()
        accepted(lambda: data.check_mirror(task, DataRoot(tmp_path)))

    fuzz("mirrors", changed_bytes(sound) | columns, read)
    data._loaded.clear()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A database of three runs, the folder's own."""
    db = tmp_path / "small.db"
    with open_store(str(db)) as store:
        fill(store, [make_record(seed=seed, minutes=seed) for seed in range(3)])
    return db


def test_databases(fuzz: Fuzz, small: Path, tmp_path: Path) -> None:
    fuzzed = tmp_path / "fuzzed.db"

    def read(content: bytes) -> None:
        for suffix in ("-wal", "-shm", "-journal"):
            fuzzed.with_name(fuzzed.name + suffix).unlink(missing_ok=True)
        fuzzed.write_bytes(content)

        def everything() -> None:
            with open_store(str(fuzzed), create=False) as store:
                store.suites()
                results(store, None)

        accepted(everything)
        assert fuzzed.read_bytes() == content
        rescued = tmp_path / "rescued.db"
        rescued.unlink(missing_ok=True)
        invoke("db", "salvage", str(fuzzed), str(rescued))
        assert fuzzed.read_bytes() == content

    fuzz("databases", changed_bytes(small.read_bytes()), read)


def test_bundles(fuzz: Fuzz, small: Path, tmp_path: Path) -> None:
    assert invoke("bundle", "runs.zip", "--db", str(small), "--origin", "me") == 0
    fuzzed, target, sound = tmp_path / "fuzzed.zip", tmp_path / "target.db", (tmp_path / "runs.zip").read_bytes()
    with open_store(str(target)) as store:
        fill(store, [make_record(seed=9)])
    before = target.read_bytes()

    def read(content: bytes) -> None:
        fuzzed.write_bytes(content)
        if invoke("merge", str(fuzzed), "--db", str(target)) == 2:
            assert target.read_bytes() == before
        else:
            target.write_bytes(before)

    fuzz("bundles", changed_bytes(sound) | st.binary(max_size=60), read)


def invoke(*words: str) -> int:
    """The exit code of a command; a traceback is no answer."""
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2), result.output
    assert "Traceback" not in result.output
    return result.exit_code


class Idle:
    """An executor that trains nothing."""

    def __init__(self, jobs: int, settings: Settings) -> None:
        self._settings = settings

    def call(self, function: Any, argument: Any) -> Any:
        return function(argument, self._settings)

    def run(self, packs: Any, listener: Any) -> None:
        for _ in packs:
            pass

    def close(self) -> None: ...


def test_command_arguments(
    fuzz: Fuzz, small: Path, toys: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "make_executor", Idle)
    monkeypatch.setattr("harness.execution._run_shared", lambda *given: None)
    monkeypatch.setattr(sys, "stdin", None)
    (tmp_path / "toys.toml").write_text(SUITE)
    options = ["--suite", "--method", "--task", "--seed", "--set", "--db", "--jobs", "--pack", "--timeout", "--retry"]
    options += ["--checkpoint-every", "--grid", "--backbone", "--train-size", "--json", "--csv", "--until-separated"]
    options += ["--budget", "--margin", "--fail-fast", "--device", "--plugin", "--all"]
    values = ["toys.toml", "lora", "parity", "0", "small.db", "r=2", "lora.r=x", "epochs=0", "2h", "auto", "off", ""]
    values += [str(small), str(tmp_path), "/", "..", "missing.db", "cpu", "cuda:99", "failed,oom", *LITERALS]
    commands = [["run"], ["plan"], ["results"], ["show"], ["list"], ["params"], ["claims"], ["bundle"], ["merge"]]
    commands += [["db", "copy"], ["db", "salvage"], ["db"], ["rescore"], ["verify"], ["site", "--out", "site"], []]
    places = ["--models-root", str(toys.models_root), "--cache-root", str(toys.cache_root)]
    monkeypatch.setenv("HARNESS_CACHE", str(toys.cache_root))
    original = small.read_bytes()

    def command(given: tuple[list[str], list[str], bool]) -> None:
        name, words, placed = given
        try:
            code = invoke(*name, *words, *(places if placed else ()))
            if code == 2 or name[:1] not in (["run"], ["merge"], ["db"], ["rescore"]):
                assert small.read_bytes() == original, (name, words)
        finally:
            small.write_bytes(original)
            for left in tmp_path.iterdir():
                if left.name not in {"small.db", "toys.toml", "cache"}:
                    shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()

    fuzz("arguments", st.tuples(st.sampled_from(commands), arguments(options, values), st.booleans()), command)
