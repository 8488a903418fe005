"""Databases and caches that are full, cut short, fought over or changed behind the harness's back."""

from __future__ import annotations

import dataclasses
import multiprocessing
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import METHODS, TASKS, make_record
from pack_support import make_trial
from typer.testing import CliRunner

from harness import batching, database
from harness.cli import app
from harness.decompositions import CachedDecompositions
from harness.errors import Unavailable, UserError
from harness.kept import KeptTensors
from harness.runner import run_trial
from harness.salvage import salvage
from harness.settings import Settings
from harness.store import Store, open_store
from harness.tensor_files import read_tensors, write_tensors
from harness.trial import Start

# ------------------------------------------------------------------------------------------ databases


def filled(path: Path, runs: int) -> list[str]:
    """A database of so many runs; their ids in the order in which they were stored."""
    with open_store(str(path)) as store:
        store.describe(METHODS, TASKS)
        return [store.add_run(make_record(seed=seed)) for seed in range(runs)]


def check(path: Path) -> list[str]:
    """Ids of the stored runs, of a database that is whole."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    found = [run for (run,) in connection.execute("SELECT id FROM runs")]
    connection.close()
    return found


def test_a_disk_that_fills_up_loses_nothing_that_was_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "leaderboard.db"
    stored = filled(path, 3)
    connect = database._connect_writer
    with sqlite3.connect(path) as look:
        (pages,) = look.execute("PRAGMA page_count").fetchone()

    def small(where: Path) -> sqlite3.Connection:
        connection = connect(where)
        connection.execute(f"PRAGMA max_page_count = {pages + 4}")  # SQLite says then that the disk is full
        return connection

    with open_store(str(path)) as store:
        with monkeypatch.context() as patch:
            patch.setattr(database, "_connect_writer", small)
            with pytest.raises(Unavailable, match="no space left"):  # noqa: PT012
                for seed in range(3, 60):
                    stored.append(store.add_run(make_record(seed=seed)))
        assert sorted(check(path)) == sorted(stored)
        store.database.close()  # room was made
        stored.append(store.add_run(make_record(seed=99)))
    assert sorted(check(path)) == sorted(stored)


def write_some(path: str, worker: int, gate: Any) -> None:
    gate.wait(60)
    with open_store(path) as store:
        for number in range(5):
            store.add_run(make_record(seed=100 * worker + number))


def test_eight_processes_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.db"
    filled(path, 1)
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(8)
    processes = [context.Process(target=write_some, args=(str(path), worker, gate)) for worker in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=100)
    assert [process.exitcode for process in processes] == [0] * 8
    assert len(set(check(path))) == 41


def test_a_commit_is_on_the_disk_before_it_is_reported(tmp_path: Path) -> None:
    filled(tmp_path / "leaderboard.db", 1)
    connection = database._connect_writer(tmp_path / "leaderboard.db")
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: survives a power cut
    connection.close()


def test_a_database_cut_short_is_refused_with_advice_and_its_good_runs_can_be_saved(tmp_path: Path) -> None:
    path, new = tmp_path / "leaderboard.db", tmp_path / "new.db"
    stored = filled(path, 60)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 8 // 10])
    damaged = path.read_bytes()
    for command in (["results", "--db", path], ["run", "--all", "--db", path], ["show", stored[0], "--db", path]):
        result = CliRunner().invoke(app, [str(part) for part in command])
        assert result.exit_code == 2
        assert "cut short" in result.stderr
        assert "db salvage" in result.stderr
        assert "Traceback" not in result.stderr
    result = CliRunner().invoke(app, ["db", "salvage", str(path), str(new)])
    assert result.exit_code == 0, result.stderr
    assert path.read_bytes() == damaged
    saved = check(new)
    assert set(saved) <= set(stored)
    assert len(saved) >= 10
    with open_store(str(new), create=False) as store:
        for run in saved:
            assert_whole(store, run)
    assert {entry.name for entry in tmp_path.iterdir()} == {"leaderboard.db", "new.db"}


def assert_whole(store: Store, run: str) -> None:
    record = store.run(run).record
    expected = make_record(seed=record.trial.seed)
    assert (record.scores, record.losses) == (sorted(expected.scores, key=score_key), expected.losses)
    for kept in expected.predictions:
        assert store.predictions(run, kept.split, kept.epoch) == kept


def score_key(score: Any) -> tuple[int, str, str]:
    return (score.epoch, score.split, score.metric)


def test_all_of_a_sound_database_is_salvaged_and_what_was_forged_is_not(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.db"
    stored = filled(path, 5)
    assert salvage(path, tmp_path / "all.db").kept["runs"] == 5
    with sqlite3.connect(path) as connection:
        (trial,) = connection.execute("SELECT trial_id FROM runs WHERE id = ?", (stored[0],)).fetchone()
        connection.execute("UPDATE trials SET canonical = replace(canonical, '8', '9') WHERE id = ?", (trial,))
        connection.execute("UPDATE predictions SET predicted = x'00' WHERE run_id = ?", (stored[1],))
    found = salvage(path, tmp_path / "some.db")
    assert sorted(check(tmp_path / "some.db")) == sorted(stored[2:])
    assert found.lost["runs"] == 2
    assert found.lost["trials"] == 1


@pytest.mark.parametrize(
    ("content", "message"), [(b"hello", "does not begin like"), (b"SQLite format 3\x00" + bytes(84), "tables")]
)
def test_what_is_no_database_is_not_salvaged(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(content)
    with pytest.raises(UserError, match=message):
        salvage(tmp_path / "x.db", tmp_path / "new.db")
    with pytest.raises(UserError, match="exists already"):
        salvage(tmp_path / "x.db", tmp_path / "x.db")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.db"]


# --------------------------------------------------------------------------------------------- caches


def flip(content: bytes) -> bytes:
    return content[:-2] + bytes([content[-2] ^ 4]) + content[-1:]


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


DAMAGES = pytest.mark.parametrize("damage", [flip, cut, lambda content: b""], ids=["flipped", "cut", "empty"])
Damage = Callable[[bytes], bytes]


def spoil(folder: Path, damage: Damage) -> int:
    files = list(folder.rglob("*.safetensors"))
    for file in files:
        file.write_bytes(damage(file.read_bytes()))
    return len(files)


@DAMAGES
def test_damaged_caches_are_found_by_their_hash_and_made_anew(
    damage: Damage, toys: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Starts, decompositions and tokens of one trial; every one is read again after the damage."""
    trial = make_trial(toys, "pissa", epochs=1, start=Start("warmup", epochs=1, learning_rate=1e-3))
    first = run_trial(trial, toys)
    assert first.status == "ok", first.traceback
    kinds = ("starts", "decompositions", "tokens")
    counts = Counter({kind: spoil(toys.cache_root / kind, damage) for kind in kinds})
    assert min(counts.values()) > 0
    batching._encoded.clear()
    again = run_trial(trial, toys)
    assert (again.scores, again.losses) == (first.scores, first.losses)
    assert capsys.readouterr().err.count("is damaged") == counts.total()
    for kind in kinds:
        assert all(read_tensors(file) for file in (toys.cache_root / kind).rglob("*.safetensors"))


