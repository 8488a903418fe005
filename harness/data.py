"""Rows: reading them, refusing bad ones, and cutting them into the splits that a trial sees.

A task's rows come from a local mirror (parquet files below a data root), from the hub at a pinned revision,
or from a generator. Whatever the source, `load_task` hands out the same three things:

- `train`: what trials train on (all of it, or a nested, seeded `subset`);
- `select`: a fixed part of the task's training rows on which an epoch is chosen. It depends on the task
  alone, never on the seed, so every trial of a task chooses on the same rows;
- `tests`: the test sets, which never choose anything.

Both cuts rank rows by a hash of their ids rather than by a generator's permutation: the same rows come out on
every machine, under every version of every library, and in whatever order a mirror stores them.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pandas as pd

from harness.api import DataRoot, GenerationTask, HubSource, Task
from harness.batching import (
    content_hash,
    encode,
    epoch_batches,
    eval_batches,
    padding_share,
    row_lengths,
)
from harness.encoded import Encoded, collate
from harness.errors import UserError, unknown
from harness.trial import stream_seed

__all__ = [
    "Encoded",
    "TaskData",
    "check_mirror",
    "check_size",
    "collate",
    "content_hash",
    "encode",
    "epoch_batches",
    "eval_batches",
    "load_task",
    "padding_share",
    "read_frame",
    "read_parquet",
    "row_lengths",
    "subset",
]

SELECT_SHARE = 0.1
"""Share of a task's training rows that is set aside as `select`, rounded down."""
SELECT_MOST = 1000
"""Largest `select`, in rows: beyond this the choice of an epoch gains nothing and training loses rows."""
TRAIN_LEAST = 10
"""Fewest training rows that a task may bring: one row for `select`, nine to train on."""

ADVICE = "set HARNESS_DATA or --data-root to a local mirror"
OTHER_MIRROR = "Put the file there, or name another mirror with HARNESS_DATA or --data-root."
ORIGIN = "origin"
"""Key in `DataFrame.attrs` under which `read_frame` notes where rows came from, for error messages."""


@dataclass(frozen=True)
class TaskData:
    """The rows of one task. Shared by all trials of a process: the frames must not be modified.

    Every frame has a fresh index 0..n-1 and the columns `id` (text, unique), `label` and the task's own.
    """

    train: pd.DataFrame
    select: pd.DataFrame
    tests: dict[str, pd.DataFrame]
    sha256: str
    """Hash of the content of all splits as the task read them, before `select` was cut."""


# ------------------------------------------------------------------------------------------ reading


def read_frame(root: DataRoot, hub: HubSource, split: str, mirror: str, columns: Sequence[str] = ()) -> pd.DataFrame:
    """One split from `<root.path>/<mirror>.parquet`, or from the hub if no data root is set.

    columns: the ones to read (all, if empty). Raises UserError if the rows cannot be had, or lack a column.
    """
    if root.path is None:
        origin = f"split '{split}' of {hub.repository} ({hub.configuration})"
        frame = _read_hub(hub, split, mirror, origin)
    else:
        path = _mirror_file(root.path, mirror)
        origin = str(path)
        frame = read_parquet(path)
    _check_columns(frame, columns, origin)
    frame = frame[list(columns)] if columns else frame
    frame.attrs[ORIGIN] = origin
    return frame


def _mirror_file(folder: Path, mirror: str) -> Path:
    """The file of one split below a data root, or a UserError that names the nearest existing one."""
    path = folder / f"{mirror}.parquet"
    if path.is_file():
        return path
    if not folder.is_dir():
        raise UserError(f"the data root {folder} does not exist: {ADVICE} that holds {mirror}.parquet.")
    # Bounded on purpose: a data root may be set to a home folder by mistake.
    found = islice((file for depth in range(4) for file in folder.glob("*/" * depth + "*.parquet")), 2000)
    present = [file.relative_to(folder).as_posix() for file in found]
    raise unknown("data file", f"{mirror}.parquet", present, f"the data root {folder}", OTHER_MIRROR)


