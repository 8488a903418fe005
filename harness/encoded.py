"""Token ids of a split: rows of unequal length in one array, padded to a batch when a batch is wanted.

Importing this module does not import torch, so that a plan can be checked without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
"""Label of a token that carries no loss: prompt and padding."""


class Ragged(Sequence[list[int]]):
    """Rows of whole numbers, each of its own length, 4 bytes a number. Not to be modified."""

    def __init__(self, values: npt.NDArray[np.int32], lengths: npt.NDArray[np.int64]) -> None:
        """values: all rows one after the other; lengths: numbers per row, which sum to their count."""
        self.values = values
        self.lengths = lengths
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        if self._starts[-1] != len(values):
            raise ValueError(f"lengths sum to {self._starts[-1]}, but there are {len(values)} values")

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        """The same rows."""
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        flat = (number for row in rows for number in row)
        return cls(np.fromiter(flat, dtype=np.int32, count=int(lengths.sum())), lengths)

    def padded(self, indices: Sequence[int], filler: int) -> npt.NDArray[np.int64]:
        """The rows `indices`, [rows, longest of them], filled up on the right."""
        chosen = np.asarray(indices, dtype=np.int64)
        there = self.mask(chosen)
        batch = np.full(there.shape, filler, dtype=np.int64)
        positions = self._starts[chosen][:, None] + np.arange(there.shape[1])
        batch[there] = self.values[positions[there]]
        return batch

    def mask(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which positions of `padded` hold a number of the row, [rows, longest]."""
        lengths = self.lengths[np.asarray(indices, dtype=np.int64)]
        present: npt.NDArray[np.bool_] = np.arange(lengths.max(initial=0)) < lengths[:, None]
        return present

    def __len__(self) -> int:
        """Rows."""
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[list[int]]: ...
    def __getitem__(self, index: int | slice) -> list[int] | Sequence[list[int]]:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        row = range(len(self))[index]
        numbers: list[int] = self.values[self._starts[row] : self._starts[row + 1]].tolist()
        return numbers

    def __iter__(self) -> Iterator[list[int]]:
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Equal to any sequence of the same rows."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as of every sequence that compares by content


@dataclass(frozen=True)
class Encoded:
    """Token ids of a split's rows, in row order, without padding. Shared between trials: not to be modified."""

    input_ids: Ragged
    labels: Tensor | Ragged
    """Class ids [rows] int64; or targets [rows] float32; or (generation) one per token, `IGNORED` on the prompt."""
    token_type_ids: Ragged | None = None
    """Which text of a pair a token belongs to, for tokenizers that tell."""

    def __len__(self) -> int:
        """Rows."""
        return len(self.input_ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens per row, padding not counted."""
        lengths: list[int] = self.input_ids.lengths.tolist()
        return lengths


def collate(encoded: Encoded, indices: Sequence[int], pad_id: int) -> dict[str, Tensor]:
    """One batch, padded on the right to its longest row: int64 [rows, tokens] each, labels as in `Encoded`."""
    import torch

    batch = {
        "input_ids": torch.from_numpy(encoded.input_ids.padded(indices, pad_id)),
        "attention_mask": torch.from_numpy(encoded.input_ids.mask(indices).astype(np.int64)),
    }
    if encoded.token_type_ids is not None:
        batch["token_type_ids"] = torch.from_numpy(encoded.token_type_ids.padded(indices, 0))
    if isinstance(encoded.labels, Ragged):
        batch["labels"] = torch.from_numpy(encoded.labels.padded(indices, IGNORED))
    else:
        batch["labels"] = encoded.labels[list(indices)]
    return batch
