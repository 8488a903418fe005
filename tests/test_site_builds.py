"""Builds on top of builds: what has not changed is left alone, and the bytes are those of a fresh build."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmarks._generated import Shape, add_one, generate
from harness.store import open_store
from reports import inventory, run_files, site, wide
from reports.claims import ClaimLine
from reports.second_process import second_process
from reports.site import ClaimSource, Site, build_site

SHAPE = Shape(suites=2, methods=3, tasks=2, seeds=3)


def build(database: Path, folder: Path) -> Site:
    with open_store(str(database), create=False) as store:
        return build_site(store, folder)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database and its site, to be copied."""
    folder = tmp_path_factory.mktemp("builds")
    generate(folder / "board.db", SHAPE)
    build(folder / "board.db", folder / "site")
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Path:
    """A folder with a database `board.db` and its site `site`, both to be changed at will."""
    return Path(shutil.copytree(template, tmp_path / "place"))


def test_nothing_is_made_again_when_nothing_has_changed(place: Path) -> None:
    before = content(place / "site")
    again = build(place / "board.db", place / "site")
    assert again.written == 0
    assert content(place / "site") == before
    assert {*again.files, "data/files.txt"} == set(before)


def test_a_build_on_top_of_one_gives_the_bytes_of_a_fresh_one(place: Path) -> None:
    add_one(place / "board.db", SHAPE)
    build(place / "board.db", place / "site")
    build(place / "board.db", place / "fresh")
    assert content(place / "site") == content(place / "fresh")


def test_one_run_more_leaves_other_suites_and_runs_alone(place: Path) -> None:
    before = content(place / "site")
    times = {name: (place / "site" / name).stat().st_mtime_ns for name in before}
    add_one(place / "board.db", SHAPE)
    build(place / "board.db", place / "site")
    touched = {name for name, time in times.items() if (place / "site" / name).stat().st_mtime_ns != time}
    assert "suites/suite000.html" in touched
    assert not any("suite001" in name for name in touched)
    (other,) = (name for name in touched if name.startswith("runs/"))  # the earlier run of the same trial
    assert other == "runs/000000000000.html"
    assert f"runs/{SHAPE.runs:012x}.html" in content(place / "site")


def test_a_file_that_is_gone_or_cut_short_is_made_again(place: Path) -> None:
    before = content(place / "site")
    (place / "site" / "suites" / "suite001.html").unlink()
    (place / "site" / "runs" / "000000000001.html").write_text("cut")
    build(place / "board.db", place / "site")
    assert content(place / "site") == before


@pytest.mark.parametrize("cache", ["", "not JSON", "[]", '{"code": "other"}'])
def test_without_a_usable_cache_everything_is_made_into_the_same_bytes(place: Path, cache: str) -> None:
    before = content(place / "site")
    (place / ".site.build.json").write_text(cache)
    again = build(place / "board.db", place / "site")
    assert again.written == len(before) - 1  # all but the list of files
    assert content(place / "site") == before


@pytest.mark.parametrize("kept", ["whole", "spoiled", "nowhere"])
def test_compiled_templates_that_cannot_be_used_are_made_again(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("HARNESS_CACHE", str(cache / "file" if kept == "nowhere" else cache))
    if kept == "nowhere":
        cache.mkdir()
        (cache / "file").write_text("no folder")
    build(place / "board.db", place / "first")
    compiled = list(cache.glob("templates/*"))
    assert bool(compiled) == (kept != "nowhere")
    if kept == "spoiled":
        for file in compiled:
            file.write_bytes(file.read_bytes()[:-20])
    build(place / "board.db", place / "again")
    assert content(place / "again") == content(place / "site")


def test_another_code_makes_everything_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "code_digest", lambda: "another")
    assert build(place / "board.db", place / "site").written == len(content(place / "site")) - 1


def test_the_code_is_all_that_pages_are_made_with() -> None:
    found = {path.name for pattern in inventory.SOURCES for path in inventory.ROOT.glob(pattern)}
    assert {"site.css", "run.html", "wide.py", "standings.py", "pairs.py", "scoring.py"} <= found


def test_an_interrupted_build_is_not_taken_for_a_whole_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_one(place / "board.db", SHAPE)
    with monkeypatch.context() as broken:
        broken.setattr(wide, "pages", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(place / "board.db", place / "site")
    assert not (place / ".site.build.json").exists()
    build(place / "board.db", place / "site")
    build(place / "board.db", place / "fresh")
    assert content(place / "site") == content(place / "fresh")


def test_pages_of_runs_made_in_another_process_are_the_same(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_files, "MANY", 1)
    monkeypatch.setattr(run_files, "BATCH", 3)
    build(place / "board.db", place / "apart")
    assert content(place / "apart") == content(place / "site")


def test_claims_are_judged_again_only_when_a_suite_that_they_name_has_changed(place: Path) -> None:
    judged: list[int] = []

    def claims(*suites: str) -> ClaimSource:
        return ClaimSource(frozenset(suites), lambda _: judged.append(1) or [])  # type: ignore[func-returns-value]

    def build_with(source: ClaimSource) -> int:
        with open_store(str(place / "board.db"), create=False) as store:
            build_site(store, place / "claims", source)
        return len(judged)

    assert build_with(claims("suite001")) == 1
    add_one(place / "board.db", SHAPE)  # to suite000
    assert build_with(claims("suite001")) == 1
    assert build_with(claims("suite000")) == 2


def no_claims(_: object) -> list[ClaimLine]:
    """Judges in whatever process."""
    return [ClaimLine("made-up", "A paper", "A title", "Table 1", "A is better than B.", "open", "nobody has run it")]


def test_claims_judged_in_another_process_are_the_same(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ClaimSource(frozenset({"suite000"}), no_claims)
    with open_store(str(place / "board.db"), create=False) as store:
        build_site(store, place / "here", source)
        monkeypatch.setattr(run_files, "MANY", 1)
        build_site(store, place / "apart", source)
    assert "nobody has run it" in (place / "apart" / "claims.html").read_text()
    assert content(place / "apart") == content(place / "here")


def process(_: object) -> int:
    """Where it runs."""
    return os.getpid()


def test_what_the_second_process_has_not_begun_is_made_here(place: Path) -> None:
    with open_store(str(place / "board.db"), create=False) as store:
        with second_process(store, True) as second:
            begun = [second.begin(process) for _ in range(50)]
            last, first = begun[-1].result(), begun[0].result()
        assert (last, first != os.getpid()) == (os.getpid(), True)
        with second_process(store, False) as second:
            assert second.begin(process).result() == os.getpid()
