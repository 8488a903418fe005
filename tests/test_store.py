"""The store: nothing is lost, nothing is edited, reading changes nothing, and errors are one clear line."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from factories import METHODS, TASKS, fill, make_record, make_scores, make_suite, make_trial
from sqlalchemy.exc import IntegrityError

from harness import schema, schema_doc
from harness.database import Database
from harness.errors import UserError
from harness.records import Costs, Predictions, RunRecord, Score
from harness.store import Store, open_store
from harness.trial import Start

ROOT = Path(__file__).parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "leaderboard.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with open_store(str(path)) as opened:
        opened.describe(METHODS, TASKS)
        yield opened


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter (pytest's own temporary folders are private)."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Not root: to root every file is writable."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def count(store: Store, table: str) -> int:
    with store.reading() as connection:
        return int(connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())


def assert_refused(path: Path | str, *words: str, create: bool = True) -> None:
    """Opening gives one line that has all the words."""
    with pytest.raises(UserError) as error:
        open_store(str(path), create=create)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


# ------------------------------------------------------------------------------------- round trips


def test_a_run_comes_back_as_it_went_in(store: Store) -> None:
    record = make_record(costs=Costs(*range(1, 13)), reason="", start=Start("warmup", 3, 5e-4))
    store.set_suite(make_suite([record.trial]))
    details = store.run(store.add_run(record))
    expected = dataclasses.replace(record, predictions=[], scores=details.record.scores)
    assert details.record == expected
    assert sorted(map(repr, details.record.scores)) == sorted(map(repr, record.scores))
    assert details.members == (("glue-tiny", "main", "lora"),)
    assert details.record.trial.id == record.trial.id


def test_a_log_is_kept_while_many_runs_are_stored_and_others_read_them_at_once(tmp_path: Path) -> None:
    file = tmp_path / "leaderboard.db"
    with open_store(str(file)) as store, open_store(str(file)) as other:
        fill(store, [make_record()])
        with store.database.kept_open():
            before = file.read_bytes()
            run_id = store.add_run(make_record(seed=1))
            assert file.read_bytes() == before  # nothing is written back
            assert other.run(run_id).record.trial.seed == 1
        assert file.read_bytes() != before
        assert list(tmp_path.iterdir()) == [file]


def test_a_failure_comes_back_with_reason_and_traceback(store: Store) -> None:
    record = make_record(status="oom", reason="needs 9 GB", traceback="Traceback ...", scores=[], parameters=None)
    found = store.run(store.add_run(record)).record
    assert (found.status, found.reason, found.traceback) == ("oom", "needs 9 GB", "Traceback ...")
    assert found.parameters is None


def test_predictions_come_back_and_example_sets_are_shared(store: Store) -> None:
    ids: list[Any] = ["a", 7]  # the harness writes strings; whatever JSON holds comes back as it is
    both = [Predictions("test", epoch, ids, [0.5, 1.0], [np.float32(0.25), math.nan]) for epoch in (1, 2)]
    first = store.add_run(make_record(predictions=both))
    store.add_run(make_record(seed=1, predictions=both))
    assert store.predictions(first, "test") == Predictions("test", 2, ids, [0.5, 1.0], [0.25, None])
    assert store.predictions(first, "test", epoch=1).epoch == 1
    assert (count(store, "example_sets"), count(store, "predictions")) == (1, 4)


def test_equal_examples_of_two_splits_are_two_sets(store: Store) -> None:
    splits = [Predictions(split, 1, ["a"], [0], [1]) for split in ("matched", "mismatched")]
    run_id = store.add_run(make_record(task="mnli", predictions=splits))
    assert count(store, "example_sets") == 2
    with pytest.raises(UserError, match="no predictions for test; it has: matched after epoch 1, mismatched"):
        store.predictions(run_id, "test")


def test_the_curve_comes_back_in_step_order(store: Store) -> None:
    assert store.curve(store.add_run(make_record(losses=[(20, 0.5), (10, 0.75)]))) == [(10, 0.75), (20, 0.5)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scores": make_scores([0.5], [math.nan])}, "f1 on test after epoch 1 is nan."),
        ({"losses": [(10, 0.5), (20, math.inf)]}, "the training loss at step 20 is inf."),
    ],
)
def test_a_number_that_is_not_finite_is_null_and_the_run_diverged(
    store: Store, change: dict[str, Any], reason: str
) -> None:
    details = store.run(store.add_run(make_record(**change)))
    assert (details.record.status, details.record.reason) == ("diverged", reason)
    assert count(store, "scores WHERE value IS NULL") + count(store, "losses WHERE loss IS NULL") == 1


def test_unmeasured_costs_are_null_and_odd_provenance_is_kept_as_text(store: Store) -> None:
    costs = Costs(train_seconds=math.nan)
    details = store.run(store.add_run(make_record(costs=costs, provenance={"file": Path("a/b"), "n": np.int64(3)})))
    assert details.record.status == "ok"
    assert details.record.costs == Costs()
    assert details.record.provenance == {"file": "a/b", "n": 3}
    assert details.stack is None


def test_every_cost_has_a_column_and_every_column_a_meaning() -> None:
    assert {field.name for field in dataclasses.fields(Costs)} <= set(schema.RUNS.c.keys())
    for table in schema.METADATA.sorted_tables:
        assert table.comment
        assert all(column.comment for column in table.columns), table.name


# ------------------------------------------------------------------------------- keys and questions


def test_a_run_of_an_undescribed_method_is_refused_whole(store: Store) -> None:
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        store.add_run(make_record(method="unheard_of"))
    assert [count(store, table) for table in ("runs", "trials", "backbones", "scores")] == [0, 0, 0, 0]


def test_deleting_a_trial_that_has_runs_is_refused(store: Store) -> None:
    store.add_run(make_record())
    with pytest.raises(IntegrityError, match="FOREIGN KEY"), store.database.writing() as connection:
        connection.execute(sa.delete(schema.TRIALS))


def test_an_invented_status_is_refused(store: Store) -> None:
    with pytest.raises(IntegrityError, match="CHECK"):
        store.add_run(make_record(status="fine"))


def test_a_run_that_fails_halfway_leaves_nothing(store: Store) -> None:
    twice = [Score(1, "test", "f1", 0.5)] * 2
    with pytest.raises(IntegrityError):
        store.add_run(make_record(scores=twice))
    assert count(store, "runs") == 0


def test_a_second_run_is_appended_and_the_first_stays(store: Store) -> None:
    first = store.add_run(make_record())
    before = store.run(first)
    store.add_run(make_record(minutes=5, scores=[]))
    assert store.run(first) == before
    assert count(store, "runs") == 2


def test_finished_and_latest_status_tell_of_the_asked_trials(store: Store) -> None:
    good, retried, bad, other = (make_record(seed=seed) for seed in range(4))
    store.add_run(good)
    store.add_run(dataclasses.replace(retried, status="failed"))
    store.add_run(dataclasses.replace(retried, started_at=make_record(minutes=9).started_at))
    store.add_run(dataclasses.replace(bad, status="oom"))
    store.add_run(other)
    asked = [record.trial.id for record in (good, retried, bad)] + ["not stored"]
    assert store.finished(asked) == {good.trial.id, retried.trial.id}
    assert store.latest_status(asked) == {good.trial.id: "ok", retried.trial.id: "ok", bad.trial.id: "oom"}


def test_a_run_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    ids = [store.add_run(make_record(seed=seed)) for seed in range(17)]  # 17 ids: two share their first digit
    assert store.run(ids[0][:11]).id == ids[0]
    with pytest.raises(UserError, match=r"more than one run id begins with ''.*Give more digits"):
        store.run("")
    with pytest.raises(UserError, match=r"no run in .* has an id that begins with '%'"):
        store.run("%")


def test_describing_again_updates_the_description(store: Store) -> None:
    store.describe([dataclasses.replace(METHODS[1], title="LoRA!")], [dataclasses.replace(TASKS[0], version=2)])
    assert [info.title for info in store.methods()] == ["FT", "Head only", "LoRA!"]
    assert [(info.name, info.version) for info in store.tasks()] == [("mnli", 1), ("mrpc", 1), ("mrpc", 2), ("stsb", 2)]
    assert store.tasks()[1] == TASKS[0]


def test_the_first_known_weights_hash_is_kept(store: Store) -> None:
    for seed, known in enumerate((None, "aa", "bb")):
        store.add_run(make_record(seed=seed, provenance={"backbone_sha256": known}))
    assert count(store, "backbones WHERE weights_sha256 = 'aa'") == 1


# ------------------------------------------------------------------------------------------ suites


def places(store: Store) -> list[tuple[str, int]]:
    with store.reading() as connection:
        query = "SELECT label, seed FROM suite_members JOIN trials ON trials.id = trial_id ORDER BY position"
        return [(row.label, row.seed) for row in connection.execute(sa.text(query))]


def test_a_filtered_plan_keeps_the_other_members(store: Store) -> None:
    store.set_suite(make_suite([make_trial(seed=0), make_trial(seed=1)]))
    store.set_suite(make_suite([make_trial(seed=1), make_trial(seed=0, method="ft")]))
    assert places(store) == [("lora", 0), ("lora", 1), ("ft", 0)]
    assert [(suite.name, suite.trials) for suite in store.suites()] == [("glue-tiny", 3)]


def test_a_changed_trial_takes_the_place_of_the_old_one_and_runs_stay(store: Store) -> None:
    old, new = make_record(), make_record(recipe=dataclasses.replace(make_trial().recipe, epochs=9))
    fill(store, [old])
    store.set_suite(make_suite([new.trial]))
    assert places(store) == [("lora", 0)]
    assert count(store, "runs") == 1
    assert store.latest_status([old.trial.id]) == {old.trial.id: "ok"}


def test_a_changed_trial_takes_the_place_of_the_old_one_under_all_its_seeds(store: Store) -> None:
    """Else a row would mix recipes where it has seeds that the plan does not name."""
    store.set_suite(make_suite([make_trial(seed=seed) for seed in range(4)] + [make_trial(method="ft", seed=3)]))
    changed = dataclasses.replace(make_trial().recipe, epochs=9)
    store.set_suite(make_suite([make_trial(seed=seed, recipe=changed) for seed in (0, 1)]))
    assert sorted(places(store)) == [("ft", 3), ("lora", 0), ("lora", 1)]


def test_cells_that_a_whole_plan_lacks_leave_the_suite_and_guests_stay(store: Store) -> None:
    former = [make_trial(train_size=500, seed=seed) for seed in (0, 1)]
    store.set_suite(make_suite([make_trial(seed=0), *former, make_trial(method="ft"), make_trial(seed=7)]))
    left = make_suite([make_trial(seed=0)])
    store.set_suite(left)
    assert places(store) == [("lora", 0), ("lora", 0), ("lora", 1), ("ft", 0), ("lora", 7)]
    store.set_suite(dataclasses.replace(left, whole=True))
    assert places(store) == [("lora", 0), ("ft", 0), ("lora", 7)]


def test_one_trial_may_stand_in_two_suites(store: Store) -> None:
    run_id = fill(store, [make_record()], "one")[0]
    store.set_suite(make_suite([make_trial()], "two", "train-size"))
    assert store.run(run_id).members == (("one", "main", "lora"), ("two", "train-size", "lora"))


# -------------------------------------------------------------------------------------- concurrency


def _write_runs(path: str, method: str) -> None:
    with open_store(path) as store:
        store.describe(METHODS, TASKS)
        for seed in range(20):
            store.add_run(make_record(method=method, seed=seed))


def test_two_processes_create_and_write_at_once_and_nothing_is_lost(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_runs, args=(str(path), method)) for method in ("ft", "lora")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    with open_store(str(path), create=False) as store:
        assert (count(store, "runs"), count(store, "scores"), count(store, "losses")) == (40, 240, 80)
        assert (count(store, "stacks"), count(store, "example_sets")) == (1, 1)


def _die_while_writing(path: str) -> None:
    store = open_store(path)
    with store.database.writing() as connection:
        connection.execute(sa.update(schema.RUNS).values(status="failed"))
        connection.execute(sa.insert(schema.SUITES).values(name="half", title="", description="", rank_by="last"))
        os._exit(9)


def test_a_writer_that_dies_leaves_what_was_stored_before(path: Path, store: Store) -> None:
    run_id = store.add_run(make_record())
    writer = multiprocessing.get_context("fork").Process(target=_die_while_writing, args=(str(path),))
    writer.start()
    writer.join(60)
    assert writer.exitcode == 9
    assert store.run(run_id).record.status == "ok"
    assert store.suites() == []
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_file_is_whole_and_alone_after_each_transaction(path: Path, store: Store) -> None:
    store.add_run(make_record())
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


# -------------------------------------------------------------------------------- schema and readers


def test_migrations_make_what_the_models_say(store: Store) -> None:
    with store.reading() as connection:
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, schema.METADATA) == []
        checks = sa.inspect(connection).get_check_constraints("runs")
    assert [check["name"] for check in checks] == ["ck_runs_status"]


def test_an_older_schema_is_refused_to_readers_and_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(str(path)).close()
    before = path.read_bytes()
    monkeypatch.setattr("harness.store.SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
    assert_refused(path, f"older schema {schema.SCHEMA_VERSION}", "harness run", create=False)
    assert path.read_bytes() == before


def test_migrating_twice_changes_nothing(store: Store) -> None:
    run_id = store.add_run(make_record())
    store.database.migrate()
    assert store.database.version() == schema.SCHEMA_VERSION
    assert store.run(run_id).record.status == "ok"


def test_schema_page_is_current_and_its_queries_run(store: Store) -> None:
    assert (ROOT / "docs" / "schema.md").read_text(encoding="utf-8") == schema_doc.render()
    fill(store, [make_record(), make_record(seed=1, status="failed", scores=[])])
    with store.reading() as connection:
        for title, sql in schema_doc.EXAMPLES.items():
            assert len(pd.read_sql(sa.text(sql), connection)) > 0, title


def test_pandas_and_plain_sqlite_read_the_file(path: Path, store: Store) -> None:
    fill(store, [make_record()])
    frame = pd.read_sql("SELECT * FROM runs JOIN scores ON run_id = id", sa.create_engine(f"sqlite:///{path}"))
    assert len(frame) == 6
    assert set(frame["started_at"]) == {"2026-01-31T12:00:00.000000+00:00"}
    assert pd.to_datetime(frame["started_at"]).dt.tz is not None


def test_nothing_is_pickled(path: Path, store: Store) -> None:
    fill(store, [make_record()])
    for table in schema.METADATA.sorted_tables:
        assert not any(isinstance(column.type, sa.PickleType) for column in table.columns)
    with store.reading() as connection:
        packed = connection.execute(sa.text("SELECT predicted FROM predictions")).scalar_one()
    assert packed[:1] == b"\x78"  # zlib


# ------------------------------------------------------------------------------------------ reading


def read_everything(store: Store, run_id: str) -> None:
    store.run(run_id), store.suites(), store.methods(), store.tasks(), store.curve(run_id)
    store.predictions(run_id, "test"), store.finished([]), store.latest_status([])


@pytest.mark.parametrize("create", [True, False])
def test_reading_leaves_every_byte_and_no_side_files(path: Path, create: bool) -> None:
    with open_store(str(path)) as store:
        run_id = fill(store, [make_record()])[0]
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    with open_store(str(path), create=create) as store:
        read_everything(store, run_id)
        store.check_writable()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_without_write_permission_can_be_read_and_says_that_it_cannot_be_written(open_folder: Path) -> None:
    path = open_folder / "leaderboard.db"
    with open_store(str(path)) as store:
        run_id = fill(store, [make_record()])[0]
    path.chmod(0o444)
    open_folder.chmod(0o555)
    with unprivileged(), open_store(str(path)) as store:
        read_everything(store, run_id)
        for write in (store.check_writable, lambda: store.add_run(make_record())):
            with pytest.raises(UserError, match=r"cannot be (written|opened): make file and folder writable"):
                write()


def test_a_folder_without_write_permission_is_named(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    with unprivileged():
        assert_refused(open_folder / "new.db", "cannot be opened: make file and folder writable")
    assert list(open_folder.iterdir()) == []


def test_a_reading_connection_cannot_write(store: Store) -> None:
    with pytest.raises(UserError, match="cannot be written"), store.reading() as connection:
        connection.execute(sa.delete(schema.RUNS))


# ---------------------------------------------------------------------------------------- bad input


def test_a_missing_file_is_an_error_for_readers(path: Path) -> None:
    assert_refused(path, "no database", "run --all", create=False)
    assert not path.exists()


def test_an_empty_file_is_filled_by_writers_and_an_error_for_readers(path: Path) -> None:
    path.touch()
    assert_refused(path, "holds no results yet", create=False)
    with open_store(str(path)) as store:
        assert count(store, "runs") == 0


def test_a_text_file_is_named_and_left_alone(path: Path) -> None:
    path.write_text("suite,method,score\n" * 200)
    before = path.read_bytes()
    assert_refused(path, "is not an SQLite database", "--db", path.name)
    assert path.read_bytes() == before


def test_the_database_of_another_program_is_named_and_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    before = path.read_bytes()
    assert_refused(path, "another program", "'bookmarks'")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_truncated_file_is_named(path: Path) -> None:
    with open_store(str(path)) as store:
        fill(store, [make_record(seed=seed) for seed in range(5)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_refused(path, "damaged or cut short", "restore")


def test_a_newer_schema_is_left_alone(path: Path) -> None:
    open_store(str(path)).close()
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0099'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    assert_refused(path, "newer harness (schema 99", "update the harness")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "names no file"),
        ("nosuch://host/name", "is not a database URL"),
        ("a://b:c", "is not a database URL"),
    ],
)
def test_an_impossible_url_is_one_line(url: str, words: str) -> None:
    assert_refused(url, words)


def test_a_folder_or_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert_refused(tmp_path, "is a folder")
    assert_refused(tmp_path / "missing" / "x.db", "does not exist")
    assert list(tmp_path.iterdir()) == []


def test_a_path_with_strange_signs_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "50% of a?b#c ü.db"
    open_store(f"{path}").close()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with open_store(f"sqlite:///{tmp_path}/plain.db") as store:
        assert store.database.path == tmp_path / "plain.db"


def test_a_full_disk_loses_nothing_that_was_stored(store: Store) -> None:
    kept = store.add_run(make_record())
    ids, values = list(map(str, range(3000))), list(np.random.default_rng(0).random(3000))
    noise = [Predictions("test", 1, ids, [0] * 3000, values)]

    def allow_one_more_page(connection: sqlite3.Connection, record: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")

    engine = store.database._engine("writer")
    sa.event.listen(engine, "connect", allow_one_more_page)
    with pytest.raises(
        UserError, match=r"no space left .* nothing stored before was lost\. Make room and run the same"
    ):
        store.add_run(make_record(seed=1, predictions=noise))
    sa.event.remove(engine, "connect", allow_one_more_page)
    assert count(store, "runs") == 1
    assert store.run(kept).record.status == "ok"
    store.add_run(make_record(seed=1, predictions=noise))
    assert count(store, "runs") == 2


def test_a_busy_database_is_named(path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.database.BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match="busy with another process"):
        store.add_run(make_record())
    holder.execute("ROLLBACK")
    holder.close()


def test_a_table_that_is_not_there_any_more_is_damage_and_named(path: Path) -> None:
    open_store(str(path)).close()
    database = Database(str(path))
    with pytest.raises(UserError, match=r"damaged.*no such table: nowhere"), database.reading() as connection:
        connection.execute(sa.text("SELECT * FROM nowhere"))


def test_an_unexpected_database_error_is_not_hidden(path: Path) -> None:
    open_store(str(path)).close()
    database = Database(str(path))
    with pytest.raises(sa.exc.IntegrityError), database.writing() as connection:
        connection.execute(sa.text("INSERT INTO suites (name) VALUES ('x')"))


def test_a_time_without_zone_is_refused(store: Store) -> None:
    record: RunRecord = make_record()
    with pytest.raises(sa.exc.StatementError, match="no time zone"):
        store.add_run(dataclasses.replace(record, started_at=record.started_at.replace(tzinfo=None)))