def read_parquet(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A parquet file that has `columns`, whole; UserError if it cannot be read or lacks one of them."""
    try:
        frame = pd.read_parquet(path)
    except Exception as error:  # whatever pyarrow and pandas make of a damaged file: even a KeyError, of its metadata
        raise UserError(f"cannot read {path}: {_first_line(error)}; replace it with an intact parquet file.") from error
    _check_columns(frame, columns, str(path))
    return frame


def _read_hub(hub: HubSource, split: str, mirror: str, origin: str) -> pd.DataFrame:
    try:
        _reach_hub(hub.repository, hub.revision)
        import datasets

        rows = datasets.load_dataset(hub.repository, hub.configuration, split=split, revision=hub.revision)
        frame: pd.DataFrame = rows.to_pandas()
    except Exception as error:  # the hub client raises dozens of types, many of them from other libraries
        raise UserError(
            f"cannot get {origin} from the hub ({_first_line(error)}): {ADVICE} that holds {mirror}.parquet."
        ) from error
    return frame


@cache
def _reach_hub(repository: str, revision: str) -> None:
    """Fail at once if the hub is out of reach: `load_dataset` would try again for half a minute, and loudly.

    With HF_HUB_OFFLINE=1 nothing is asked, and `load_dataset` reads what it has cached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    with contextlib.suppress(OfflineModeIsEnabled):
        HfApi().dataset_info(repository, revision=revision, timeout=20)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0].rstrip('.')}" if text else type(error).__name__


# --------------------------------------------------------------------------------------- validation


def _check_columns(frame: pd.DataFrame, columns: Iterable[str], place: str) -> None:
    present = [str(name) for name in frame.columns]
    for name in columns:
        if name not in present:
            nearest = difflib.get_close_matches(name, present, n=1, cutoff=0.5)
            hint = f"nearest is '{nearest[0]}'" if nearest else f"it has {', '.join(present) or 'none'}"
            raise UserError(f"{place}: column '{name}' is missing ({hint}); add or rename it.")


def _check_labels(task: Task, frame: pd.DataFrame, place: str) -> pd.Series[Any]:
    """The labels as int64 (classification), float64 (regression) or as they are (generation: final answers)."""
    labels = frame["label"]
    if isinstance(task, GenerationTask):
        legal, good = "not the final answer in the row's reference text", _holds_final_answer(task, frame)
    else:
        numbers = pd.to_numeric(labels, errors="coerce").astype("float64")
        if task.kind == "classification":
            legal = "not one of " + ", ".join(f"{index} ({name})" for index, name in enumerate(task.labels))
            good = numbers.isin(range(len(task.labels)))
            labels = numbers.where(good, 0).astype("int64")
        else:
            low, high = task.label_range
            legal = f"not a number in [{low:g}, {high:g}]"
            good = numbers.between(low, high)
            labels = numbers
    if not good.all():
        raise _bad_rows(frame, ~good, "label", legal, place)
    return labels


def _holds_final_answer(task: GenerationTask, frame: pd.DataFrame) -> pd.Series[bool]:
    """Whether `extract` finds each row's label in the text that the row trains on."""
    rows = [cast(Mapping[str, Any], row) for row in frame.to_dict("records")]
    found = [bool(pd.notna(row["label"])) and task.extract(task.answer(row)) == str(row["label"]) for row in rows]
    return pd.Series(found, index=frame.index, dtype=bool)


def _bad_rows(frame: pd.DataFrame, bad: pd.Series[bool], column: str, fault: str, place: str) -> UserError:
    """The error that shows the first of the `bad` rows."""
    row, value = frame.loc[bad, ["id", column]].astype(object).iloc[0].tolist()
    return UserError(
        f"{place}: row {row} has {column} {value!r}, which is {fault}; "
        f"{int(bad.sum())} of {len(frame)} rows are wrong. Correct or remove them."
    )


