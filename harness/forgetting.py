"""Perplexity of held-out text, before and after training: what adaptation costs a language model elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from harness import loop, packing
from harness.api import DataRoot
from harness.errors import TrialFailure
from harness.held_out import planned_text
from harness.settings import Settings
from harness.trial import Recipe


@dataclass(frozen=True)
class HeldOut:
    """A text as token ids, and how it is read."""

    prefix: int = 0
    """The token that the text's first one is predicted from."""
    ids: Sequence[int] = ()
    """Empty if the recipe names no text."""
    recipe: Recipe = field(default_factory=Recipe)

    def perplexity(self, model: nn.Module) -> float | None:
        """exp of the mean negative log-likelihood per token; None without a text. See `harness.measure`.

        Evaluation mode, without gradients, in the recipe's precision. Raises TrialFailure if it is not finite.
        """
        if not self.ids:
            return None
        device = next(model.parameters()).device
        total = 0.0
        with loop.evaluating(model), packing.without_cache(model), loop.autocast(device, self.recipe.precision):
            for batch in self._batches():
                total += _negative_log_likelihood(model, torch.tensor(batch, device=device))
        mean = total / len(self.ids)
        if not mean < math.log(torch.finfo(torch.float64).max):  # nor is NaN
            raise TrialFailure("diverged", f"the held-out text has a loss of {mean} per token")
        return math.exp(mean)

    def windows(self) -> list[Sequence[int]]:
        """Consecutive windows of max_length tokens, each behind the one token before it."""
        length, whole = self.recipe.max_length, [self.prefix, *self.ids]
        return [whole[first : first + length + 1] for first in range(0, len(self.ids), length)]

    def _batches(self) -> Iterator[list[Sequence[int]]]:
        """Windows of one length, at most eval_batch_size at a time: no padding."""
        windows, size = self.windows(), self.recipe.eval_batch_size
        for length in dict.fromkeys(map(len, windows)):
            alike = [window for window in windows if len(window) == length]
            yield from (alike[first : first + size] for first in range(0, len(alike), size))


def held_out(recipe: Recipe, tokenizer: Any, settings: Settings) -> HeldOut:
    """The recipe's held-out text in one backbone's tokens; UserError if it is not the one that was planned with."""
    if not recipe.forgetting:
        return HeldOut()
    text = planned_text(recipe, DataRoot(settings.data_root))
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][: recipe.forgetting_tokens or None]
    begin = tokenizer.bos_token_id
    return HeldOut(int(tokenizer.eos_token_id if begin is None else begin), ids, recipe)


def _negative_log_likelihood(model: nn.Module, windows: Tensor) -> float:
    """Summed over all tokens of windows [rows, 1 + tokens] but the first of each; row by row, to spare memory."""
    targets = windows[:, 1:]
    logits = model(input_ids=windows[:, :-1]).logits[:, -targets.shape[1] :]  # a learned prompt has logits in front
    losses = [
        nn.functional.cross_entropy(row.float(), target, reduction="none").double().sum()
        for row, target in zip(logits, targets, strict=True)
    ]
    return float(torch.stack(losses).sum())
