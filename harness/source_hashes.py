"""Hashes of what a run was made from: changed sources, plugin files, tokenizer, rows, start."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from harness.bench import Bench, Stage, Started


def bench_facts(bench: Bench) -> dict[str, Any]:
    """Hashes of a trial's rows and of the files that define its method and its task."""
    return {
        "data_sha256": bench.data_sha256,
        "rows_sha256": {"train": rows_sha256(bench.train)}
        | {split: rows_sha256(frame) for split, frame in bench.splits.items()},
        "plugins_sha256": {"method": source_sha256(type(bench.method)), "task": source_sha256(type(bench.task))},
    }


def model_facts(stage: Stage, started: Started) -> dict[str, Any]:
    """Hashes of the tokenizer, and of the weights that training started from if they are not the pretrained ones."""
    facts = {"tokenizer_sha256": tokenizer_sha256(stage.loaded.tokenizer)}
    return facts | ({} if started.sha256 is None else {"start_sha256": started.sha256})


def rows_sha256(frame: pd.DataFrame) -> str:
    """Hash of rows in their order, every column that a task may read among them."""
    digest = hashlib.sha256("\x1f".join(map(str, frame.columns)).encode())
    for row in frame.itertuples(index=False, name=None):
        digest.update("\x1f".join(map(str, row)).encode())
        digest.update(b"\x1e")
    return digest.hexdigest()


@functools.cache
def source_sha256(cls: type[Any]) -> str | None:
    """Hash of the file that defines a plugin; None if there is no such file any more."""
    file = source_file(cls)
    return None if file is None else hashlib.sha256(file.read_bytes()).hexdigest()


def source_file(cls: type[Any]) -> Path | None:
    """The file that defines a plugin; None if there is no such file any more."""
    try:
        name = inspect.getsourcefile(cls)
    except (OSError, TypeError):
        return None
    return Path(name) if name is not None and Path(name).is_file() else None


def tokenizer_sha256(tokenizer: Any) -> str | None:
    """Hash of a fast tokenizer's whole definition; None for one that cannot tell it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    definition = json.loads(backend.to_str())
    for name in ("padding", "truncation"):  # what the last call asked for, not what the tokenizer is
        definition.pop(name, None)
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash of tensors by name: their types, shapes and bytes."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()


@functools.cache
def harness_sha256() -> str:
    """Hash of the harness's own sources: what was computed with others is not trusted."""
    folder = Path(__file__).parent
    return files_sha256(folder.rglob("*.py"), folder)


def files_sha256(files: Iterable[Path], folder: Path) -> str:
    """Hash of files by their path below `folder` and their content; one that is gone counts by its name alone."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(folder).as_posix()}\n".encode())
        if file.is_file():
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
