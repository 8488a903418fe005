"""What was counted once is read from then on, and made anew when anything that it depends on is another."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness import counts, known_counts
from harness.claims.counting import Count, counted
from harness.known_counts import KnownCounts
from harness.printed import PrintedNumber

CLAIM = Count(PrintedNumber("92,160"), "roberta-base", "lora", {"r": 2, "targets": "q,v"})
NUMBER = 12 * 2 * 2 * (768 + 768)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    return tmp_path / "counts"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods that were counted."""
    found: list[str] = []

    def count(method: Any, *rest: Any) -> counts.Counts:
        found.append(method.name)
        return really(method, *rest)

    really = counts.count
    monkeypatch.setattr(counts, "count", count)
    return found


@pytest.fixture
def file(cache: Path) -> Path:
    """The file of one count."""
    counted(CLAIM)
    (made,) = cache.iterdir()
    return made


def test_what_was_counted_is_not_counted_again(made: list[str], cache: Path) -> None:
    assert (counted(CLAIM), counted(CLAIM)) == (NUMBER, NUMBER)
    assert made == ["lora"]
    assert [json.loads(file.read_text())["count"] for file in cache.iterdir()] == [NUMBER]


def test_every_part_of_a_claim_is_told_apart(made: list[str]) -> None:
    others = [
        Count(CLAIM.printed, "roberta-large", "lora", CLAIM.parameters),
        Count(CLAIM.printed, CLAIM.backbone, "rslora", CLAIM.parameters),
        Count(CLAIM.printed, CLAIM.backbone, "lora", {"r": 3, "targets": "q,v"}),
        Count(CLAIM.printed, CLAIM.backbone, "lora", CLAIM.parameters, "total_params"),
    ]
    numbers = [counted(claim) for claim in (CLAIM, *others)]
    assert len(made) == 5
    assert numbers[1:4] == [24 * 2 * 2 * 2 * 1024, NUMBER, NUMBER * 3 // 2]
    assert [counted(claim) for claim in (CLAIM, *others)] == numbers
    assert len(made) == 5


def test_counts_of_other_sources_are_not_believed(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    counted(CLAIM)
    monkeypatch.setattr(known_counts, "_made_with", lambda: "others")
    assert (counted(CLAIM), counted(CLAIM)) == (NUMBER, NUMBER)
    assert made == ["lora", "lora"]


def test_a_count_that_was_changed_in_the_file_is_not_believed(
    file: Path, made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    changed = file.read_text().replace(str(NUMBER), str(NUMBER + 1))
    assert changed != file.read_text()
    file.write_text(changed)
    assert (counted(CLAIM), made) == (NUMBER, ["lora"])
    assert capsys.readouterr().err == f"{file} is damaged: it is left out and made anew\n"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "\x00", '{"count": null}', '{"sha256": 1, "count": 2}'])
def test_a_damaged_file_is_made_anew(text: str, file: Path, made: list[str]) -> None:
    file.write_text(text)
    assert (counted(CLAIM), counted(CLAIM)) == (NUMBER, NUMBER)
    assert made == ["lora"]


def test_where_nothing_can_be_written_counts_are_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file"))
    assert counted(CLAIM) == NUMBER
    assert KnownCounts(tmp_path / "file").get("anything") is None


def test_a_full_disk_leaves_nothing_behind(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    assert counted(CLAIM) == NUMBER
    assert list(cache.iterdir()) == []
