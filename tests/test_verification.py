"""A run once more, a site once more, scores once more; and what would fail on this machine."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cli_support import SUITE, make_backbone
from factories import METHODS, TASKS, fill, make_record
from report_support import fill_example
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from harness import doctor, file_systems
from harness.cli import app
from harness.records import Predictions, RunRecord
from harness.rescoring import rescore
from harness.schema import PREDICTIONS, SCORES
from harness.settings import Settings
from harness.store import Store, open_store
from harness.trial import Trial
from harness.verification import Verification, as_recorded, verify
from reports.checking import first_difference

PLUGIN = Path(__file__).parent / "cli_support.py"


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("models")
    make_backbone(root / "tiny")
    cache = tmp_path_factory.mktemp("cache")
    options = {"--models-root": root, "--cache-root": cache, "--plugin": PLUGIN, "--device": "cpu"}
    return [str(part) for option in options.items() for part in option]


@pytest.fixture(scope="module")
def board(places: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in which the toy suite has been run."""
    folder = tmp_path_factory.mktemp("board")
    (folder / "toys.toml").write_text(SUITE)
    db = folder / "leaderboard.db"
    done = invoke("run", "--suite", folder / "toys.toml", "--db", db, "--jobs", "1", "--pack", "off", *places)
    assert done.exit_code == 0, done.output
    return db


def lora_run(db: Path) -> str:
    with sqlite3.connect(db) as connection:
        query = "SELECT runs.id FROM runs JOIN trials ON trials.id = trial_id WHERE method = 'lora' ORDER BY seed"
        return str(connection.execute(query).fetchone()[0])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "leaderboard.db")) as opened:
        opened.describe(METHODS, TASKS)
        yield opened


# ------------------------------------------------------------------------------------- a run once more


def test_a_run_repeats_bit_by_bit_and_nothing_is_stored(board: Path, places: list[str]) -> None:
    before = board.read_bytes()
    done = invoke("verify", lora_run(board)[:8], "--db", board, *places)
    assert done.exit_code == 0, done.output
    assert "bit-identical" in done.stdout
    assert board.read_bytes() == before


def test_a_control_repeats_too(board: Path, places: list[str]) -> None:
    with sqlite3.connect(board) as connection:
        query = "SELECT runs.id FROM runs JOIN trials ON trials.id = trial_id WHERE method = 'majority'"
        run = connection.execute(query).fetchone()[0]
    done = invoke("verify", run, "--db", board, "--json", *places)
    assert json.loads(done.stdout)["verdict"] == "identical"


def test_a_changed_number_and_a_changed_input_are_named(board: Path, places: list[str], tmp_path: Path) -> None:
    db, run = tmp_path / "changed.db", lora_run(board)
    db.write_bytes(board.read_bytes())
    with sqlite3.connect(db) as connection:
        connection.execute("UPDATE scores SET value = value - 0.3 WHERE run_id = ? AND split = 'test'", [run])
        made = json.loads(connection.execute("SELECT provenance FROM runs WHERE id = ?", [run]).fetchone()[0])
        made["data_sha256"], made["versions"]["torch"] = "0" * 64, "1.0"
        del made["plugins_sha256"]
        connection.execute("UPDATE runs SET provenance = ? WHERE id = ?", [json.dumps(made), run])
    done = invoke("verify", run, "--db", db, *places)
    assert done.exit_code == 1
    assert f"run {run}: different" in done.stdout
    assert "accuracy on test after epoch 1:" in done.stdout
    assert "data_sha256: 0000000000000000... then" in done.stdout
    assert "versions.torch: 1.0 then" in done.stdout
    assert "not recorded then: plugins_sha256" in done.stdout


def check(before: RunRecord, now: RunRecord) -> Verification:
    def repeat(trial: Trial, settings: Settings) -> RunRecord:
        assert trial == before.trial
        return now

    class Details:
        id = "0123456789ab"
        record = dataclasses.replace(before, predictions=[])

    return verify(Details(), before.predictions, Settings(device="cpu"), repeat)  # type: ignore[arg-type]


def moved(record: RunRecord, by: float) -> RunRecord:
    return dataclasses.replace(record, scores=[dataclasses.replace(s, value=s.value + by) for s in record.scores])


def test_a_variable_that_is_recorded_no_longer_is_no_change() -> None:
    before, now = (
        dataclasses.replace(make_record(), provenance={"environment": environment})
        for environment in ({"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"})
    )
    assert [str(change) for change in check(before, now).changes] == ["environment.CUDA_VISIBLE_DEVICES: 0 then, 1 now"]


