"""Stop strings are found in a tail of what was generated just as in all of it, whatever the tokenizer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from harness.generation import load_scorer

load_scorer()
from harness.language_model import AdaptedModel, _UntilText  # noqa: E402

PIECES = ["a", "b", "ab", "\n", "\n\n", " a", " ", "c\n", "é", "中", "中文", "🙂", "é\n", "."]
"""Texts that tokens stand for, beside single bytes."""
STOPS = [
    "\n\n",
    "a",
    "\n\n\n",
    "ab ab",
    "中\n",
    "🙂",
    "é中",
    " a b",
    "b\n\n🙂",
    "文.",
    "aaaaaaaaaaaaaaaaaaaa",
    "\n\n中文🙂",
]
END = 1


def wrapped(tokenizer: Tokenizer, decoder: Any) -> PreTrainedTokenizerFast:
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens([AddedToken("<x>", special=True), AddedToken("</s>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<x>")


def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2: every token is some bytes, and characters may be cut anywhere."""
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = ["".join(text for text, _ in spell.pre_tokenize_str(piece)) for piece in PIECES]
    tokens = ["<x>", "</s>", *pieces, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return wrapped(Tokenizer(models.BPE(vocabulary, [])), decoders.ByteLevel())


def byte_fallback() -> PreTrainedTokenizerFast:
    """As Llama 2: a run of byte tokens is decoded as one, all or nothing, and the first blank of a text is dropped."""
    pieces = [piece.replace(" ", "\N{LOWER ONE EIGHTH BLOCK}") for piece in PIECES]
    tokens = ["<x>", "</s>", *pieces, *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    blank = decoders.Replace("\N{LOWER ONE EIGHTH BLOCK}", " ")
    decoder = decoders.Sequence([blank, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return wrapped(Tokenizer(models.BPE(vocabulary, [], byte_fallback=True)), decoder)


def word_pieces() -> PreTrainedTokenizerFast:
    """As BERT: a blank before every token but the first and those that go on with a word."""
    pieces = [piece.strip(" ") or "_" for piece in PIECES]
    vocabulary = {
        token: n for n, token in enumerate(dict.fromkeys(["<x>", "</s>", *pieces, *(f"##{p}" for p in pieces)]))
    }
    return wrapped(Tokenizer(models.WordPiece(vocabulary, unk_token="<x>")), decoders.WordPiece(cleanup=False))


TOKENIZERS = {made.__name__: made() for made in (byte_level, byte_fallback, word_pieces)}


def answering(name: str) -> AdaptedModel:
    return AdaptedModel(nn.Linear(1, 1), TOKENIZERS[name], batch_size=4)


def of_bytes(name: str, text: str) -> list[int]:
    """The text as tokens of single bytes."""
    tokenizer = TOKENIZERS[name]
    if name == "byte_fallback":
        return tokenizer.convert_tokens_to_ids([f"<0x{byte:02X}>" for byte in text.encode()])
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return tokenizer.convert_tokens_to_ids([character for word, _ in spelled for character in word])


def plainly(adapted: AdaptedModel, rows: Sequence[list[int]], until: Sequence[str]) -> list[bool]:
    return [any(stop in text for stop in until) for text in adapted._texts(rows)]


@st.composite
def generated(draw: st.DrawFn, name: str) -> list[list[int]]:
    """Rows of equal length: pieces, texts in single bytes, any tokens, special ones."""
    count = len(TOKENIZERS[name])
    parts = st.one_of(
        st.lists(st.integers(2, 1 + len(PIECES)), max_size=12),
        st.lists(st.sampled_from([2, 3, 5]), min_size=8, max_size=30),
        st.lists(st.integers(0, count - 1), max_size=4),
        st.just([0] * 9),
    )
    if name != "word_pieces":
        texts = st.text(st.sampled_from("ab\n 中文🙂é."), max_size=14)
        parts = st.one_of(parts, texts.map(lambda text: of_bytes(name, text)))
    row = st.lists(parts, min_size=1, max_size=8).map(lambda found: list(itertools.chain(*found)))
    rows = draw(st.lists(row, min_size=1, max_size=3))
    longest = max(1, *map(len, rows))
    return [row + [END] * (longest - len(row)) for row in rows]


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_row_is_done_when_its_whole_text_holds_a_stop_string(name: str, data: st.DataObject) -> None:
    adapted = answering(name)
    rows = data.draw(generated(name))
    until = data.draw(st.lists(st.sampled_from(STOPS), min_size=1, max_size=2))
    prompt = torch.full((len(rows), 3), 2)
    criteria = _UntilText(adapted._texts, until, 3, END)
    expected = [False] * len(rows)
    for length in range(1, len(rows[0]) + 1):
        seen = [row[:length] for row in rows]
        # a row that is done is no more asked for: generation pads it
        expected = [was or now for was, now in zip(expected, plainly(adapted, seen, until), strict=True)]
        found = criteria(torch.cat([prompt, torch.tensor(seen)], 1), torch.empty(0))
        assert found.tolist() == expected


def first_done(name: str, row: list[int], until: Sequence[str]) -> int | None:
    """With how many tokens a row is done."""
    criteria = _UntilText(answering(name)._texts, until, 0, END)
    lengths = range(1, len(row) + 1)
    return next((length for length in lengths if criteria(torch.tensor([row[:length]]), torch.empty(0))), None)


@pytest.mark.parametrize("name", ["byte_level", "byte_fallback"])
def test_a_stop_string_after_characters_that_span_tokens_is_found_wherever_a_tail_is_cut(name: str) -> None:
    for shift in range(8):
        for count in range(1, 40, 3):
            row = [2] * shift + of_bytes(name, "🙂" * count + "\n\n")
            assert first_done(name, row, ["\n\n"]) == len(row)
    row = of_bytes(name, "中文🙂" * 30 + "ab" * 40 + "\n\n中文🙂")
    assert first_done(name, row, ["\n\n中文🙂"]) == len(row)


def test_a_stop_string_that_a_tail_alone_would_show_is_none() -> None:
    """A byte that belongs to no character spoils the run of byte tokens that it begins, as far as that goes."""
    row = of_bytes("byte_fallback", "中")[:1] + of_bytes("byte_fallback", "a" + "\n" * 60)
    assert "\n" not in answering("byte_fallback")._texts([row])[0]
    assert first_done("byte_fallback", row, ["\n\n"]) is None


def test_what_a_text_alone_begins_with_is_no_part_of_a_stop_string() -> None:
    """A word piece that goes on with a word shows its mark only where it is the first."""
    row = TOKENIZERS["word_pieces"].convert_tokens_to_ids(["a", *["##b"] * 80])
    assert first_done("word_pieces", row, ["##b"]) is None


def test_a_token_costs_the_same_however_many_came_before_it() -> None:
    adapted = answering("byte_level")
    decoded: list[int] = []

    def texts(rows: Sequence[list[int]]) -> list[str]:
        decoded.append(sum(map(len, rows)))
        return adapted._texts(rows)

    criteria = _UntilText(texts, ["\n\n"], 0, END)
    done, ended, long = [6, *[2] * 399], [2, END, *[2] * 398], [2, 3] * 200
    costs = []
    for length in range(1, 401):
        decoded.clear()
        criteria(torch.tensor([row[:length] for row in (done, ended, long)]), torch.empty(0))
        costs.append(sum(decoded))
    assert max(costs[2:]) <= 40
    assert sum(costs[300:]) <= sum(costs[100:200]) * 1.1
