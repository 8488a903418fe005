"""Tokens and batches: rows become token ids once, and rows of similar length can share a batch.

Importing this module does not import torch, so that a plan can be checked without it.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4
from weakref import WeakKeyDictionary

from harness.api import GenerationTask, Task, Text
from harness.encoded import IGNORED, Encoded, Ragged
from harness.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import torch

CACHED_SPLITS = 32
"""Encoded splits that a process keeps; the least recently used goes first."""

Row = Mapping[str, Any]

# ----------------------------------------------------------------------------------------- encoding

_CacheKey = tuple[type[Task], str, int, str, str, int, bool]
_encoded: OrderedDict[_CacheKey, Encoded] = OrderedDict()
_fingerprints: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def encode(
    task: Task,
    frame: pd.DataFrame,
    tokenizer: Any,
    max_length: int,
    drop_long: bool = False,
    cache_root: Path | None = None,
) -> Encoded:
    """The rows as token ids of at most `max_length` tokens, special tokens included.

    Classification and regression: text or pair; a pair that is too long loses tokens of its longer text.
    Generation: prompt, answer and the end token, loss on the last two; a prompt that is too long loses its
    beginning, as in lm-eval; an answer that leaves its prompt no room is a UserError, or with `drop_long` left out.
    Cached in the process by task, content, tokenizer and length, and on disk below `cache_root` if that is given.
    """
    key = (type(task), task.name, task.version, content_hash(frame), _fingerprint(tokenizer), max_length, drop_long)
    if key not in _encoded:
        rows = [cast(Row, row) for row in frame.to_dict("records")]
        written = _written(task, rows)
        if cache_root is None or not _portable(tokenizer):
            _encoded[key] = _tokenized(task, rows, written, tokenizer, max_length, drop_long)
        else:
            from harness.token_cache import TokenCache, entry_key

            cache = TokenCache(cache_root)
            facts = {"task": [task.kind, *key[1:3]], "written": written, "labels": [row["label"] for row in rows]}
            name = entry_key({**facts, "tokenizer": key[4], "max_length": max_length, "drop_long": drop_long})
            found = cache.load(name)
            if found is None:
                found = _tokenized(task, rows, written, tokenizer, max_length, drop_long)
                cache.save(name, found)
            _encoded[key] = found
        if len(_encoded) > CACHED_SPLITS:
            _encoded.popitem(last=False)
    _encoded.move_to_end(key)
    return _encoded[key]


def _written(task: Task, rows: Sequence[Row]) -> list[tuple[str, str | None]]:
    """What the task writes for each row: its one or two texts, or its prompt and answer."""
    if isinstance(task, GenerationTask):
        return [(task.encode(row).first, task.answer(row)) for row in rows]
    texts: list[Text] = [task.encode(row) for row in rows]
    return [(text.first, text.second) for text in texts]


def _tokenized(
    task: Task,
    rows: Sequence[Row],
    written: Sequence[tuple[str, str | None]],
    tokenizer: Any,
    max_length: int,
    drop_long: bool,
) -> Encoded:
    if isinstance(task, GenerationTask):
        return _encode_answers(task, rows, _exercises(task, written, tokenizer), max_length, drop_long)
    return _encode_texts(task, rows, written, tokenizer, max_length)


def _encode_texts(
    task: Task, rows: Sequence[Row], written: Sequence[tuple[str, str | None]], tokenizer: Any, max_length: int
) -> Encoded:
    import torch

    second = [text for _, text in written if text is not None]
    if second and len(second) < len(written):
        raise UserError(
            f"task '{task.name}': encode() gives a second text for some rows only; give it for all or none."
        )
    tokens = tokenizer(
        [text for text, _ in written],
        second or None,
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
    )
    dtype = torch.float32 if task.kind == "regression" else torch.int64
    labels = torch.tensor([row["label"] for row in rows], dtype=dtype)
    types = tokens.get("token_type_ids")
    return Encoded(Ragged.of(tokens["input_ids"]), labels, None if types is None else Ragged.of(types))


def row_lengths(task: Task, frame: pd.DataFrame, tokenizer: Any, max_length: int) -> list[int]:
    """Tokens of each row, at most `max_length`. Refuses no row: test answers are never trained on."""
    if not isinstance(task, GenerationTask):
        return encode(task, frame, tokenizer, max_length).lengths
    written = _written(task, [cast(Row, row) for row in frame.to_dict("records")])
    return [min(len(prompt) + len(target), max_length) for prompt, target in _exercises(task, written, tokenizer)]


def _exercises(
    task: Task, written: Sequence[tuple[str, str | None]], tokenizer: Any
) -> list[tuple[list[int], list[int]]]:
    """Token ids of each row's prompt, and of its answer with the end token."""
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"task '{task.name}': the backbone's tokenizer has no end token, which a generation task needs."
        )
    prompts = tokenizer([prompt for prompt, _ in written], return_attention_mask=False)["input_ids"]
    answers = tokenizer([answer for _, answer in written], add_special_tokens=False, return_attention_mask=False)[
        "input_ids"
    ]
    return [(prompt, [*answer, tokenizer.eos_token_id]) for prompt, answer in zip(prompts, answers, strict=True)]


def _encode_answers(
    task: Task,
    rows: Sequence[Row],
    exercises: Sequence[tuple[list[int], list[int]]],
    max_length: int,
    drop_long: bool,
) -> Encoded:
    input_ids, labels = [], []
    for row, (prompt, target) in zip(rows, exercises, strict=True):
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
    return Encoded(Ragged.of(input_ids), Ragged.of(labels))


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
            content["class"] = [type(tokenizer).__name__, tokenizer.truncation_side]
            _fingerprints[tokenizer] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return _fingerprints[tokenizer]


def _portable(tokenizer: Any) -> bool:
    """Whether the fingerprint means the same in another process."""
    return getattr(tokenizer, "backend_tokenizer", None) is not None


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


def padding_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Share of the tokens in `batches` that is padding, in [0, 1)."""
    slots = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
    tokens = sum(lengths[index] for batch in batches for index in batch)
    return 1 - tokens / slots if slots else 0.0
