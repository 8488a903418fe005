"""Text for pretraining: the corpus on disk, generated passages, their tokenizer, and the batches of each step."""

from __future__ import annotations

import hashlib
import importlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.errors import UserError
from harness.pretrain_recipes import SPECIAL, PretrainRecipe

if TYPE_CHECKING:
    from torch import Tensor

Passages = Callable[[int], Iterator[tuple[str, ...]]]

_HELD_OUT_SHARE = 0.05
_POOL_BATCHES = 32


@dataclass(frozen=True)
class Corpus:
    """Paragraphs of prose, in file order, and what identifies them."""

    train: list[str]
    held_out: list[str]
    sha256: str
    """Over the bytes of the parquet files in path order."""


def read_corpus(path: Path) -> Corpus:
    """The `text` columns of a parquet file, or of all parquet files below a folder.

    A file named validation*.parquet is held out; without one, the last twentieth of the rows is.
    Raises UserError if there is no parquet file or no text in it.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if not files:
        raise UserError(f"corpus '{path}': no parquet file there; give a file or folder with a 'text' column.")
    digest = hashlib.sha256()
    train: list[str] = []
    held_out: list[str] = []
    for file in files:
        digest.update(file.read_bytes())
        (held_out if file.name.startswith("validation") else train).extend(_texts(file))
    if not held_out:
        cut = max(1, round(len(train) * _HELD_OUT_SHARE))
        train, held_out = train[:-cut], train[-cut:]
    if not train:
        raise UserError(f"corpus '{path}': fewer than two paragraphs of text; give a larger corpus.")
    return Corpus(train, held_out, digest.hexdigest())


def _texts(file: Path) -> list[str]:
    try:
        frame = pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise UserError(f"corpus '{file}': not a readable parquet file ({error}).") from error
    if "text" not in frame.columns:
        raise UserError(f"corpus '{file}': no column 'text'; it has {', '.join(map(str, frame.columns))}.")
    return [str(text) for text in frame["text"]]


def passages_of(recipe: PretrainRecipe) -> Passages:
    """The generator that the recipe names, imported only now: the harness knows no task by name."""
    module, function = recipe.generator.split(":")
    generator: Passages = getattr(importlib.import_module(module), function)
    return generator


def train_tokenizer(recipe: PretrainRecipe, prose: list[str], seed: int) -> Any:
    """A byte-level BPE tokenizer, digits one by one, learned from generated passages and prose."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        # The space in front makes a word one and the same token at the start of a segment and inside it.
        [
            pre_tokenizers.ByteLevel(add_prefix_space=recipe.objective == "masked"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.size.vocabulary,
        special_tokens=list(SPECIAL.all),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    generated = islice(passages_of(recipe)(seed), recipe.tokenizer_passages)
    core.train_from_iterator([" ".join(passage) for passage in generated] + prose, trainer)
    if recipe.objective == "masked":
        ids = {token: core.token_to_id(token) for token in (SPECIAL.bos, SPECIAL.eos)}
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=list(ids.items())
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=recipe.size.positions,
        bos_token=SPECIAL.bos,
        pad_token=SPECIAL.pad,
        eos_token=SPECIAL.eos,
        unk_token=SPECIAL.unknown,
        mask_token=SPECIAL.mask,
        cls_token=SPECIAL.bos if recipe.objective == "masked" else None,
        sep_token=SPECIAL.eos if recipe.objective == "masked" else None,
        model_input_names=["input_ids", "attention_mask"],
    )


def prose_rows(tokenizer: Any, texts: list[str], length: int) -> Tensor:
    """Token ids [rows, length] of the paragraphs, each followed by the end token, cut into full rows."""
    import torch

    end = tokenizer.eos_token_id
    ids = [i for row in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] for i in (*row, end)]
    rows = max(1, len(ids) // length)
    ids = (ids * length)[: rows * length] if len(ids) < length else ids[: rows * length]
    return torch.tensor(ids).view(rows, length)


def generated_batches(recipe: PretrainRecipe, tokenizer: Any, seed: int) -> Iterator[Tensor]:
    """Endless batches [rows, longest] of generated passages, padded, of similar length within a batch.

    The causal objective gets rows packed to `prose_length` instead, like prose.
    """
    import torch

    passages = passages_of(recipe)(seed)
    rng = random.Random(f"batches/{seed}")
    while True:
        pool = list(islice(passages, recipe.rows * _POOL_BATCHES))
        if recipe.objective == "causal":
            packed = prose_rows(tokenizer, [passage[0] for passage in pool], recipe.prose_length)
            yield from packed.split(recipe.rows)
            continue
        encoded = sorted((tokenizer(*passage)["input_ids"] for passage in pool), key=len)
        groups = [encoded[i : i + recipe.rows] for i in range(0, len(encoded), recipe.rows)]
        rng.shuffle(groups)
        for group in groups:
            width = max(map(len, group))
            yield torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in group])