def test_verdicts_follow_the_largest_difference() -> None:
    record = make_record()
    assert check(record, record).verdict == "identical"
    assert check(record, moved(record, 1e-4)).verdict == "within tolerance"
    assert check(record, moved(record, 0.05)).verdict == "different"
    later = dataclasses.replace(record, losses=[(10, 0.69), (20, 0.9)])
    assert check(record, later).verdict == "within tolerance"  # small differences grow
    assert check(record, dataclasses.replace(record, losses=[(10, 0.7), (20, 0.61)])).verdict == "different"
    assert check(record, dataclasses.replace(record, losses=[(10, 0.69)])).verdict == "different"
    other = dataclasses.replace(record, predictions=[Predictions("test", 3, ["a", "b", "c"], [0, 1, 1], [1, 1, 0])])
    assert check(record, other).differences == ("predictions on test after epoch 3: 1 of 3 differ",)
    rows = dataclasses.replace(record, predictions=[Predictions("test", 3, ["a", "b", "d"], [0, 1, 1], [0, 1, 0])])
    assert "other rows" in check(record, rows).differences[0]
    failed = make_record(status="failed", reason="no such file")
    assert check(record, failed).differences == ("status: ok then, failed now: no such file",)


def test_the_repetition_has_the_threads_and_batches_of_the_run() -> None:
    record = make_record(provenance={"stack": {"threads": 3}, "whole_batches": True})
    settings = as_recorded(record, Settings())
    assert (settings.threads, settings.split_batches, settings.pack) == (3, False, "off")
    assert as_recorded(record, Settings(threads=2)).threads == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say which run to repeat"),
        (("zzzz",), "no run in"),
        (("",), "more than one run id begins with"),
        (("--site", "nowhere"), "holds no site"),
    ],
)
def test_wrong_use_is_one_line(board: Path, arguments: tuple[str, ...], words: str) -> None:
    done = invoke("verify", *arguments, "--db", board)
    assert done.exit_code == 2
    assert words in done.stderr


def test_a_run_whose_plugin_is_missing_is_one_line(board: Path) -> None:
    done = invoke("verify", lora_run(board), "--db", board)
    assert done.exit_code == 2
    assert "needs the task 'parity', which is not here" in done.stderr


# ----------------------------------------------------------------------------------------- a site


def test_a_site_is_what_its_database_gives_until_a_number_is_changed(store: Store, tmp_path: Path) -> None:
    fill_example(store)
    db, site = store.database.path, tmp_path / "site"
    assert invoke("site", "--db", str(db), "--out", site).exit_code == 0
    done = invoke("verify", "--site", site, "--db", str(db))
    assert done.exit_code == 0, done.output
    assert "all as the database gives them" in done.stdout
    data = next(path for path in site.rglob("*.json") if '"score_last"' in path.read_text())
    data.write_text(data.read_text().replace('"score_last": 0.8', '"score_last": 0.9', 1))
    (site / "index.html").unlink()
    (site / "index.html").write_text("<html>3 rows</html>")
    done = invoke("verify", "--site", site, "--db", str(db))
    assert done.exit_code == 1
    assert f"{data.relative_to(site)}: [" in done.stdout
    assert "score_last is 0.9" in done.stdout
    assert "index.html: " in done.stdout
    assert "2 files differ from the database" in done.stdout


@pytest.mark.parametrize(
    ("kind", "site", "database", "words"),
    [
        (".csv", "a,b\n1,2\n", "a,b\n1,3\n", "row 1, b is 2 on the site, 3 from the database"),
        (".html", "<p>mean <b>81.9</b></p>", "<p>mean <b>82.9</b></p>", "(after 'mean') is 81.9 on the site"),
        (".html", "<p>one</p>", "<p>two</p>", "the text differs, the numbers do not"),
        (".json", "{", "{}", "it cannot be read"),
        (".json", "[1]", "[1, 2]", "1 values on the site, 2 from the database"),
    ],
)
def test_the_first_difference_is_named(kind: str, site: str, database: str, words: str) -> None:
    assert words in first_difference(kind, site, database)


# --------------------------------------------------------------------------------------- rescoring


def scored_run(store: Store) -> str:
    kept = Predictions("test", 3, ["a", "b", "c", "d"], [0, 1, 1, 0], [0, 1, 0, 1])
    record = make_record(predictions=[kept])
    scores = [dataclasses.replace(s, value=0.5) if (s.epoch, s.split) == (3, "test") else s for s in record.scores]
    return fill(store, [dataclasses.replace(record, scores=scores)])[0]


