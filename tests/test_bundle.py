"""Runs as one file: they arrive whole, once, with their origin; anything that was tampered with is refused."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from bundle_support import sealed, unzip, with_run, zip_to
from factories import METHODS, TASKS, fill, make_record, make_suite
from typer.testing import CliRunner

from harness.bundle.format import MANIFEST, canonical, sha256
from harness.bundle.merging import Merged, merge, stored_sha256
from harness.bundle.reading import read_bundle
from harness.bundle.writing import all_predictions, write_bundle
from harness.cli import app
from harness.copying import copy_database
from harness.errors import UserError
from harness.records import Costs
from harness.schema import METADATA, RUNS, SUITE_MEMBERS
from harness.scoring import results
from harness.store import Store, open_store

RECORDS = [make_record(method=method, seed=seed, minutes=seed) for method in ("ft", "lora") for seed in range(2)]
RECORDS += [
    make_record(seed=7, minutes=9, status="failed", reason="why", traceback="Traceback", scores=[], parameters=None)
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(str(tmp_path_factory.mktemp("source") / "leaderboard.db")) as store:
        fill(store, RECORDS)
        yield store


@pytest.fixture(scope="module")
def file(source: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "runs.zip"
    write_bundle(source, run_ids(source), path, "Anna")
    return path


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "target.db")) as store:
        yield store


def run_ids(store: Store) -> list[str]:
    with store.reading() as connection:
        return list(connection.scalars(sa.select(RUNS.c.id).order_by(RUNS.c.started_at, RUNS.c.id)))


# ------------------------------------------------------------------------------------- there and back


def test_runs_arrive_as_they_were_with_their_origin(source: Store, file: Path, target: Store) -> None:
    merged = merge(target, read_bundle(file))
    assert list(merged.added) == run_ids(source) == run_ids(target)
    for run_id in run_ids(source):
        here, there = source.run(run_id), target.run(run_id)
        assert there == dataclasses.replace(here, origin="Anna")
        assert all_predictions(source, run_id) == all_predictions(target, run_id)
    drop = ["origin"]
    assert results(target).drop(columns=drop).equals(results(source).drop(columns=drop))
    assert set(results(target)["origin"]) == {"Anna"}


def test_merging_twice_changes_nothing(file: Path, target: Store) -> None:
    merge(target, read_bundle(file))
    assert target.database.path is not None
    before = target.database.path.read_bytes()
    assert merge(target, read_bundle(file)) == Merged((), len(RECORDS), 0)
    assert target.database.path.read_bytes() == before


def test_an_origin_is_kept_through_a_second_bundle(file: Path, target: Store, tmp_path: Path) -> None:
    merge(target, read_bundle(file))
    write_bundle(target, run_ids(target)[:1], tmp_path / "again.zip", "Bert")
    with open_store(str(tmp_path / "third.db")) as third:
        merge(third, read_bundle(tmp_path / "again.zip"), origin="Carl")
        assert third.run(run_ids(third)[0]).origin == "Anna"


def test_runs_that_name_nobody_get_the_origin_that_is_given(source: Store, target: Store, tmp_path: Path) -> None:
    write_bundle(source, run_ids(source)[:1], tmp_path / "own.zip", None)
    merge(target, read_bundle(tmp_path / "own.zip"), origin="Dora")
    assert target.run(run_ids(target)[0]).origin == "Dora"


def test_the_same_runs_give_the_same_bytes_but_for_the_time(source: Store, file: Path, tmp_path: Path) -> None:
    write_bundle(source, run_ids(source), tmp_path / "again.zip", "Anna")
    first, second = unzip(file), unzip(tmp_path / "again.zip")
    assert first.pop(MANIFEST) != second.pop(MANIFEST)
    assert first == second


def test_a_dry_run_tells_what_is_new_and_writes_nothing(file: Path, target: Store) -> None:
    assert len(merge(target, read_bundle(file), dry=True).added) == len(RECORDS)
    assert run_ids(target) == []


def test_a_suite_with_another_recipe_here_keeps_its_own(file: Path, target: Store, source: Store) -> None:
    other = make_record(recipe=dataclasses.replace(RECORDS[0].trial.recipe, epochs=9), method="lora")
    fill(target, [other])
    merged = merge(target, read_bundle(file))
    assert merged.outside == 3  # seeds 0, 1 and 7 of lora; ft has no cell here
    with target.reading() as connection:
        members = set(connection.scalars(sa.select(SUITE_MEMBERS.c.trial_id)))
    assert other.trial.id in members
    assert len(members) == 3
    assert len(run_ids(target)) == len(RECORDS) + 1


def test_an_existing_file_is_left_alone(source: Store, file: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        write_bundle(source, run_ids(source), file, None)


# -------------------------------------------------------------------------------------- contradictions


def test_other_content_under_one_id_is_refused_and_shown(file: Path, target: Store, tmp_path: Path) -> None:
    merge(target, read_bundle(file))
    before = stored_sha256(target, run_ids(target)[0])

    def better(run: dict[str, Any]) -> None:
        run["scores"][0][3] = 0.99

    forged = zip_to(tmp_path / "forged.zip", with_run(unzip(file), better))
    with pytest.raises(UserError, match=r"other content .* scores .*; nothing was merged"):
        merge(target, read_bundle(forged))
    assert stored_sha256(target, run_ids(target)[0]) == before


def test_a_conflict_keeps_the_new_runs_out_too(file: Path, target: Store, source: Store, tmp_path: Path) -> None:
    write_bundle(source, run_ids(source)[:1], tmp_path / "one.zip", None)
    merge(target, read_bundle(tmp_path / "one.zip"))
    forged = zip_to(tmp_path / "forged.zip", with_run(unzip(file), lambda run: run.update(reason="another")))
    with pytest.raises(UserError, match="other content"):
        merge(target, read_bundle(forged))
    assert len(run_ids(target)) == 1


def test_a_task_of_another_meaning_is_refused(file: Path, target: Store) -> None:
    target.describe(METHODS, [dataclasses.replace(TASKS[0], metrics=("accuracy",))])
    with pytest.raises(UserError, match="task 'mrpc', version 1, has another kind"):
        merge(target, read_bundle(file))


# ------------------------------------------------------------------------------------------ forgeries


def change_field(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda run: run.update({name: value})


FORGED_RUNS: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (change_field("status", "splendid"), "status = 'splendid' is not what belongs there"),
    (change_field("id", "../../../etc"), "id = .* is not what belongs there"),
    (change_field("scores", [[1, "test", "f1", "high"]]), "scores = "),
    (change_field("scores", [[1, "test", "f1", 1.5]]), "scores = "),
    (change_field("scores", [[1, "test", "f1", 0.5]] * 2), "stands there twice"),
    (change_field("scores", [[-1, "test", "f1", 0.5]]), "scores = "),
    (change_field("started_at", "2026-01-31T12:00:00"), "started_at = "),
    (change_field("started_at", "2026-01-31T14:00:00+02:00"), "started_at of run .* is not written as bundles are"),
    (change_field("extra", 1), "a field 'extra'"),
    (change_field("provenance", []), "provenance = "),
    (change_field("provenance", {"commit": []}), "provenance = "),
    (change_field("provenance", {"dirty": "no"}), "provenance = "),
    (change_field("provenance", {"backbone_sha256": {}}), "provenance = "),
    (change_field("provenance", {"note": "hf_" + "a1B2c3D4e5F6g7H8"}), "or holds a token"),
    (change_field("costs", {}), "lacks the field"),
    (change_field("stack", "0" * 16), "does not describe the stack"),
    (change_field("trial", {}), "the trial lacks its"),
    (lambda run: run["trial"].update(method="unheard"), "does not describe"),
    (lambda run: run["trial"].update(seed=1.5), "seed = 1.5"),
    (lambda run: run["trial"]["recipe"].update(epochs="3"), "epochs = '3' must be a whole number"),
    (lambda run: run["trial"]["recipe"].update(epoch=3), "unknown key 'epoch'"),
    (lambda run: run["predictions"][0].__setitem__(2, "0" * 64), "lacks arrays/0000"),
    (lambda run: run.pop("reason"), "lacks the field 'reason'"),
    (change_field("reason", "a\0b"), "reason = "),
]


@pytest.mark.parametrize(("change", "words"), FORGED_RUNS)
def test_a_run_that_is_none_is_refused_though_its_hash_is_right(
    file: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    assert_refused(zip_to(tmp_path / "x.zip", with_run(unzip(file), change)), words)


def assert_refused(path: Path, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        read_bundle(path)
    assert "\n" not in str(error.value)


def test_a_run_that_was_changed_without_its_hash_is_refused(file: Path, tmp_path: Path) -> None:
    changed = with_run(unzip(file), lambda run: run["scores"][0].__setitem__(3, 0.99), forge=False)
    assert_refused(zip_to(tmp_path / "x.zip", changed), "has not the hash that it says")


def test_a_member_that_was_changed_is_refused(file: Path, tmp_path: Path) -> None:
    members = unzip(file)
    array = next(name for name in members if name.startswith("arrays/"))
    assert_refused(zip_to(tmp_path / "x.zip", {**members, array: b"[1]"}), "has not the hash that bundle.json says")
    assert_refused(zip_to(tmp_path / "y.zip", sealed({**members, array: b"[1]"})), "has not the hash in its name")


def test_a_stack_under_a_forged_id_is_refused(file: Path, tmp_path: Path) -> None:
    members = unzip(file)
    stack = json.loads(members["stacks.jsonl"])
    stack["details"]["device"] = "cuda"
    assert_refused(
        zip_to(tmp_path / "x.zip", sealed({**members, "stacks.jsonl": canonical(stack)})), "is not the hash of its"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metrics": ["f2"]}, "unknown metric 'f2' in .*: did you mean 'f1'"),
        ({"metrics": ["pearson"]}, "the metric pearson is for regression; for classification there are accuracy, f1"),
        ({"metrics": []}, "metrics = .* is not what belongs there"),
        ({"kind": "generation", "metrics": ["parsed"]}, "is not a list of texts, as generation has them"),
    ],
)
def test_a_task_whose_predictions_no_metric_could_judge_is_refused(
    file: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    members = unzip(file)
    lines = [json.loads(line) | change for line in members["tasks.jsonl"].splitlines()]
    forged = {**members, "tasks.jsonl": b"".join(canonical(line) + b"\n" for line in lines)}
    assert_refused(zip_to(tmp_path / "x.zip", sealed(forged)), words)


@pytest.mark.parametrize("name", ["../evil.json", "/etc/passwd", "arrays/../../x.json", "arrays/x.json", "run.py"])
def test_a_path_that_does_not_belong_there_is_refused(file: Path, tmp_path: Path, name: str) -> None:
    assert_refused(zip_to(tmp_path / "x.zip", sealed({**unzip(file), name: b"[]"})), "does not belong into a bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_a_bomb_is_refused_before_it_is_unpacked(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = b"[" + b"0," * 8_000_000 + b"0]"
    members = sealed({**unzip(file), f"arrays/{sha256(bomb)}.json": bomb})
    path = zip_to(tmp_path / "x.zip", members)
    assert path.stat().st_size < 100_000
    assert_refused(path, "would unpack to 16000003 bytes; it is refused")
    monkeypatch.setattr("harness.bundle.format.MOST_BYTES", 1000)
    assert_refused(file, "would unpack to more than")
    monkeypatch.setattr("harness.bundle.format.MOST_MEMBERS", 3)
    assert_refused(file, "members; at most 3 are read")


def test_two_members_of_one_name_are_refused(file: Path, tmp_path: Path) -> None:
    path = zip_to(tmp_path / "x.zip", unzip(file))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("runs.jsonl", b"")
    assert_refused(path, "two members 'runs.jsonl'")


def test_a_newer_bundle_is_refused_with_advice(file: Path, tmp_path: Path) -> None:
    members = unzip(file)
    manifest = {**json.loads(members[MANIFEST]), "version": 99, "something": "new"}
    assert_refused(
        zip_to(tmp_path / "x.zip", {**members, MANIFEST: canonical(manifest)}), "version 99; .* update the harness"
    )


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip at all" * 100])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    assert_refused(tmp_path / "x.zip", "is not a bundle, or is damaged")
    assert_refused(tmp_path / "missing.zip", "there is no file")
    assert_refused(tmp_path, "cannot be read")


# -------------------------------------------------------------------------------- commands and copies


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_commands_carry_runs(source: Store, tmp_path: Path) -> None:
    place = source.database.path
    assert place is not None
    one = run_ids(source)[0]
    made = invoke("bundle", tmp_path / "one.zip", "--run", one[:8], "--origin", "Anna", "--db", place)
    assert made.exit_code == 0, made.output
    assert "1 runs, 1 suites" in made.stdout
    dry = invoke("merge", tmp_path / "one.zip", "--db", tmp_path / "new.db", "--dry-run")
    assert dry.exit_code == 2  # there is no such database
    for say in ("1 runs added, 0 were there before", "0 runs added, 1 were there before"):
        done = invoke("merge", tmp_path / "one.zip", "--db", tmp_path / "new.db")
        assert done.exit_code == 0, done.output
        assert say in done.stdout
    shown = invoke("results", "--db", tmp_path / "new.db", "--json")
    assert {row["origin"] for row in json.loads(shown.stdout)} == {"Anna"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "zzz"], "no run in"),
        (["--suite", "glue-tin"], "did you mean 'glue-tiny'?"),
        (["--origin", "a\nb"], "printable"),
    ],
)
def test_a_bundle_of_what_is_not_there_is_one_line(
    source: Store, tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = invoke("bundle", tmp_path / "x.zip", "--db", str(source.database.path), *arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert not (tmp_path / "x.zip").exists()


def test_a_copy_has_every_row_and_is_refused_where_there_are_some(source: Store, target: Store) -> None:
    copied = copy_database(source, target)
    assert copied["runs"] == len(RECORDS)
    with source.reading() as first, target.reading() as second:
        for table in METADATA.sorted_tables:
            query = sa.select(table).order_by(*table.primary_key)
            assert first.execute(query).all() == second.execute(query).all(), table.name
    with pytest.raises(UserError, match=r"holds \w+ already"):
        copy_database(source, target)


def test_costs_and_suites_of_odd_runs_survive(target: Store, tmp_path: Path) -> None:
    record = make_record(costs=Costs(train_flops=1e300, train_seconds=0.1 + 0.2, peak_memory_bytes=2**40))
    with open_store(str(tmp_path / "odd.db")) as odd:
        odd.describe(METHODS, TASKS)
        odd.set_suite(make_suite([record.trial], name="ünï-codé 'quoted'; DROP TABLE runs"))
        run_id = odd.add_run(record)
        write_bundle(odd, [run_id], tmp_path / "odd.zip", "O'Hara; --")
        merge(target, read_bundle(tmp_path / "odd.zip"))
        assert target.run(run_id).record == odd.run(run_id).record
    assert target.run(run_id).origin == "O'Hara; --"
    assert [suite.name for suite in target.suites()] == ["ünï-codé 'quoted'; DROP TABLE runs"]


def test_reading_uses_no_unpickling(file: Path, monkeypatch: pytest.MonkeyPatch, target: Store) -> None:
    import pickle

    import torch

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr(pickle, "Unpickler", forbidden)
    assert len(merge(target, read_bundle(file)).added) == len(RECORDS)
    assert io.BytesIO(file.read_bytes()).read(2) == b"PK"
