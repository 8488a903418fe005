"""Bundles that nobody would make, merged: whole and checked, or refused in one line with the database as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import sqlalchemy as sa
from bundle_support import sealed, unzip, zip_to
from factories import METHODS, PROVENANCE, TASKS, fill, make_record, make_suite
from fuzzing import COUNTS, damaged, invoke, outside, some
from hypothesis import given
from hypothesis import strategies as st

from harness.bundle.format import MANIFEST, run_sha256
from harness.bundle.writing import write_bundle
from harness.metrics import KINDS as METRIC_KINDS
from harness.records import MethodInfo, ParameterCounts, Predictions, RunRecord, Score, Status, TaskInfo
from harness.schema import RUNS
from harness.store import Store, open_store
from reports.names import run_file
from reports.site import build_site

HELD = make_record(seed=11, minutes=30)
"""A run that the database has already."""
OFFERED = [make_record(method=method, seed=seed, minutes=seed) for method in ("ft", "lora") for seed in range(2)]
TYPED = ("commit", "dirty", "backbone_sha256", "data_sha256", "start_head", "whole_batches", "stack")


def nested(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """JSON of these leaves."""
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
    )


anything = nested(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), st.text(max_size=6))
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
names = st.text(
    st.characters(exclude_categories=["Cs", "C", "Z"]) | st.just(" "), min_size=1, max_size=12
) | st.sampled_from(["../x", "a/b", "con", ".", "<b>", "#", "a?b=c", "{{ x }}", "=1+1"])
methods = st.builds(MethodInfo, names, names, texts, texts, texts, st.booleans())
numbers = st.floats(-1, 1)
storable = nested(st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | texts, texts)
ANSWERS: dict[str, st.SearchStrategy[Any]] = {
    "classification": st.integers(-1, 3),
    "regression": st.floats(-1e6, 1e6) | st.integers(-5, 5),
    "generation": texts,
}


@st.composite
def tasks(draw: st.DrawFn) -> TaskInfo:
    kind = draw(st.sampled_from(sorted(ANSWERS)))
    metrics = st.lists(
        st.sampled_from([name for name in METRIC_KINDS if METRIC_KINDS[name] == kind]), min_size=1, unique=True
    )
    tests = st.lists(names, min_size=1, max_size=2, unique=True)
    return TaskInfo(
        draw(names), draw(st.integers(0, 3)), draw(names), kind, tuple(draw(metrics)), tuple(draw(tests)), draw(texts)
    )


@st.composite
def runs_of(draw: st.DrawFn, method: MethodInfo, task: TaskInfo, seed: int) -> RunRecord:
    """A run of the method on the task, as far from any usual one as the database allows."""
    points = [
        (epoch, split, metric) for epoch in (1, 2) for split in ("select", *task.tests) for metric in task.metrics
    ]
    answers = st.lists(ANSWERS[task.kind], min_size=2, max_size=2)
    return make_record(
        method=method.name,
        task=task.name,
        task_version=task.version,
        seed=seed,
        minutes=seed,
        parameters=draw(st.none() | st.just(ParameterCounts(0, 1, 2))),
        status=draw(st.sampled_from(get_args(Status))),
        reason=draw(texts),
        traceback=draw(texts),
        scores=[Score(*point, draw(numbers)) for point in points if draw(st.booleans())],
        losses=[(step, draw(numbers)) for step in range(1, draw(st.integers(1, 4)))],
        predictions=[Predictions(task.tests[0], 2, ["a", "b"], draw(answers), draw(answers))],
        provenance={**PROVENANCE, draw(texts.filter(lambda key: key not in TYPED)): draw(storable)},
    )


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a good bundle and a database; `inside` holds what a test writes."""
    folder = tmp_path_factory.mktemp("bundles")
    (folder / "inside").mkdir()
    with open_store(str(folder / "source.db")) as source:
        fill(source, OFFERED)
        with source.reading() as connection:
            write_bundle(source, list(connection.scalars(sa.select(RUNS.c.id))), folder / "good.zip", "Anna")
    with open_store(str(folder / "held.db")) as store:
        store.describe(METHODS, TASKS)
        store.set_suite(make_suite([HELD.trial]))
        store.add_run(HELD)
    with contextlib.chdir(folder / "inside"):
        yield folder


