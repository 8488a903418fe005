"""Tokens and batches: rows become token ids once, and rows of similar length can share a batch.

Importing this module does not import torch, so that a plan can be checked without it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4
from weakref import WeakKeyDictionary

from harness.api import GenerationTask, Task, Text
from harness.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor

IGNORED = -100
"""Label of a token that carries no loss: prompt and padding."""
CACHED_SPLITS = 32
"""Encoded splits that a process keeps; the least recently used goes first."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of a split's rows, in row order, without padding. Shared between trials: not to be modified."""

    input_ids: list[list[int]]
    labels: Tensor | list[list[int]]
    """Class ids [rows] int64; or targets [rows] float32; or (generation) one per token, `IGNORED` on the prompt."""
    token_type_ids: list[list[int]] | None = None
    """Which text of a pair a token belongs to, for tokenizers that tell."""

    def __len__(self) -> int:
        """Rows."""
        return len(self.input_ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens per row, padding not counted."""
        return [len(ids) for ids in self.input_ids]


# ----------------------------------------------------------------------------------------- encoding

_CacheKey = tuple[type[Task], str, int, str, str, int, bool]
_encoded: OrderedDict[_CacheKey, Encoded] = OrderedDict()
_fingerprints: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def encode(task: Task, frame: pd.DataFrame, tokenizer: Any, max_length: int, drop_long: bool = False) -> Encoded:
    """The rows as token ids of at most `max_length` tokens, special tokens included.

    Classification and regression: text or pair; a pair that is too long loses tokens of its longer text.
    Generation: prompt, answer and the end token, loss on the last two; a prompt that is too long loses its
    beginning, as in lm-eval; an answer that leaves its prompt no room is a UserError, or with `drop_long` left out.
    Cached in the process by task, content, tokenizer and length.
    """
    key = (type(task), task.name, task.version, content_hash(frame), _fingerprint(tokenizer), max_length, drop_long)
    if key not in _encoded:
        rows = [cast(Mapping[str, Any], row) for row in frame.to_dict("records")]
        if isinstance(task, GenerationTask):
            _encoded[key] = _encode_answers(task, rows, tokenizer, max_length, drop_long)
        else:
            _encoded[key] = _encode_texts(task, rows, tokenizer, max_length)
        if len(_encoded) > CACHED_SPLITS:
            _encoded.popitem(last=False)
    _encoded.move_to_end(key)
    return _encoded[key]


def _encode_texts(task: Task, rows: Sequence[Mapping[str, Any]], tokenizer: Any, max_length: int) -> Encoded:
    import torch

    texts: list[Text] = [task.encode(row) for row in rows]
    second = [text.second for text in texts if text.second is not None]
    if second and len(second) < len(texts):
        raise UserError(
            f"task '{task.name}': encode() gives a second text for some rows only; give it for all or none."
        )
    tokens = tokenizer(
        [text.first for text in texts],
        second or None,
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
    )
    dtype = torch.float32 if task.kind == "regression" else torch.int64
    labels = torch.tensor([row["label"] for row in rows], dtype=dtype)
    return Encoded(tokens["input_ids"], labels, tokens.get("token_type_ids"))


def row_lengths(task: Task, frame: pd.DataFrame, tokenizer: Any, max_length: int) -> list[int]:
    """Tokens of each row, at most `max_length`. Refuses no row: test answers are never trained on."""
    if not isinstance(task, GenerationTask):
        return encode(task, frame, tokenizer, max_length).lengths
    rows = [cast(Mapping[str, Any], row) for row in frame.to_dict("records")]
    return [min(len(prompt) + len(target), max_length) for prompt, target in _exercises(task, rows, tokenizer)]


def _exercises(
    task: GenerationTask, rows: Sequence[Mapping[str, Any]], tokenizer: Any
) -> list[tuple[list[int], list[int]]]:
    """Token ids of each row's prompt, and of its answer with the end token."""
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"task '{task.name}': the backbone's tokenizer has no end token, which a generation task needs."
        )
    prompts = tokenizer([task.encode(row).first for row in rows], return_attention_mask=False)["input_ids"]
    answers = tokenizer([task.answer(row) for row in rows], add_special_tokens=False, return_attention_mask=False)[
        "input_ids"
    ]
    return [(prompt, [*answer, tokenizer.eos_token_id]) for prompt, answer in zip(prompts, answers, strict=True)]


