"""Tokens on disk: the very same split for the next process, rebuilt when it is not whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_support import Distance, Sum, Toy, rows
from hypothesis import given
from hypothesis import strategies as st

from harness import batching, data
from harness.api import Task, Text
from harness.backbones import BUNDLED
from harness.encoded import Encoded, Ragged

FRAMES = {
    "classification": (Toy(), rows(6)),
    "regression": (Distance(), rows(6).assign(label=[0.1, 5.0, 2.25, 1 / 3, 0.0, 4.5])),
    "generation": (Sum(), rows(6).assign(label=[f"w{row}" for row in range(6)])),
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BUNDLED / "starter-encoder")


@pytest.fixture
def next_process(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Forgets what this process has encoded; once already."""

    def forget() -> None:
        monkeypatch.setattr(batching, "_encoded", type(batching._encoded)())

    forget()
    return forget


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("tokenised again")


def files(root: Path) -> list[Path]:
    return sorted((root / "tokens").rglob("*.safetensors"))


def same(one: Encoded, other: Encoded) -> bool:
    labels = one.labels
    if isinstance(labels, torch.Tensor):
        assert isinstance(other.labels, torch.Tensor)
        equal = labels.dtype == other.labels.dtype and torch.equal(labels, other.labels)
    else:
        equal = labels == other.labels
    return equal and one.input_ids == other.input_ids and one.token_type_ids == other.token_type_ids


@pytest.mark.parametrize("kind", FRAMES)
def test_the_next_process_reads_the_very_same_split(
    kind: str, tokenizer: Any, tmp_path: Path, next_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, frame = FRAMES[kind]
    plain = data.encode(task, frame, tokenizer, 12)
    next_process()
    first = data.encode(task, frame, tokenizer, 12, cache_root=tmp_path)
    next_process()
    monkeypatch.setattr(batching, "_tokenized", refuse)
    second = data.encode(task, frame, tokenizer, 12, cache_root=tmp_path)
    assert same(plain, first)
    assert same(plain, second)
    assert plain.lengths == second.lengths


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "foreign"])
def test_a_corrupt_entry_is_rebuilt(damage: str, tokenizer: Any, tmp_path: Path, next_process: Any) -> None:
    good = data.encode(Toy(), rows(6), tokenizer, 12, cache_root=tmp_path)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    file.write_bytes({"truncate": whole[:-8], "flip": flipped, "empty": b"", "foreign": b"no tensors"}[damage])
    next_process()
    assert same(good, data.encode(Toy(), rows(6), tokenizer, 12, cache_root=tmp_path))
    assert file.read_bytes() == whole


def test_an_entry_belongs_to_texts_labels_version_length_and_tokenizer(
    tokenizer: Any, tmp_path: Path, next_process: Any
) -> None:
    class Newer(Toy):
        version = 2

    class Rewritten(Toy):
        """Changed by its author, who forgot the version."""

        def encode(self, row: Mapping[str, Any]) -> Text:
            return Text(row["text"].upper())

    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(BUNDLED / "starter-decoder")
    cases: list[tuple[Task, Any, Any, int]] = [
        (Toy(), rows(6), tokenizer, 12),
        (Newer(), rows(6), tokenizer, 12),
        (Rewritten(), rows(6), tokenizer, 12),
        (Toy(), rows(6).assign(label=1), tokenizer, 12),
        (Toy(), rows(6), tokenizer, 4),
        (Toy(), rows(6), other, 12),
    ]
    for count, (task, frame, with_tokenizer, length) in enumerate(cases, start=1):
        next_process()
        data.encode(task, frame, with_tokenizer, length, cache_root=tmp_path)
        assert len(files(tmp_path)) == count


def test_a_folder_that_cannot_be_written_costs_only_time(tokenizer: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    encoded = data.encode(Toy(), rows(7), tokenizer, 12, cache_root=blocked)
    assert len(encoded) == 7
    assert not list(tmp_path.rglob("*.tmp"))


ROWS = st.lists(st.lists(st.integers(-100, 2**31 - 1), max_size=9), max_size=12)


@given(ROWS, st.data())
def test_ragged_rows_are_the_rows_and_pad_as_pytorch_does(rows: list[list[int]], draw: st.DataObject) -> None:
    ragged = Ragged.of(rows)
    assert ragged == rows
    assert list(ragged) == rows
    chosen = draw.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1) if rows else st.just([]))
    if not chosen:
        return
    picked = [torch.tensor(rows[row], dtype=torch.int64) for row in chosen]
    expected = torch.nn.utils.rnn.pad_sequence(picked, batch_first=True, padding_value=-7)
    np.testing.assert_array_equal(ragged.padded(chosen, -7), expected.numpy())
    assert ragged.mask(chosen).sum() == sum(len(rows[row]) for row in chosen)