def test_stored_scores_come_out_again_and_a_forged_one_does_not(store: Store) -> None:
    run = scored_run(store)
    assert f1_score([0, 1, 1, 0], [0, 1, 0, 1]) == 0.5
    found = rescore(store)
    assert (found.runs, found.agreeing, found.differing) == (1, 1, [])
    with store.database.writing() as connection:
        connection.execute(sa.update(SCORES).where(SCORES.c.epoch == 3, SCORES.c.split == "test").values(value=0.9))
    assert rescore(store).differing[0].startswith(f"run {run}: f1 on test after epoch 3 is stored as 0.9")
    assert invoke("rescore", "--db", str(store.database.path)).exit_code == 1


def test_a_metric_is_added_over_history_once(store: Store) -> None:
    run = scored_run(store)
    assert (rescore(store, "accuracy").added, rescore(store, "accuracy").added) == (1, 0)
    values = {(s.epoch, s.split, s.metric): s.value for s in store.run(run).record.scores}
    assert values[3, "test", "accuracy"] == 0.5
    assert rescore(store, "pearson").unfit == ["mrpc: pearson is for regression, this is classification"]


def test_an_added_metric_is_no_conflict_for_a_bundle_made_before(store: Store, tmp_path: Path) -> None:
    scored_run(store)
    db = str(store.database.path)
    assert invoke("bundle", tmp_path / "x.zip", "--db", db).exit_code == 0
    assert rescore(store, "matthews").added == 1
    done = invoke("merge", tmp_path / "x.zip", "--db", db)
    assert done.exit_code == 0, done.output
    assert "0 runs added, 1 were there before" in done.stdout


def test_rescoring_needs_no_labels_from_outside_and_no_torch(store: Store) -> None:
    scored_run(store)
    with store.database.writing() as connection:
        connection.execute(sa.delete(PREDICTIONS))
    assert rescore(store).runs == 0
    done = invoke("rescore", "--metric", "acuracy", "--db", str(store.database.path))
    assert done.exit_code == 2
    assert "did you mean 'accuracy'?" in done.stderr


# ------------------------------------------------------------------------------------------ doctor


def states(settings: Settings, db: object) -> dict[str, str]:
    return {finding.name: finding.state for finding in doctor.examine(settings, str(db))}


def test_a_sound_machine_passes(board: Path, settings: Settings) -> None:
    found = states(settings, board)
    assert {name for name, state in found.items() if state == "FAILS"} == set()
    assert {"python", "packages", "device", "cache", "data", "models", "git", "database", "integrity"} <= set(found)


def test_what_would_fail_is_found(store: Store, settings: Settings, tmp_path: Path) -> None:
    scored_run(store)
    assert store.database.path is not None
    with sqlite3.connect(store.database.path) as connection:
        connection.execute("DELETE FROM example_sets")
    bad = dataclasses.replace(settings, device="cuda:77", data_root=tmp_path / "nowhere")
    found = states(bad, store.database.path)
    assert (found["device"], found["data"], found["integrity"]) == ("FAILS", "FAILS", "FAILS")
    assert states(settings, tmp_path / "no" / "folder.db")["database"] == "FAILS"
    assert states(settings, tmp_path / "none.db")["database"] == "ok"
    (tmp_path / "text.db").write_text("suite,score\n" * 100)
    assert states(settings, tmp_path / "text.db")["database"] == "FAILS"
    (tmp_path / "faulty.py").write_text("raise ValueError('no')")
    within_a_file = dataclasses.replace(
        settings, cache_root=tmp_path / "text.db" / "cache", plugin_files=(tmp_path / "faulty.py",)
    )
    found = states(within_a_file, tmp_path / "none.db")
    assert (found["cache"], found["plugins"]) == ("FAILS", "FAILS")
    done = invoke("doctor", "--db", tmp_path / "text.db", "--cache-root", tmp_path / "cache", "--device", "cpu")
    assert done.exit_code == 1
    assert "is not an SQLite database" in done.stdout


def test_a_network_file_system_is_told_from_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path}/my\\040share nfs4 rw 0 0\n")
    monkeypatch.setattr(file_systems, "MOUNTS", mounts)
    assert file_systems.network_type(tmp_path / "my share" / "deep" / "leaderboard.db") == "nfs4"
    assert "postgresql" in str(file_systems.warning(tmp_path / "my share" / "leaderboard.db"))
    assert file_systems.network_type(tmp_path / "leaderboard.db") is None
    assert file_systems.warning(tmp_path) is None


def test_a_run_on_a_network_file_system_is_warned_and_goes_on(
    places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path} cifs rw 0 0\n")
    monkeypatch.setattr(file_systems, "MOUNTS", mounts)
    (tmp_path / "toys.toml").write_text(SUITE)
    options = ["--method", "majority", "--seed", "0", "--jobs", "1"]
    done = invoke("run", "--suite", tmp_path / "toys.toml", "--db", tmp_path / "x.db", *options, *places)
    assert done.exit_code == 0, done.output
    assert "lies on a network file system (cifs)" in done.stderr