def _checked(task: Task, split: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of one split, if they are fit for use: else a UserError that names place, row and value."""
    place = f"task '{task.name}', {frame.attrs.get(ORIGIN, f'split {split!r}')}"
    _check_columns(frame, ("id", "label", *task.columns), place)
    least = TRAIN_LEAST if split == "train" else 1
    if len(frame) < least:
        raise UserError(f"{place}: {len(frame)} rows are too few; at least {least} are needed.")
    frame = frame.reset_index(drop=True)
    unfit = frame["id"].isna() | frame["id"].duplicated()
    if unfit.any():
        raise _bad_rows(frame, unfit, "id", "missing or not unique", place)
    frame = frame.assign(id=frame["id"].astype(str))
    for column in task.columns:
        bad = frame[column].map(lambda value: not isinstance(value, str)).astype(bool)
        if bad.any():
            raise _bad_rows(frame, bad, column, "not a text", place)
    return frame.assign(label=_check_labels(task, frame, place))


def check_mirror(task: Task, root: DataRoot) -> None:
    """Raise UserError if the task's rows cannot be had or are unfit. Called before anything is trained.

    First looks for every file that the task names, which is quick, then reads and validates all rows: only
    `Task.read` knows how a file's columns become labels. The rows stay cached for the trials to come.
    """
    if root.path is not None:
        for mirror in task.mirrored:
            _mirror_file(root.path, mirror)
    load_task(task, root)


# ------------------------------------------------------------------------------------------- splits

_loaded: dict[tuple[type[Task], str, int, DataRoot], TaskData] = {}


def load_task(task: Task, root: DataRoot) -> TaskData:
    """The validated rows of a task, cut into train, select and tests; read once per process.

    `select` is the tenth of the training rows (at most 1000) whose ids have the smallest sha256 of task name,
    version and id. Raises UserError for rows that are missing or unfit.
    """
    key = (type(task), task.name, task.version, root)
    if key not in _loaded:
        _loaded[key] = _load(task, root)
    return _loaded[key]


def _load(task: Task, root: DataRoot) -> TaskData:
    frames = task.read(root)
    for split in ("train", *task.tests):
        if split not in frames:
            raise UserError(f"task '{task.name}': its read() returned no split '{split}', only {', '.join(frames)}.")
    checked = {split: _checked(task, split, frames[split]) for split in ("train", *task.tests)}
    digest = hashlib.sha256()
    for split, frame in checked.items():
        digest.update(f"{split} {content_hash(frame)}\n".encode())
    rows = checked["train"]
    size = min(SELECT_MOST, int(len(rows) * SELECT_SHARE))
    selected = rows.index.isin(_ranked(rows["id"], f"select/{task.name}/{task.version}")[:size])
    return TaskData(
        train=rows[~selected].reset_index(drop=True),
        select=rows[selected].reset_index(drop=True),
        tests={split: checked[split] for split in task.tests},
        sha256=digest.hexdigest(),
    )


def subset(train: pd.DataFrame, size: int, seed: int, task_name: str) -> pd.DataFrame:
    """The first `size` rows of `train` in an order that depends on the seed and the task alone.

    Subsets of one seed are nested: a smaller one is the beginning of a larger one. Size 0 means all rows.
    Raises UserError if there are fewer.
    """
    check_size(train, size, task_name)
    order = _ranked(train["id"], str(stream_seed(seed, "subset", task_name)))
    return train.iloc[order[: size or None]].reset_index(drop=True)


def check_size(train: pd.DataFrame, size: int, task_name: str) -> None:
    """Raise UserError unless 0 <= size <= the number of training rows."""
    if not 0 <= size <= len(train):
        raise UserError(
            f"task '{task_name}': train size {size} is outside 0..{len(train)}, the rows that are left after "
            f"the select split is cut; choose a smaller one, or 0 for all."
        )


def _ranked(ids: Iterable[str], salt: str) -> list[int]:
    """Positions of the rows in the order of sha256(salt, id)."""
    keys = [hashlib.sha256(f"{salt}/{name}".encode()).digest() for name in ids]
    return sorted(range(len(keys)), key=keys.__getitem__)
