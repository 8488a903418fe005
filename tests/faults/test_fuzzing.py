"""Suite files, mirrors, databases and command lines that nobody would write: one clear line each, and no change."""

from __future__ import annotations

import contextlib
import io
import shutil
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from cli_support import SUITE
from factories import METHODS, TASKS, make_record, make_suite
from fuzzing import COUNTS, damaged, invoke, outside, some
from hypothesis import given
from hypothesis import strategies as st

from harness import campaign, data
from harness.api import DataRoot, HubSource, Kind, Task, Text
from harness.errors import UserError
from harness.execution import Outcome
from harness.plugins import discover
from harness.settings import Settings
from harness.store import open_store
from harness.suite import Selection, plan
from harness.suite_file import read_suite

PLUGIN = Path(__file__).parent.parent / "cli_support.py"
PLUGINS = discover((PLUGIN,))
words = st.text(st.characters(codec="utf-8"), max_size=12)
numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, 1, -1, 10**400])


@pytest.fixture(scope="module")
def places(toy_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to look at from outside: `inside` is where commands run and may write."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "inside").mkdir()
    shutil.copytree(toy_models, folder / "models")
    (folder / "toys.toml").write_text(SUITE)
    with open_store(str(folder / "leaderboard.db")) as store:
        store.describe(METHODS, TASKS)
        records = [make_record(seed=seed) for seed in range(3)]
        store.set_suite(make_suite([record.trial for record in records]))
        for record in records:
            store.add_run(record)
    with contextlib.chdir(folder / "inside"):
        yield folder


# ---------------------------------------------------------------------------------------- suite files

KEYS = ["name", "seeds", "recipe", "epochs", "batch_size", "task", "backbone", "method", "parameters", "grid", "r"]
KEYS += ["title", "learning_rate", "tuning", "start", "train_size", "rank_by", "label", "targets", "schedule", "select"]
values = st.recursive(
    numbers | words | st.booleans() | st.sampled_from(["lora", "parity", "tiny", "warmup", "selected", "cosine"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | words, inner, max_size=4),
    max_leaves=8,
)


def toml(value: Any) -> str:
    """A value as TOML writes it, inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" if c in '"\\' or not c.isprintable() else c for c in value) + '"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value)


HEADERS = ("[[method]]", "[recipe]", "[[grid]]", "[tuning]", "[[task]]")


@st.composite
def suite_texts(draw: st.DrawFn) -> str:
    """The toy suite with lines changed, taken away, or put in; or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.text(max_size=80))
    lines = SUITE.strip().splitlines()
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                lines[place] = f"{toml(draw(st.sampled_from(KEYS) | words))} = {toml(draw(values))}"
            case 1:
                del lines[place]
            case 2:
                lines.insert(place, draw(st.sampled_from(HEADERS)))
            case _:
                key = lines[place].split("=")[0]
                lines[place] = f"{key}= {toml(draw(values))}"
        lines = lines or [""]
    return "\n".join(lines)


@some(0.27)
@given(text=suite_texts())
def test_any_suite_file_is_planned_or_refused_in_one_line(text: str, places: Path) -> None:
    file = places / "inside" / "fuzzed.toml"
    file.write_text(text, encoding="utf-8", errors="replace", newline="")
    COUNTS["suite files"] += 1
    before = outside(places)
    with contextlib.suppress(UserError):
        suite = read_suite(file, PLUGINS)
        plan(suite, Selection(), Settings(models_root=places / "models", cache_root=places / "inside"), PLUGINS)
    assert outside(places) == before


# -------------------------------------------------------------------------------------------- mirrors


class Mirrored(Task):
    """Texts with a number from 0 to 1, from a mirror of parquet files."""

    name = "mirrored"
    title = "Mirrored"
    kind: ClassVar[Kind] = "classification"
    labels = ("no", "yes")
    metrics = ("accuracy",)
    columns = ("text",)

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        hub = HubSource("nobody/nothing", "default", "0" * 40)
        return {
            split: root.frame(hub, split, f"mirrored/{split}", ("id", "text", "label")) for split in ("train", "test")
        }

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["text"])