@DAMAGES
def test_damaged_adapters_that_were_kept_count_as_not_kept(damage: Damage, tmp_path: Path) -> None:
    kept = KeptTensors(tmp_path, "trial")
    kept.save(1, {"a": torch.arange(6.0)})
    assert kept.load(1) is not None
    spoil(tmp_path, damage)
    assert kept.load(1) is None


def test_changed_metadata_is_damage_too(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    assert write_tensors(file, {"a": torch.ones(2)}, {"seconds": "1.5"})
    assert read_tensors(file) is not None
    file.write_bytes(file.read_bytes().replace(b'"1.5"', b'"9.5"'))
    assert read_tensors(file) is None
    assert not file.exists()


def test_a_cache_without_room_costs_time_and_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.tensor_files.save_file", full)
    factors = CachedDecompositions(tmp_path).svd(torch.eye(4), 2, "exact")
    assert len(factors) == 3
    assert [entry for entry in tmp_path.rglob("*") if entry.is_file()] == []


@pytest.mark.parametrize("damage", [cut, lambda content: b""], ids=["cut", "empty"])
def test_a_backbone_whose_weights_are_cut_short_is_one_failed_run(
    damage: Damage, toys: Settings, tmp_path: Path
) -> None:
    from cli_support import make_backbone

    trial = make_trial(toys, "lora")
    make_backbone(tmp_path / "models" / "tiny")
    spoil(tmp_path / "models", damage)
    record = run_trial(trial, dataclasses.replace(toys, models_root=tmp_path / "models"))
    assert record.status == "failed"
    assert record.reason
