"""The same store on PostgreSQL: what a file holds, a server holds; several drivers share it."""

from __future__ import annotations

import dataclasses
import multiprocessing
from pathlib import Path
from typing import Any

import lease_support
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from factories import METHODS, TASKS, fill, make_record, make_suite
from typer.testing import CliRunner

from harness import schema
from harness.bundle.merging import merge
from harness.bundle.reading import read_bundle
from harness.bundle.writing import write_bundle
from harness.cli import app
from harness.copying import copy_database
from harness.errors import UserError
from harness.leases import Leases
from harness.rescoring import rescore
from harness.scoring import results
from harness.store import open_store


def test_a_run_comes_back_as_it_went_in(url: str) -> None:
    record = make_record(reason="zero\0byte")
    with open_store(url) as store:
        store.describe(METHODS, TASKS)
        store.set_suite(make_suite([record.trial]))
        details = store.run(store.add_run(record)[:8])
        kept = store.predictions(details.id, "test")
    expected = dataclasses.replace(record, predictions=[], scores=details.record.scores, reason="zero\\0byte")
    assert details.record == expected
    assert sorted(map(repr, details.record.scores)) == sorted(map(repr, record.scores))
    assert kept == record.predictions[0]


def test_migrations_make_what_the_models_say(url: str) -> None:
    with open_store(url) as store, store.reading() as connection:
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, schema.METADATA) == []
        checks = {check["name"]: check["sqltext"] for check in sa.inspect(connection).get_check_constraints("runs")}
    assert "timeout" in checks["ck_runs_status"]


def test_results_are_those_of_a_file_with_the_same_runs(url: str, tmp_path: object) -> None:
    records = [make_record(method=method, seed=seed) for method in ("ft", "lora") for seed in range(3)]
    frames = []
    for place in (url, f"{tmp_path}/leaderboard.db"):
        with open_store(place) as store:
            fill(store, records)
            frames.append(results(store).drop(columns=["run_id"]))
    assert frames[0].equals(frames[1])


def test_a_reading_connection_cannot_write(url: str) -> None:
    with open_store(url) as store:
        with pytest.raises(UserError, match="cannot be written"), store.reading() as connection:
            connection.execute(sa.delete(schema.RUNS))
        store.check_writable()


def test_readers_are_told_of_an_empty_database(url: str) -> None:
    with pytest.raises(UserError, match="holds no results yet"):
        open_store(url, create=False)


def test_the_database_of_another_program_is_named(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE bookmarks (url TEXT)"))
    engine.dispose()
    with pytest.raises(UserError, match=r"another program .*'bookmarks'"):
        open_store(url)


def test_a_newer_schema_is_refused(url: str) -> None:
    with open_store(url) as store, store.database.writing() as connection:
        connection.execute(sa.text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0099'"))
    with pytest.raises(UserError, match="newer harness"):
        open_store(url)


@pytest.mark.parametrize("change", [{"port": 1}, {"database": "nowhere"}, {"username": "nobody-here"}])
def test_an_unreachable_server_is_one_line(server: str, change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no connection to") as error:
        open_store(sa.make_url(server).set(**change).render_as_string(hide_password=False))
    assert "\n" not in str(error.value)


def test_drivers_of_one_server_share_the_trials(url: str) -> None:
    lease_support.check_drivers_share(url)


def test_leases_keep_the_same_rules(url: str) -> None:
    with open_store(url) as store:
        lease_support.check_rules(store)


def test_a_lease_runs_out_unless_it_is_renewed(url: str) -> None:
    with open_store(url) as store:
        lease_support.check_an_expired_lease_is_free(store)


def test_rows_that_another_driver_is_about_to_take_are_skipped_and_not_waited_for(url: str) -> None:
    with open_store(url) as store, open_store(url) as other:
        trials = [member.trial for member in lease_support.plan(store, 2)]
        second = Leases(other, trials, "b:1:0")
        with store.database.writing() as connection:
            connection.execute(sa.insert(schema.LEASES).values(trial_id=trials[0].id))
        with store.database.writing() as connection:
            query = sa.select(schema.LEASES.c.trial_id).where(schema.LEASES.c.trial_id == trials[0].id)
            assert connection.execute(query.with_for_update()).all() == [(trials[0].id,)]
            assert second.take(trials) == trials[1:]


def test_several_processes_may_make_the_tables_at_once(url: str) -> None:
    context = multiprocessing.get_context("fork")
    makers = [context.Process(target=lambda: open_store(url).close()) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(60)
    assert [maker.exitcode for maker in makers] == [0] * 4


def test_a_lost_connection_is_made_anew_for_the_next_run(url: str) -> None:
    with open_store(url) as store:
        fill(store, [make_record()])
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            others = "datname IS NOT NULL AND pid <> pg_backend_pid()"
            query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
            connection.execute(sa.text(query))
        engine.dispose()
        store.add_run(make_record(seed=1))
        assert len(results(store)) == 1


def test_a_database_goes_to_the_server_and_back_without_a_change(url: str, tmp_path: Path) -> None:
    first, last = str(tmp_path / "first.db"), str(tmp_path / "last.db")
    with open_store(first) as here, open_store(url) as server, open_store(last) as back:
        fill(here, [make_record(seed=seed, method=method) for seed in range(2) for method in ("ft", "lora")])
        assert copy_database(here, server)["runs"] == 4
        copy_database(server, back)
        with here.reading() as one, server.reading() as two, back.reading() as three:
            for table in schema.METADATA.sorted_tables:
                query = sa.select(table)
                found = [sorted(map(repr, c.execute(query).all())) for c in (one, two, three)]
                assert found[0] == found[1] == found[2], table.name
        with pytest.raises(UserError, match=r"holds \w+ already"):
            copy_database(here, server)


def test_a_bundle_of_a_file_merges_into_the_server_once(url: str, tmp_path: Path) -> None:
    with open_store(str(tmp_path / "first.db")) as here, open_store(url) as server:
        ids = fill(here, [make_record(seed=seed, reason="zero\0byte") for seed in range(2)])
        write_bundle(here, ids, tmp_path / "runs.zip", "Anna")
        bundle = read_bundle(tmp_path / "runs.zip")
        assert [len(merge(server, bundle).added) for _ in range(2)] == [2, 0]
        assert server.run(ids[0]).origin == "Anna"
        assert rescore(server).runs == 2


def test_a_run_into_an_unreachable_server_ends_before_any_training(server: str, tmp_path: Path) -> None:
    place = sa.make_url(server).set(port=1).render_as_string(hide_password=False)
    done = CliRunner().invoke(app, ["run", "--all", "--db", place, "--cache-root", str(tmp_path), "--device", "cpu"])
    assert done.exit_code == 2
    assert "no connection to postgresql+psycopg://" in done.stderr
    assert list(tmp_path.iterdir()) == []