def parquet(frame: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.to_parquet(stream)
    return stream.getvalue()


cells = words | st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.binary(max_size=4)
columns = st.sampled_from(["id", "text", "label"]) | words
GOOD = pd.DataFrame(
    {"id": range(40), "text": [f"w{row % 7}" for row in range(40)], "label": [row % 2 for row in range(40)]}
)
GOOD_FILE = parquet(GOOD)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A parquet file of good rows with a column in which anything may stand, or of anything."""
    frame = GOOD.copy()
    for name in draw(st.lists(columns, max_size=2)):
        kind = draw(st.sampled_from([words, cells, st.integers(-3, 3), st.floats(), st.booleans(), st.none()]))
        few = draw(st.lists(kind, min_size=1, max_size=4))
        frame[name] = [few[row % len(few)] for row in range(len(frame))]
    if draw(st.booleans()):
        frame = frame.drop(columns=draw(st.sampled_from(list(frame.columns))))
    if draw(st.booleans()):
        frame = frame.head(draw(st.integers(0, 12)))
    try:
        return parquet(frame)
    except Exception:  # mixed types, which a file cannot hold either
        return damaged(draw, GOOD_FILE)


mirrors = frames() | st.composite(lambda draw: damaged(draw, GOOD_FILE))() | st.binary(max_size=60)


@some(0.25)
@given(train=mirrors, test=mirrors | st.just(GOOD_FILE))
def test_any_mirror_is_read_or_refused_in_one_line(train: bytes, test: bytes, places: Path) -> None:
    folder = places / "inside" / "mirrored"
    folder.mkdir(exist_ok=True)
    (folder / "train.parquet").write_bytes(train)
    (folder / "test.parquet").write_bytes(test)
    COUNTS["mirrors"] += 1
    before = outside(places)
    data._loaded.clear()
    with contextlib.suppress(UserError):
        rows = data.load_task(Mirrored(), DataRoot(places / "inside"))
        assert set(map(type, rows.train["text"])) <= {str}
        assert set(rows.train["label"]) <= {0, 1}
    assert outside(places) == before


# ------------------------------------------------------------------------------------------ databases

READERS = (
    ("results",),
    ("results", "--json"),
    ("show", "a"),
    ("plan", "--suite", "../toys.toml", "--models-root", "../models", "--plugin", str(PLUGIN)),
    ("readme", "--readme", "README.md"),
)


@some(0.1)
@given(draws=st.data())
def test_any_file_in_place_of_a_database_is_read_or_refused_and_stays_as_it_is(
    draws: st.DataObject, places: Path
) -> None:
    content = (places / "leaderboard.db").read_bytes()
    found = draws.draw(st.composite(lambda draw: damaged(draw, content))() | st.binary(max_size=200))
    file = places / "inside" / "fuzzed.db"
    file.write_bytes(found)
    COUNTS["databases"] += 1
    before = outside(places)
    command = draws.draw(st.sampled_from(READERS))
    invoke(*command, "--db", str(file))
    assert file.read_bytes() == found
    new = places / "inside" / "new.db"
    new.unlink(missing_ok=True)
    invoke("db", "salvage", str(file), str(new))
    assert file.read_bytes() == found
    assert outside(places) == before


# -------------------------------------------------------------------------------------- command lines

OPTIONS = ["--db", "--suite", "--method", "--task", "--seed", "--train-size", "--set", "--grid", "--backbone", "--json"]
OPTIONS += ["--jobs", "--pack", "--timeout", "--retry", "--checkpoint-every", "--fail-fast", "--budget", "--margin"]
OPTIONS += ["--until-separated", "--device", "--compile", "--checkpointing", "--quiet", "--csv", "--origin", "--format"]
COMMANDS = ("run", "plan", "results", "show", "list", "params", "new", "bundle", "merge", "export", "db")
VALUES = ["../toys.toml", "../leaderboard.db", "lora", "parity", "tiny", "0", "-1", "1e9", "2h", "none", "failed,oom"]
VALUES += [
    "r=2",
    "lora.r=x",
    "epochs=0",
    "seed=",
    "=",
    "../../x",
    "/proc/self/mem",
    "/dev/null",
    ".",
    "",
    "auto",
    "method",
]
arguments = st.lists(
    st.sampled_from(OPTIONS) | st.sampled_from(VALUES) | st.text(string.printable, max_size=8), max_size=6
)


@some(0.2)
@given(command=st.sampled_from(COMMANDS), given_here=arguments)
def test_any_command_line_is_carried_out_or_refused_and_changes_nothing_outside(
    command: str, given_here: list[str], places: Path
) -> None:
    COUNTS["command lines"] += 1
    before = outside(places)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(campaign, "_run", lambda *given, **named: Outcome())  # planned, not trained
        patch.setattr(campaign, "_separate", lambda *given, **named: Outcome())
        more = ["--suite", "../toys.toml", "--models-root", "../models", "--plugin", str(PLUGIN)]
        invoke(command, *(more if command in ("run", "plan") and "--suite" not in given_here else []), *given_here)
    after = outside(places)
    named = {str((places / "inside" / text).resolve()) for text in given_here if text}
    assert {file: after.get(file) for file in before} == before
    assert all(file in named for file in after.keys() - before.keys())
