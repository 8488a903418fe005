"""Held-out general text, whose perplexity before and after training tells what a language model has forgotten.

The user names a file: UTF-8 text, or parquet with a column `text`. A trial's recipe holds the hash of what was in it
when the trial was planned, so that runs on different texts are different trials.
"""

from __future__ import annotations

import hashlib
from itertools import islice
from pathlib import Path

from harness.api import DataRoot
from harness.errors import UserError, unknown
from harness.trial import Recipe

SUFFIXES = (".parquet", ".txt")
SEPARATOR = "\n\n"
"""Stands between the rows of a parquet file."""


def read_text(name: str, root: DataRoot) -> str:
    """The text that `name` means: a file's path, or a file below the data root, with or without its suffix.

    Raises UserError for a file that is not there, cannot be read, or holds no text.
    """
    path = _find(name, root)
    text = _rows(path) if path.suffix == ".parquet" else _plain(path)
    if not text.strip():
        raise UserError(f"the held-out text {path} is empty; name another with the recipe's forgetting.")
    return text


def text_hash(text: str) -> str:
    """First 16 hexadecimal digits of the sha256 of the text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def planned_text(recipe: Recipe, root: DataRoot) -> str:
    """The recipe's text; UserError if it is not the one that the trial was planned with."""
    text = read_text(recipe.forgetting, root)
    if text_hash(text) != recipe.forgetting_sha256:
        raise UserError(
            f"the held-out text '{recipe.forgetting}' has the hash {text_hash(text)}, the trial was planned with "
            f"{recipe.forgetting_sha256 or 'none'}; bring that text back, or plan again."
        )
    return text


def _find(name: str, root: DataRoot) -> Path:
    below = [] if root.path is None else [root.path / f"{name}{suffix}" for suffix in ("", *SUFFIXES)]
    for path in (Path(name).expanduser(), *below):
        if path.is_file():
            return path
    advice = "Give a path, or a file below HARNESS_DATA or --data-root."
    if root.path is None:
        raise UserError(f"the held-out text '{name}' does not exist, and no data root is set. {advice}")
    files = islice((file for depth in range(4) for file in root.path.glob("*/" * depth + "*")), 2000)
    present = [file.relative_to(root.path).with_suffix("").as_posix() for file in files if file.suffix in SUFFIXES]
    raise unknown("held-out text", name, present, f"the data root {root.path}", advice)


def _rows(path: Path) -> str:
    from harness.data import read_parquet  # brings torch, which a plan does without

    texts = read_parquet(path, ("text",))["text"].dropna()
    return SEPARATOR.join(map(str, texts))


def _plain(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the held-out text {path}: {error}; it must be UTF-8 text or parquet.") from error
