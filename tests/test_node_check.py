"""Whether another machine can stand in for the driver's: each lack is one line that says what to do."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from harness.cluster.node_check import expected, problem
from harness.provenance import sources_sha256
from harness.settings import Settings


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Settings:
    plugin = tmp_path / "mine.py"
    plugin.write_text("x = 1\n")
    return dataclasses.replace(settings, plugin_files=(plugin,), data_root=tmp_path, models_root=tmp_path)


def test_a_machine_can_stand_in_for_itself_and_has_the_cache_afterwards(here: Settings) -> None:
    assert problem(expected(here)) is None
    assert here.cache_root.is_dir()


def test_other_sources_are_another_harness(here: Settings) -> None:
    assert sources_sha256() == sources_sha256()
    other = dataclasses.replace(expected(here), sources="0")
    assert "has another harness in" in str(problem(other))


def test_plugin_files_are_compared_by_their_content(here: Settings) -> None:
    known = expected(here)
    here.plugin_files[0].write_text("x = 2\n")
    assert str(problem(known)).startswith(f"has another plugin file {here.plugin_files[0]}; put it into")
    here.plugin_files[0].unlink()
    assert str(problem(known)).startswith(f"has no plugin file {here.plugin_files[0]}; put it into")


@pytest.mark.parametrize("name", ["data", "models"])
def test_folders_that_are_read_must_be_there(name: str, here: Settings, tmp_path: Path) -> None:
    away = dataclasses.replace(expected(here), **{f"{name}_root": tmp_path / "away"})  # type: ignore[arg-type]
    assert problem(away) == f"has no folder {tmp_path / 'away'} (--{name}-root); name one that all nodes share"


def test_a_cache_that_cannot_be_made_or_written_is_named(
    here: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below_a_file = dataclasses.replace(expected(here), cache_root=here.plugin_files[0] / "cache")
    assert f"cannot make the cache {here.plugin_files[0] / 'cache'} (Not a directory)" in str(problem(below_a_file))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert f"cannot write the cache {here.cache_root}" in str(problem(expected(here)))
