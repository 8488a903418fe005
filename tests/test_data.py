"""Rows: reading mirrors, refusing bad ones, select and subsets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from data_support import HUB, Distance, Sum, Toy, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import data
from harness.api import DataRoot, HubSource, Task
from harness.errors import UserError


def plant(root: Path, **splits: pd.DataFrame) -> DataRoot:
    """A mirror of the toy task; splits that are not given are good."""
    (root / "toy").mkdir()
    for split in ("train", "test"):
        splits.get(split, rows()).to_parquet(root / "toy" / f"{split}.parquet")
    return DataRoot(root)


# ------------------------------------------------------------------------------------ reading, refusing


def refused(task: Task, root: DataRoot) -> str:
    """The line that `check_mirror` refuses the mirror with."""
    with pytest.raises(UserError) as caught:
        data.check_mirror(task, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_mirror_whose_own_notes_are_damaged_is_refused_in_one_line(tmp_path: Path) -> None:
    root = plant(tmp_path)
    file = tmp_path / "toy" / "train.parquet"
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({"pandas": '{"index_columns": []}'}), file)
    assert "train.parquet: KeyError: 'columns'; replace it with an intact parquet file." in refused(Toy(), root)


def test_a_good_mirror_gives_fresh_frames_with_text_ids(tmp_path: Path) -> None:
    loaded = data.load_task(Toy(), plant(tmp_path))
    assert len(loaded.train) == 36
    assert len(loaded.select) == 4
    assert list(loaded.train.index) == list(range(36))
    assert loaded.tests["test"]["id"].tolist() == [str(number) for number in range(40)]
    assert loaded.train["label"].dtype == "int64"


def test_a_task_is_read_once_per_process(tmp_path: Path) -> None:
    root = plant(tmp_path)
    first = data.load_task(Toy(), root)
    (tmp_path / "toy" / "train.parquet").unlink()
    assert data.load_task(Toy(), root) is first


def test_the_hash_tells_contents_apart(tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("first", "same", "other")]
    for root in roots:
        root.mkdir()
    changed = rows().assign(label=1)
    hashes = [
        data.load_task(Toy(), root).sha256 for root in (plant(roots[0]), plant(roots[1]), plant(roots[2], test=changed))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_an_absent_mirror_names_the_folder_and_what_to_set(tmp_path: Path) -> None:
    line = refused(Toy(), DataRoot(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in line
    assert "HARNESS_DATA or --data-root" in line


def test_an_absent_file_names_the_nearest_one(tmp_path: Path) -> None:
    root = plant(tmp_path)
    (tmp_path / "toy" / "test.parquet").rename(tmp_path / "toy" / "tset.parquet")
    line = refused(Toy(), root)
    assert "'toy/test.parquet'" in line
    assert "did you mean 'toy/tset.parquet'?" in line


@pytest.mark.parametrize("content", [b"", b"not parquet", None], ids=["empty", "text", "truncated"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    root = plant(tmp_path)
    file = tmp_path / "toy" / "train.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    line = refused(Toy(), root)
    assert f"cannot read {file}" in line


def test_a_missing_column_names_file_and_nearest_column(tmp_path: Path) -> None:
    line = refused(Toy(), plant(tmp_path, test=rows().rename(columns={"text": "texts"})))
    assert str(tmp_path / "toy" / "test.parquet") in line
    assert "column 'text' is missing (nearest is 'texts')" in line


@pytest.mark.parametrize("columns", [("id", "text"), ("labels",)])
def test_columns_that_a_task_asks_for_are_checked_on_reading(tmp_path: Path, columns: tuple[str, ...]) -> None:
    root = plant(tmp_path)
    if "labels" in columns:
        with pytest.raises(UserError, match="column 'labels' is missing"):
            root.frame(HUB, "train", "toy/train", columns)
    else:
        assert list(root.frame(HUB, "train", "toy/train", columns).columns) == list(columns)


@pytest.mark.parametrize(
    ("task", "label", "fault"),
    [
        (Toy(), 7, "row 3 has label 7, which is not one of 0 (no), 1 (yes)"),
        (Toy(), 0.5, "row 3 has label 0.5"),
        (Toy(), None, "row 3 has label nan"),
        (Distance(), 5.25, "row 3 has label 5.25, which is not a number in [0, 5]"),
        (Distance(), float("inf"), "row 3 has label inf"),
    ],
)
def test_an_illegal_label_names_row_and_value(tmp_path: Path, task: Task, label: float | None, fault: str) -> None:
    frame = rows()
    frame["label"] = [label if row == 3 else value for row, value in enumerate(frame["label"])]
    line = refused(task, plant(tmp_path, test=frame))
    assert fault in line
    assert "1 of 40 rows" in line
    assert str(tmp_path / "toy" / "test.parquet") in line


def test_a_row_without_text_is_named(tmp_path: Path) -> None:
    frame = rows()
    frame.loc[5, "text"] = None
    line = refused(Toy(), plant(tmp_path, train=frame))
    assert "row 5 has text nan, which is not a text" in line


def test_ids_that_repeat_are_refused(tmp_path: Path) -> None:
    line = refused(Toy(), plant(tmp_path, train=rows().assign(id=[*range(39), 7])))
    assert "row 7 has id 7, which is missing or not unique" in line


def test_splits_that_are_too_small_are_refused(tmp_path: Path) -> None:
    line = refused(Toy(), plant(tmp_path, train=rows(9)))
    assert "9 rows are too few; at least 10" in line


def test_an_empty_test_set_is_refused(tmp_path: Path) -> None:
    assert "0 rows are too few; at least 1" in refused(Toy(), plant(tmp_path, test=rows(0)))


def test_a_split_that_the_plugin_does_not_return_is_named() -> None:
    class Half(Sum):
        splits = {"train": rows()}

    assert "returned no split 'test', only train" in refused(Half(), DataRoot())


def test_without_data_root_and_hub_the_line_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("Name or service not known\nmore lines")

    monkeypatch.setattr(HfApi, "dataset_info", unreachable)
    line = refused(Toy(), DataRoot())
    assert "split 'train' of nobody/toy (toy)" in line
    assert "HARNESS_DATA or --data-root" in line
    assert "toy/train.parquet" in line


def test_the_hub_is_asked_for_the_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from huggingface_hub import HfApi

    asked: list[Any] = []

    def load(*where: str, **options: str) -> Any:
        asked.append((where, options))
        return datasets.Dataset.from_pandas(rows())

    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", load)
    frame = DataRoot().frame(HubSource("nobody/other", "toy", "1" * 40), "train", "toy/train")
    assert asked == [(("nobody/other", "toy"), {"split": "train", "revision": "1" * 40})]
    assert frame["text"].tolist() == rows()["text"].tolist()


def test_planning_imports_neither_torch_nor_the_hub_client() -> None:
    code = "import sys, harness.data; print({'torch', 'datasets', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ------------------------------------------------------------------------------------ select and subsets


def test_select_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    straight = data.load_task(Toy(), plant(tmp_path / "a"))
    turned = data.load_task(Toy(), plant(tmp_path / "b", train=rows()[::-1]))
    assert set(straight.select["id"]) == set(turned.select["id"])
    assert not set(straight.select["id"]) & set(straight.train["id"])


def test_select_never_exceeds_its_largest_size() -> None:
    class Large(Sum):
        name = "large"
        splits = {"train": rows(12_000), "test": rows()}

    loaded = data.load_task(Large(), DataRoot())
    assert (len(loaded.select), len(loaded.train)) == (1000, 11_000)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_subsets_of_one_seed_are_nested(first: int, second: int, seed: int) -> None:
    small, large = sorted((first, second))
    train = rows().astype({"id": str})
    inner = data.subset(train, small, seed, "toy")
    outer = data.subset(train, large, seed, "toy")
    assert inner["id"].is_unique
    assert inner["id"].tolist() == outer["id"].tolist()[:small]
    assert outer.equals(data.subset(train, 0, seed, "toy").head(large))


def test_subsets_of_different_seeds_and_tasks_differ() -> None:
    train = rows().astype({"id": str})
    drawn = {tuple(data.subset(train, 20, seed, task)["id"]) for seed in range(3) for task in ("toy", "other")}
    assert len(drawn) == 6


@pytest.mark.parametrize("size", [41, -1])
def test_a_size_that_the_task_does_not_have_says_how_many_it_has(size: int) -> None:
    with pytest.raises(UserError, match=rf"task 'toy': train size {size} is outside 0\.\.40"):
        data.check_size(rows(), size, "toy")
