"""Tokens and batches: what rows become before a model sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest
import torch
from data_support import Distance, Sum, Toy, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from harness import batching, data
from harness.api import Text
from harness.errors import UserError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{number}" for number in range(50)), "sum", "is"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        eos_token="[SEP]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


# ------------------------------------------------------------------------------------ tokens


def test_texts_become_ids_with_special_tokens_and_labels(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = data.encode(Toy(), rows(3), tokenizer, 8)
    assert encoded.input_ids == [[2, 4], [2, 5, 6], [2, 6, 7, 8]]
    assert encoded.lengths == [2, 3, 4]
    assert isinstance(encoded.labels, torch.Tensor)
    assert encoded.labels.tolist() == [0, 1, 0]
    assert encoded.labels.dtype == torch.int64


def test_regression_labels_are_floats(tokenizer: PreTrainedTokenizerFast) -> None:
    labels = data.encode(Distance(), rows(3).assign(label=[0.5, 5.0, 2.25]), tokenizer, 8).labels
    assert isinstance(labels, torch.Tensor)
    assert labels.dtype == torch.float32
    assert labels.tolist() == [0.5, 5.0, 2.25]


def test_pairs_are_cut_to_length_and_tell_the_texts_apart(tokenizer: PreTrainedTokenizerFast) -> None:
    class Pair(Toy):
        name = "pair"

        def encode(self, row: Mapping[str, Any]) -> Text:
            return Text(row["text"], "w1 w2")

    encoded = data.encode(Pair(), rows(7), tokenizer, 7)
    assert encoded.input_ids[0] == [2, 4, 3, 5, 6, 3]
    assert encoded.token_type_ids is not None
    assert encoded.token_type_ids[0] == [0, 0, 0, 1, 1, 1]
    assert max(encoded.lengths) == 7
    assert encoded.input_ids[6] == [2, 10, 11, 3, 5, 6, 3]


def test_a_second_text_for_some_rows_only_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    class Mixed(Toy):
        def encode(self, row: Mapping[str, Any]) -> Text:
            return Text(row["text"], "w1" if row["label"] else None)

    with pytest.raises(UserError, match="second text for some rows only"):
        data.encode(Mixed(), rows(4), tokenizer, 8)


def test_generation_puts_the_loss_on_answer_and_end_only(tokenizer: PreTrainedTokenizerFast) -> None:
    frame = pd.DataFrame({"id": ["a"], "text": ["sum w1 w2 is"], "label": ["w3"]})
    encoded = data.encode(Sum(), frame, tokenizer, 16)
    prompt = tokenizer("sum w1 w2 is")["input_ids"]
    assert encoded.input_ids == [[*prompt, 7, 3]]
    assert encoded.labels == [[-100] * 5 + [7, 3]]


def test_a_long_prompt_loses_its_beginning_and_the_answer_stays(tokenizer: PreTrainedTokenizerFast) -> None:
    frame = pd.DataFrame({"id": ["a"], "text": ["sum w1 w2 is"], "label": ["w3"]})
    encoded = data.encode(Sum(), frame, tokenizer, 4)
    assert encoded.input_ids == [[6, WORDS.index("is"), 7, 3]]
    assert encoded.labels == [[-100, -100, 7, 3]]
    with pytest.raises(UserError, match="answer of row a has 2 tokens"):
        data.encode(Sum(), frame, tokenizer, 2)


def test_rows_are_tokenized_once_per_content_and_length(tokenizer: PreTrainedTokenizerFast) -> None:
    first = data.encode(Toy(), rows(5), tokenizer, 8)
    assert data.encode(Toy(), rows(5), tokenizer, 8) is first
    assert data.encode(Toy(), rows(5), tokenizer, 4) is not first
    assert data.encode(Toy(), rows(6), tokenizer, 8) is not first
    other = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"w0": 0, "[UNK]": 1}, unk_token="[UNK]"))
    )
    assert data.encode(Toy(), rows(5), other, 8).input_ids != first.input_ids


def test_the_token_cache_is_bounded(tokenizer: PreTrainedTokenizerFast) -> None:
    for length in range(4, 4 + 2 * batching.CACHED_SPLITS):
        data.encode(Toy(), rows(2), tokenizer, length)
    assert len(batching._encoded) == batching.CACHED_SPLITS


# ------------------------------------------------------------------------------------ batches

LENGTHS = st.lists(st.integers(1, 60), max_size=300)


@settings(max_examples=50, deadline=None)
@given(LENGTHS, st.integers(1, 16), st.integers(1, 20), st.integers(0, 2**31))
def test_an_epoch_holds_every_row_once(lengths: list[int], size: int, pool: int, seed: int) -> None:
    batches = data.epoch_batches(lengths, size, torch.Generator().manual_seed(seed), pool)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // size)
    assert all(1 <= len(batch) <= size for batch in batches)
    assert batches == data.epoch_batches(lengths, size, torch.Generator().manual_seed(seed), pool)


@settings(max_examples=30, deadline=None)
@given(LENGTHS, st.integers(1, 16))
def test_evaluation_holds_every_row_once_longest_first(lengths: list[int], size: int) -> None:
    flat = [index for batch in data.eval_batches(lengths, size) for index in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[index] for index in flat] == sorted(lengths, reverse=True)


def test_epochs_differ_and_larger_pools_pad_less() -> None:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(5, 100, (2000,), generator=generator).tolist()
    first, second = (data.epoch_batches(lengths, 16, generator) for _ in range(2))
    assert first != second
    shares = [data.padding_share(lengths, data.epoch_batches(lengths, 16, generator, pool)) for pool in (1, 4, 50)]
    assert shares[0] > 0.4 > 0.25 > shares[1] > 0.1 > shares[2]


def test_a_pool_of_one_draws_batches_without_regard_to_length() -> None:
    lengths = [5] * 400 + [50] * 400
    batches = data.epoch_batches(lengths, 16, torch.Generator().manual_seed(0), length_pool=1)
    assert all(len({lengths[index] for index in batch}) == 2 for batch in batches)


def test_the_order_of_batches_does_not_follow_length() -> None:
    lengths = list(range(1, 801))
    means = [
        sum(lengths[index] for index in batch) / len(batch)
        for batch in data.epoch_batches(lengths, 16, torch.Generator().manual_seed(0), length_pool=50)
    ]
    assert means != sorted(means)


def test_padding_share_counts_slots_that_hold_no_token() -> None:
    assert data.padding_share([1, 3, 2], [[0, 1], [2]]) == pytest.approx(2 / 8)
    assert data.padding_share([], []) == 0.0


def test_a_batch_is_padded_to_its_longest_row(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = data.encode(Toy(), rows(3), tokenizer, 8)
    batch = data.collate(encoded, [2, 0], 0)
    assert batch["input_ids"].tolist() == [[2, 6, 7, 8], [2, 4, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0] * 4, [0] * 4]
    assert batch["labels"].tolist() == [0, 0]
    assert batch["input_ids"].is_contiguous()


def test_padding_of_generation_carries_no_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "text": ["sum w1", "w1"], "label": ["w3", "w4"]})
    batch = data.collate(data.encode(Sum(), frame, tokenizer, 16), [0, 1], 0)
    assert batch["labels"].tolist() == [[-100, -100, -100, 7, 3], [-100, -100, 8, 3, -100]]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 1, 0]]