def _encode_answers(
    task: GenerationTask, rows: Sequence[Mapping[str, Any]], tokenizer: Any, max_length: int, drop_long: bool
) -> Encoded:
    input_ids, labels = [], []
    for row, (prompt, target) in zip(rows, _exercises(task, rows, tokenizer), strict=True):
        room = max_length - len(target)
        if room >= 1:
            kept = prompt[-room:]
            input_ids.append([*kept, *target])
            labels.append([IGNORED] * len(kept) + target)
        elif not drop_long:
            raise UserError(
                f"task '{task.name}': the answer of row {row['id']} has {len(target)} tokens, which leaves no room for "
                f"its prompt; raise the recipe's max_length (now {max_length}), or leave such rows out with "
                'long_answers = "drop".'
            )
    if not input_ids:
        raise UserError(
            f"task '{task.name}': no answer of its {len(rows)} training rows fits into max_length = "
            f"{max_length} tokens; raise it."
        )
    return Encoded(input_ids, labels)


def content_hash(frame: pd.DataFrame) -> str:
    """sha256 of the rows: column names, values and order, whatever the file format."""
    columns = {str(name): frame[name].tolist() for name in frame.columns}
    return hashlib.sha256(json.dumps(columns, sort_keys=True, default=str).encode()).hexdigest()


def _fingerprint(tokenizer: Any) -> str:
    """Equal for tokenizers that encode alike. One without the `tokenizers` backend is only equal to itself."""
    if tokenizer not in _fingerprints:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            _fingerprints[tokenizer] = uuid4().hex
        else:
            content = json.loads(backend.to_str())
            # Left over from earlier calls, and set anew by each.
            content.update(truncation=None, padding=None)
            content["inputs"] = [tokenizer.eos_token_id, *tokenizer.model_input_names]
            _fingerprints[tokenizer] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return _fingerprints[tokenizer]


# ------------------------------------------------------------------------------------------ batches


def epoch_batches(
    lengths: Sequence[int], batch_size: int, generator: torch.Generator, length_pool: int = 1
) -> list[list[int]]:
    """Row numbers of one epoch's batches, in random order, every row once.

    Rows are shuffled and cut into pools of `length_pool` batches; each pool is sorted by length and cut into
    batches; then the batches are shuffled. With a pool of one, batches are drawn at random. All have `batch_size`
    rows but for one that may be smaller.
    """
    import torch

    order = torch.randperm(len(lengths), generator=generator).tolist()
    pool = length_pool * batch_size
    batches: list[list[int]] = []
    for first in range(0, len(order), pool):
        by_length = sorted(order[first : first + pool], key=lengths.__getitem__)
        batches += _cut(by_length, batch_size)
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def eval_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Row numbers in batches, longest rows first: if memory does not suffice, that shows at once."""
    return _cut(sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True), batch_size)


def _cut(rows: Sequence[int], batch_size: int) -> list[list[int]]:
    return [list(rows[first : first + batch_size]) for first in range(0, len(rows), batch_size)]


def collate(encoded: Encoded, indices: Sequence[int], pad_id: int) -> dict[str, Tensor]:
    """One batch, padded on the right to its longest row: int64 [rows, tokens] each, labels as in `Encoded`."""
    import torch

    ids = [encoded.input_ids[index] for index in indices]
    batch = {
        "input_ids": _padded(ids, pad_id),
        "attention_mask": _padded([[1] * len(row) for row in ids], 0),
    }
    if encoded.token_type_ids is not None:
        batch["token_type_ids"] = _padded([encoded.token_type_ids[index] for index in indices], 0)
    if isinstance(encoded.labels, torch.Tensor):
        batch["labels"] = encoded.labels[list(indices)]
    else:
        batch["labels"] = _padded([encoded.labels[index] for index in indices], IGNORED)
    return batch


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    import torch

    columns = list(itertools.zip_longest(*rows, fillvalue=filler))
    return torch.tensor(columns, dtype=torch.int64).T.contiguous()


def padding_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Share of the tokens in `batches` that is padding, in [0, 1)."""
    slots = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
    tokens = sum(lengths[index] for batch in batches for index in batch)
    return 1 - tokens / slots if slots else 0.0
