"""Pretraining the bundled backbones: from a corpus to a folder that transformers loads, the same every time."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from harness import pretrain
from harness.errors import UserError
from harness.pretrain_recipes import RECIPES, Size
from harness.pretrain_text import generated_batches, prose_rows, read_corpus, train_tokenizer

BUNDLED = Path(pretrain.__file__).parent / "bundled"
PARAGRAPHS = [f"It was the {i} time that the captain looked out of the window and saw the sea." for i in range(60)]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    pd.DataFrame({"text": PARAGRAPHS}).to_parquet(folder / "train.parquet")
    pd.DataFrame({"text": ["A storm came up in the night, and no one slept."] * 8}).to_parquet(
        folder / "validation.parquet"
    )
    return folder


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two recipes, small enough for a test."""
    for name, recipe in RECIPES.items():
        size = Size(vocabulary=400, hidden=32, layers=2, feed_forward=48, positions=64)
        small = replace(recipe, size=size, rows=8, prose_length=32, prose_paragraphs=40, tokenizer_passages=300)
        monkeypatch.setitem(RECIPES, name, small)


def _build(name: str, corpus: Path, out: Path, seed: int = 0, steps: int = 3) -> list[str]:
    lines: list[str] = []
    assert pretrain.build(name, corpus, out, seed, lines.append, steps=steps) == out
    return lines


def _weights_hash(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "auto"), [("starter-encoder", AutoModelForMaskedLM), ("starter-decoder", AutoModelForCausalLM)]
)
def test_build_leaves_a_backbone_that_transformers_loads(
    name: str, auto: Any, tiny: None, corpus: Path, tmp_path: Path
) -> None:
    lines = _build(name, corpus, tmp_path / name)
    model, tokenizer = auto.from_pretrained(tmp_path / name), AutoTokenizer.from_pretrained(tmp_path / name)
    batch = tokenizer("The cook bought 12 bowls.", return_tensors="pt")
    assert model(**batch).logits.shape == (1, batch["input_ids"].shape[1], len(tokenizer))
    assert tokenizer.decode(batch["input_ids"][0], skip_special_tokens=True).strip() == "The cook bought 12 bowls."
    assert any("step 3/3" in line for line in lines)


def test_the_card_records_corpus_recipe_curve_and_seconds(tiny: None, corpus: Path, tmp_path: Path) -> None:
    _build("starter-encoder", corpus, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert read_corpus(corpus).sha256 in card
    for word in ("| steps | 3 |", "| seconds |", "held-out prose: loss, perplexity", "## Training loss", "| 3 | "):
        assert word in card


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny: None, corpus: Path, tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        _build("starter-encoder", corpus, tmp_path / folder, seed)
    assert _weights_hash(tmp_path / "a") == _weights_hash(tmp_path / "b") != _weights_hash(tmp_path / "c")


def test_training_lowers_the_loss(tiny: None, corpus: Path, tmp_path: Path) -> None:
    lines = _build("starter-decoder", corpus, tmp_path / "out", steps=40)
    losses = [float(line.split()[-1]) for line in lines if " loss " in line and "step" in line]
    assert losses[-1] < losses[0] - 0.5


def test_an_unknown_name_and_an_unusable_corpus_are_told_in_one_line(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'starter-encoder'"):
        pretrain.build("starter-encodr", corpus, tmp_path, 0, print)
    with pytest.raises(UserError, match="no parquet file"):
        pretrain.build("starter-encoder", tmp_path / "nowhere", tmp_path, 0, print)
    with pytest.raises(UserError, match="at least 1"):
        pretrain.build("starter-encoder", corpus, tmp_path, 0, print, steps=0)
    pd.DataFrame({"words": ["a"]}).to_parquet(tmp_path / "wrong.parquet")
    with pytest.raises(UserError, match="no column 'text'; it has words"):
        pretrain.build("starter-encoder", tmp_path / "wrong.parquet", tmp_path, 0, print)
    (tmp_path / "broken.parquet").write_text("not parquet")
    with pytest.raises(UserError, match="not a readable parquet file"):
        pretrain.build("starter-encoder", tmp_path / "broken.parquet", tmp_path, 0, print)


def test_without_a_validation_file_the_last_twentieth_is_held_out(tmp_path: Path) -> None:
    pd.DataFrame({"text": PARAGRAPHS}).to_parquet(tmp_path / "all.parquet")
    corpus = read_corpus(tmp_path / "all.parquet")
    assert (corpus.train, corpus.held_out) == (PARAGRAPHS[:57], PARAGRAPHS[57:])


def test_masking_spares_special_tokens_and_prefers_the_opening(tiny: None) -> None:
    recipe = RECIPES["starter-encoder"]
    tokenizer = train_tokenizer(recipe, PARAGRAPHS, seed=0)
    job = pretrain._Job(recipe, None, tokenizer, torch.empty(0), [], [])
    ids = torch.cat([next(generated_batches(recipe, tokenizer, 0))] * 100)
    corrupted, chosen = pretrain._mask(job, ids, torch.Generator().manual_seed(0))
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    assert not chosen[special].any()
    assert torch.equal(corrupted[~chosen], ids[~chosen])
    assert 0.2 < chosen[~special].float().mean() < 0.35


def test_digits_are_tokens_of_their_own_and_rows_are_full(tiny: None) -> None:
    tokenizer = train_tokenizer(RECIPES["starter-decoder"], PARAGRAPHS, seed=0)
    assert [tokenizer.decode([i]) for i in tokenizer("12 + 305")["input_ids"] if tokenizer.decode([i]).isdigit()] == [
        *"12305"
    ]
    assert prose_rows(tokenizer, PARAGRAPHS, 32).shape[1] == 32
    assert prose_rows(tokenizer, ["Short."], 32).shape == (1, 32)


@pytest.mark.parametrize(("name", "labels"), [("starter-encoder", 3), ("starter-decoder", 3)])
def test_the_bundled_backbones_are_those_of_their_recipes(name: str, labels: int) -> None:
    folder = BUNDLED / name
    card = (folder / "README.md").read_text()
    for setting in ("steps", "learning_rate", "generated_share", "mask_rate"):
        assert f"| {setting} | {getattr(RECIPES[name], setting)} |" in card
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=labels)
    batch = tokenizer(["The cook bought a bowl."], ["A bowl was bought."], return_tensors="pt")
    assert model(**batch).logits.shape == (1, labels)


def test_the_bundled_backbones_are_at_most_ten_megabytes() -> None:
    assert 0 < sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file()) <= 10_000_000
