"""The eight GLUE tasks: what they claim of themselves, and the official counts on real data."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import pandas as pd
import pytest

from harness import data
from harness.api import DataRoot, Task
from harness.errors import UserError
from harness.metrics import METRIC_NAMES
from tasks import glue

TASKS: dict[str, Task] = {
    cls.name: cls()
    for _, cls in inspect.getmembers(glue, inspect.isclass)
    if issubclass(cls, glue.Glue) and not inspect.isabstract(cls)
}

# Published label counts, training rows first, then each test set. Splits that a mirror may hold a part of are left out.
OFFICIAL = {
    ("cola", "train"): {0: 2528, 1: 6023},
    ("cola", "validation"): {0: 322, 1: 721},
    ("mrpc", "train"): {0: 1194, 1: 2474},
    ("mrpc", "validation"): {0: 129, 1: 279},
    ("rte", "train"): {0: 1249, 1: 1241},
    ("rte", "validation"): {0: 146, 1: 131},
    ("sst2", "validation"): {0: 428, 1: 444},
    ("qnli", "validation"): {0: 2702, 1: 2761},
    ("mnli", "validation_matched"): {0: 3479, 1: 3123, 2: 3213},
    ("mnli", "validation_mismatched"): {0: 3463, 1: 3129, 2: 3240},
}


def test_there_are_eight_tasks_and_their_base_is_none_of_them() -> None:
    assert set(TASKS) == {"cola", "mrpc", "rte", "stsb", "sst2", "qnli", "qqp", "mnli"}
    assert inspect.isabstract(glue.Glue)


def test_the_metrics_are_the_official_ones() -> None:
    metrics = {name: task.metrics for name, task in TASKS.items()}
    assert metrics == {
        "cola": ("matthews",),
        "mrpc": ("accuracy", "f1"),
        "rte": ("accuracy",),
        "stsb": ("pearson", "spearman"),
        "sst2": ("accuracy",),
        "qnli": ("accuracy",),
        "qqp": ("accuracy", "f1"),
        "mnli": ("accuracy",),
    }
    assert {name for names in metrics.values() for name in names} <= set(METRIC_NAMES)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_split_is_loaded_whole(task: Task, data_root: Path) -> None:
    loaded = data.load_task(task, DataRoot(data_root))
    assert tuple(loaded.tests) == task.tests
    splits = [pd.concat([loaded.train, loaded.select]), *loaded.tests.values()]
    for mirror, frame in zip(task.mirrored, splits, strict=True):
        stored = pd.read_parquet(data_root / f"{mirror}.parquet")
        assert sorted(frame["id"]) == sorted(str(number) for number in stored["idx"])
        counts = OFFICIAL.get((task.name, mirror.rsplit("/", 1)[1]))
        if counts is not None:
            assert frame["label"].value_counts().to_dict() == counts
        else:
            assert len(frame) == len(stored)
    assert len(loaded.select) == min(1000, math.floor(len(splits[0]) / 10))


def test_similarity_has_the_official_rows_and_range(data_root: Path) -> None:
    loaded = data.load_task(TASKS["stsb"], DataRoot(data_root))
    assert len(loaded.train) + len(loaded.select) == 5749
    assert len(loaded.tests["test"]) == 1500
    assert (loaded.train["label"].min(), loaded.train["label"].max()) == (0.0, 5.0)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_encoding_gives_the_text_columns_in_order(task: Task) -> None:
    text = task.encode({column: column.upper() for column in task.columns})
    given = [text.first] if text.second is None else [text.first, text.second]
    assert given == [column.upper() for column in task.columns]


def test_a_mirror_with_a_label_out_of_range_stops_before_training(data_root: Path, tmp_path: Path) -> None:
    for split in ("train", "validation"):
        frame = pd.read_parquet(data_root / "glue" / "rte" / f"{split}.parquet")
        if split == "validation":
            frame.loc[9, "label"] = -1
        (tmp_path / "glue" / "rte").mkdir(parents=True, exist_ok=True)
        frame.to_parquet(tmp_path / "glue" / "rte" / f"{split}.parquet")
    with pytest.raises(UserError, match=r"validation\.parquet: row 9 has label -1, which is not one of 0 \(entail"):
        data.check_mirror(TASKS["rte"], DataRoot(tmp_path))


def test_a_mirror_without_the_row_numbers_names_the_column(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "glue" / "rte").mkdir(parents=True)
    for split in ("train", "validation"):
        frame = pd.read_parquet(data_root / "glue" / "rte" / f"{split}.parquet").rename(columns={"idx": "index"})
        frame.to_parquet(tmp_path / "glue" / "rte" / f"{split}.parquet")
    with pytest.raises(UserError, match=r"train\.parquet: column 'idx' is missing \(nearest is 'index'\)"):
        data.check_mirror(TASKS["rte"], DataRoot(tmp_path))
