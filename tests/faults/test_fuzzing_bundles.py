"""Bundles that nobody would make, merged: whole and checked, or refused in one line with the database as it was."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from bundle_support import sealed, unzip, zip_to
from factories import METHODS, TASKS, fill, make_record, make_suite
from fuzzing import COUNTS, damaged, invoke, outside, some
from hypothesis import given
from hypothesis import strategies as st

from harness.bundle.format import MANIFEST, run_sha256
from harness.bundle.writing import write_bundle
from harness.schema import Run
from harness.store import open_store

HELD = make_record(seed=11, minutes=30)
"""A run that the database has already."""
OFFERED = [make_record(method=method, seed=seed, minutes=seed) for method in ("ft", "lora") for seed in range(2)]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a good bundle and a database; `inside` holds what a test writes."""
    folder = tmp_path_factory.mktemp("bundles")
    (folder / "inside").mkdir()
    with open_store(str(folder / "source.db")) as source:
        fill(source, OFFERED)
        with source.reading() as connection:
            write_bundle(source, list(connection.scalars(sa.select(Run.id))), folder / "good.zip", "Anna")
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
            [run_id] = other.scalars(sa.select(Run.id)).all()
        assert store.run(run_id) == untouched.run(run_id)


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


def packed(members: dict[str, bytes], places: Path) -> bytes:
    """The bytes of the bundle of these members."""
    return zip_to(places / "inside" / "x.zip", members, zipfile.ZIP_STORED).read_bytes()
