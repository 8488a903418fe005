"""Pretrains the small backbones that ship with the project: seeded, repeatable, on the CPU.

`build` is the whole way from a corpus to a folder that `transformers` loads: tokenizer, weights and a model
card that records corpus hash, recipe, loss curve, held-out loss and seconds.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError, unknown
from harness.pretrain_card import CurvePoint, HeldOut, Result, write_card
from harness.pretrain_recipes import RECIPES, PretrainRecipe
from harness.pretrain_text import Corpus, generated_batches, prose_rows, read_corpus, train_tokenizer
from harness.trial import stream_seed

if TYPE_CHECKING:
    from torch import Tensor

_CURVE_POINTS = 25
_HELD_OUT_BATCHES = 8
_HELD_OUT_PARAGRAPHS = 400


def build(
    name: str, corpus: Path, out: Path, seed: int, report: Callable[[str], None], steps: int | None = None
) -> Path:
    """Pretrain the backbone `name` into the folder `out` and return that folder.

    corpus: a parquet file with a column "text", or a folder of such files (validation*.parquet is held out).
    steps: optimizer steps instead of the recipe's, for a quick look; the card says so.
    Raises UserError for an unknown name or an unusable corpus.
    """
    import torch

    if name not in RECIPES:
        raise unknown("backbone", name, RECIPES, advice="Only the bundled backbones have a pretraining recipe.")
    recipe = RECIPES[name] if steps is None else replace(RECIPES[name], steps=steps)
    if recipe.steps < 1:
        raise UserError(f"steps = {recipe.steps} must be at least 1.")
    texts = read_corpus(corpus)
    torch.manual_seed(stream_seed(seed, "head", name))
    begin = time.perf_counter()
    job = _prepare(recipe, texts, seed)
    report(f"{name}: {sum(p.numel() for p in job.model.parameters()):,} parameters, {recipe.steps} steps")
    curve = _train(job, seed, report)
    seconds = time.perf_counter() - begin
    held_out = HeldOut(prose=_held_out(job, job.prose_held_out), generated=_held_out(job, job.generated_held_out))
    out.mkdir(parents=True, exist_ok=True)
    job.model.save_pretrained(out)
    job.tokenizer.save_pretrained(out)
    write_card(out, recipe, Result(seed, texts.sha256, seconds, curve, held_out))
    report(f"{name}: {seconds:.0f} s, held-out loss {held_out.prose:.3f} (prose) {held_out.generated:.3f} (generated)")
    return out


@dataclass(frozen=True)
class _Job:
    """A recipe with everything that it needs to run."""

    recipe: PretrainRecipe
    model: Any
    tokenizer: Any
    prose: Tensor
    """[rows, prose_length] token ids."""
    prose_held_out: list[Tensor]
    generated_held_out: list[Tensor]


def _prepare(recipe: PretrainRecipe, corpus: Corpus, seed: int) -> _Job:
    rng = random.Random(f"corpus/{seed}")
    train = rng.sample(corpus.train, min(recipe.prose_paragraphs, len(corpus.train)))
    held_out = rng.sample(corpus.held_out, min(_HELD_OUT_PARAGRAPHS, len(corpus.held_out)))
    tokenizer = train_tokenizer(recipe, train[: max(1, len(train) // 8)], seed)
    held_out_rows = prose_rows(tokenizer, held_out, recipe.prose_length)
    held_out_batches = generated_batches(recipe, tokenizer, seed + 1)
    return _Job(
        recipe=recipe,
        model=_new_model(recipe, tokenizer),
        tokenizer=tokenizer,
        prose=prose_rows(tokenizer, train, recipe.prose_length),
        prose_held_out=list(held_out_rows.split(recipe.rows))[:_HELD_OUT_BATCHES],
        generated_held_out=[next(held_out_batches) for _ in range(_HELD_OUT_BATCHES)],
    )


def _new_model(recipe: PretrainRecipe, tokenizer: Any) -> Any:
    """An untrained model, initialised from torch's global generator."""
    from transformers import LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaForMaskedLM

    size = recipe.size
    shared = {
        "vocab_size": len(tokenizer),
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.feed_forward,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if recipe.objective == "causal":
        # Untied, so that a trained output layer leaves the embeddings alone.
        return LlamaForCausalLM(
            LlamaConfig(**shared, max_position_embeddings=size.positions, tie_word_embeddings=False)
        )
    config = RobertaConfig(
        **shared,
        # RoBERTa counts positions from pad_token_id + 1.
        max_position_embeddings=size.positions + tokenizer.pad_token_id + 1,
        type_vocab_size=1,
        # One short pass over endless generated text cannot overfit.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return RobertaForMaskedLM(config)


def _train(job: _Job, seed: int, report: Callable[[str], None]) -> list[CurvePoint]:
    """Run all steps; returns the loss curve. Masks and order come from generators of their own."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    recipe = job.recipe
    generator = torch.Generator().manual_seed(stream_seed(seed, "order", recipe.name))
    optimizer = torch.optim.AdamW(
        job.model.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay
    )
    schedule = get_linear_schedule_with_warmup(optimizer, round(recipe.warmup_ratio * recipe.steps), recipe.steps)
    batches = _mixed(job, seed)
    every = max(1, recipe.steps // _CURVE_POINTS)
    curve: list[CurvePoint] = []
    total = 0.0
    job.model.train()
    for step in range(1, recipe.steps + 1):
        loss = _loss(job, next(batches), generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(job.model.parameters(), recipe.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total += float(loss.detach())
        if step % every == 0:
            curve.append(CurvePoint(step, total / every))
            report(f"{recipe.name}: step {step}/{recipe.steps} loss {total / every:.3f}")
            total = 0.0
    return curve


def _mixed(job: _Job, seed: int) -> Iterator[Tensor]:
    """Endless batches: generated text with probability `generated_share`, else prose."""
    recipe = job.recipe
    rng = random.Random(f"mix/{seed}")
    generated = generated_batches(recipe, job.tokenizer, seed)
    prose_batch = recipe.rows if recipe.objective == "causal" else recipe.rows // 2
    while True:
        if rng.random() < recipe.generated_share:
            yield next(generated)
        else:
            yield job.prose[rng.sample(range(len(job.prose)), min(prose_batch, len(job.prose)))]


def _held_out(job: _Job, batches: list[Tensor]) -> float:
    """Mean loss per predicted token over the held-out batches, masks from a fixed seed."""
    import torch

    generator = torch.Generator().manual_seed(0)
    job.model.eval()
    with torch.no_grad():
        return math.fsum(float(_loss(job, batch, generator)) for batch in batches) / len(batches)


def _loss(job: _Job, ids: Tensor, generator: Any) -> Tensor:
    """Mean cross-entropy of the recipe's objective for token ids [rows, length]."""
    from torch.nn.functional import cross_entropy

    if job.recipe.objective == "causal":
        logits = job.model(input_ids=ids).logits[:, :-1]
        return cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    corrupted, chosen = _mask(job, ids, generator)
    hidden = job.model.roberta(corrupted, attention_mask=(ids != job.tokenizer.pad_token_id).long()).last_hidden_state
    # The output layer sees the chosen positions alone: most of its cost is saved.
    return cross_entropy(job.model.lm_head(hidden[chosen]), ids[chosen])


def _mask(job: _Job, ids: Tensor, generator: Any) -> tuple[Tensor, Tensor]:
    """BERT's corruption: of the chosen positions 80 % become the mask, 10 % a random token, 10 % stay.

    Words that say how two sentences compare ("that", "another") have a higher rate: the model learns to compare.
    Returns the corrupted ids and the chosen positions, bool, both [rows, length].
    """
    import torch

    special = torch.tensor(job.tokenizer.all_special_ids)
    draw = torch.rand(ids.shape, generator=generator)
    comparing = torch.isin(ids, torch.tensor(_single_tokens(job.tokenizer, job.recipe.comparing_words)))
    rate = torch.where(comparing, job.recipe.comparing_mask_rate, job.recipe.mask_rate)
    chosen = (draw < rate) & ~torch.isin(ids, special)
    kind = torch.rand(ids.shape, generator=generator)
    noise = torch.randint(len(job.tokenizer), ids.shape, generator=generator)
    corrupted = torch.where(chosen & (kind < 0.8), job.tokenizer.mask_token_id, ids)
    return torch.where(chosen & (kind > 0.9), noise, corrupted), chosen


def _single_tokens(tokenizer: Any, words: tuple[str, ...]) -> list[int]:
    """The ids of those words, small or capital, that are one token; a word's first piece would give it away."""
    forms = [form for word in words for form in (word, word.capitalize())]
    pieces = tokenizer(forms, add_special_tokens=False)["input_ids"] if forms else []
    return [ids[0] for ids in pieces if len(ids) == 1]
