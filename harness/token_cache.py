"""Token ids on disk: what one process has tokenised, the next one reads.

An entry is named by the hash of everything that the tokens depend on, the written texts themselves among it: a plugin
whose `encode` was changed without a new version never meets the tokens of before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.encoded import Encoded, Ragged
from harness.tensor_files import read_tensors, write_tensors

_FORMAT = 1
"""Part of every key: raised when the files' content or the way of encoding changes."""


def entry_key(facts: Mapping[str, Any]) -> str:
    """sha256 of the facts (JSON-ready) and of the versions of the libraries that tokenise."""
    libraries = {name: version(name) for name in ("tokenizers", "transformers")}
    content = json.dumps({**facts, **libraries, "format": _FORMAT}, sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


class TokenCache:
    """Encoded splits below `cache_root/tokens`, one safetensors file each: 4 bytes a token.

    Safe under several processes: files appear whole, and both would write the same. A file that is not whole counts
    as none; a folder that cannot be written costs time, never a trial.
    """

    def __init__(self, cache_root: Path) -> None:
        self._folder = cache_root / "tokens"

    def load(self, key: str) -> Encoded | None:
        """The split that was saved under this key, or None."""
        found = read_tensors(self._path(key))
        return None if found is None else _from_tensors(found[0])

    def save(self, key: str, encoded: Encoded) -> None:
        """Keep the split for later processes."""
        write_tensors(self._path(key), _to_tensors(encoded), {})

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"


def _to_tensors(encoded: Encoded) -> dict[str, Tensor]:
    import torch

    ids, types, labels = encoded.input_ids, encoded.token_type_ids, encoded.labels
    tensors = {"input_ids": torch.from_numpy(ids.values), "lengths": torch.from_numpy(ids.lengths)}
    if types is not None:
        tensors["token_type_ids"] = torch.from_numpy(types.values)
    if isinstance(labels, Ragged):
        tensors["token_labels"] = torch.from_numpy(labels.values)
    else:
        tensors["labels"] = labels
    return tensors


def _from_tensors(tensors: Mapping[str, Tensor]) -> Encoded:
    lengths = tensors["lengths"].numpy()

    def ragged(name: str) -> Ragged:
        return Ragged(tensors[name].numpy(), lengths)

    labels = tensors["labels"] if "labels" in tensors else ragged("token_labels")
    types = ragged("token_type_ids") if "token_type_ids" in tensors else None
    return Encoded(ragged("input_ids"), labels, types)