def assert_merged_or_refused(content: bytes, places: Path) -> None:
    file, target, held = places / "inside" / "x.zip", places / "inside" / "target.db", places / "held.db"
    file.write_bytes(content)
    target.write_bytes(held.read_bytes())
    COUNTS["bundles"] += 1
    before = outside(places)
    done = invoke("merge", str(file), "--db", str(target))
    assert outside(places) == before
    assert {path.name for path in (places / "inside").iterdir()} == {"x.zip", "target.db"}
    if done.exit_code:
        assert done.exit_code == 2
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert target.read_bytes() == held.read_bytes()
        return
    with open_store(str(target), create=False) as store, open_store(str(held), create=False) as untouched:
        with store.reading() as connection, untouched.reading() as other:
            assert connection.scalar(sa.text("PRAGMA integrity_check")) == "ok"
            [run_id] = other.scalars(sa.select(RUNS.c.id)).all()
        assert store.run(run_id) == untouched.run(run_id)
        assert_shown(store, places / "inside" / "site")


def assert_shown(store: Store, folder: Path) -> None:
    """What was merged does not keep the site from being built, nor a run from being shown."""
    site = build_site(store, folder)
    assert len(site.files) > len(run_ids(store))
    for run_id in run_ids(store):
        assert (folder / run_file(run_id)).stat().st_size
        invoke("show", run_id, "--db", store.database.url)
    shutil.rmtree(folder)
    folder.with_name(".site.build.json").unlink()


def run_ids(store: Store) -> list[str]:
    with store.reading() as connection:
        return list(connection.scalars(sa.select(RUNS.c.id)))


@some(0.06)
@given(draws=st.data())
def test_a_damaged_file(draws: st.DataObject, places: Path) -> None:
    good = (places / "good.zip").read_bytes()
    assert_merged_or_refused(
        draws.draw(st.composite(lambda draw: damaged(draw, good))() | st.binary(max_size=80)), places
    )


@some(0.03)
@given(draws=st.data())
def test_any_bytes_as_a_member_whose_hash_is_right(draws: st.DataObject, places: Path) -> None:
    members = unzip(places / "good.zip")
    name = draws.draw(st.sampled_from(sorted(set(members) - {MANIFEST})))
    with_bytes = {**members, name: draws.draw(st.binary(max_size=300))}
    assert_merged_or_refused(packed(sealed(with_bytes), places), places)


@some(0.1)
@given(draws=st.data())
def test_any_json_in_the_place_of_any_value_with_all_hashes_right(draws: st.DataObject, places: Path) -> None:
    members = unzip(places / "good.zip")
    name = draws.draw(st.sampled_from(sorted(members)))
    lines = members[name].splitlines()
    index = draws.draw(st.integers(0, len(lines) - 1))
    value = json.loads(lines[index])
    put(value, draws)
    if name == "runs.jsonl" and isinstance(value.get("provenance"), dict):
        with contextlib.suppress(ValueError, TypeError):
            value["sha256"] = run_sha256(value)
    lines[index] = json.dumps(value).encode()
    members[name] = b"\n".join(lines) + b"\n"
    assert_merged_or_refused(packed(members if name == MANIFEST else sealed(members), places), places)


def put(value: Any, draws: st.DataObject) -> None:
    """Anything at some place within a list or dictionary."""
    place: Any = value
    while True:
        key = draws.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        deeper = place[key]
        if not (isinstance(deeper, dict | list) and deeper and draws.draw(st.booleans())):
            place[key] = draws.draw(anything)
            return
        place = deeper


@some(0.005)
@given(draws=st.data())
def test_any_runs_go_through_a_bundle_and_stand_on_the_site(draws: st.DataObject, places: Path) -> None:
    sent, target = places / "inside" / "sent.db", places / "inside" / "target.db"
    file = places / "inside" / "x.zip"
    for path in (sent, target, file):
        path.unlink(missing_ok=True)
    method, task = draws.draw(methods), draws.draw(tasks())
    records = [draws.draw(runs_of(method, task, seed)) for seed in range(2)]
    with open_store(str(sent)) as source:
        source.describe([method], [task])
        suite = make_suite([record.trial for record in records], draws.draw(names), draws.draw(names))
        source.set_suite(dataclasses.replace(suite, title=draws.draw(names)))
        added = [source.add_run(record) for record in records]
        write_bundle(source, added, file, draws.draw(names))
    COUNTS["bundles"] += 1
    before = outside(places)
    assert invoke("merge", str(file), "--db", str(target)).exit_code == 0
    with open_store(str(target), create=False) as store, open_store(str(sent), create=False) as source:
        assert [store.run(run_id).record for run_id in added] == [source.run(run_id).record for run_id in added]
        assert_shown(store, places / "inside" / "site")
    assert outside(places) == before
    sent.unlink()


def packed(members: dict[str, bytes], places: Path) -> bytes:
    """The bytes of the bundle of these members."""
    return zip_to(places / "inside" / "x.zip", members, zipfile.ZIP_STORED).read_bytes()
