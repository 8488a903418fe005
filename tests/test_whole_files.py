"""A file that is written appears whole, under its own name, and readable as any other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness.tensor_files import write_tensors
from harness.whole_files import replacing


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file.json"


@pytest.fixture
def group_may_read() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_the_old_file_stays_until_the_new_one_is_whole(file: Path) -> None:
    for text in ("old", "new"):
        with replacing(file) as temporary:
            temporary.write_text(text)
            assert [path.read_text() for path in (file,) if path.exists()] == (["old"] if text == "new" else [])
    assert file.read_text() == "new"
    assert list(file.parent.iterdir()) == [file]


def test_what_fails_on_the_way_leaves_the_old_file_and_nothing_beside_it(file: Path) -> None:
    with replacing(file) as temporary:
        temporary.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        _interrupted(file)
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]


def _interrupted(file: Path) -> None:
    with replacing(file) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_libraries_that_put_a_file_of_their_own_in_its_place_do_not_hide_it(file: Path, group_may_read: None) -> None:
    assert write_tensors(file, {"weight": torch.zeros(2)}, {})
    assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("durable", [False, True])
def test_others_may_read_it_as_far_as_the_umask_lets_them(file: Path, durable: bool, group_may_read: None) -> None:
    with replacing(file, durable) as temporary:
        temporary.write_text("text")
    assert file.stat().st_mode & 0o777 == 0o640
