"""The two ends of the bridge to lm-eval: an adapted model as its `LM`, a task's rows as its `Task`.

Importing this module imports lm-eval, which takes seconds: see `harness.generation`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.task import ConfigurableTask
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor, nn
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

logging.getLogger("lm_eval").setLevel(logging.ERROR)

MAX_NEW_TOKENS = 256
"""For requests that name no limit of their own."""
MAX_LENGTH = 2048
"""Context length of a model whose configuration names none."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""Stands for a byte that belongs to no character, or not yet."""
SEAM = 4
"""Characters at the beginning of a tail's text that may not be the row's: a blank that decoders drop from or put before
the first token, and the last three bytes of a character that was cut in two, each of which becomes a replacement."""
Score = tuple[float, bool]
"""Log-probability of a continuation, and whether greedy decoding would have produced it."""


class RowsTask(ConfigurableTask):
    """A task without few-shot examples, whose requests are built without a progress bar or a cache."""

    def build_all_requests(self, **_: Any) -> None:
        """The requests of each row (one, or one for each choice), in row order."""
        self._instances = []
        for number, row in enumerate(self.eval_docs):
            context = self.fewshot_context(row, num_fewshot=0)
            made = self.construct_requests(doc=row, ctx=context, metadata=(self.config.task, number, 1))
            self._instances += made if isinstance(made, list) else [made]

    @property
    def filters(self) -> list[str]:
        """Names of the answer filters; the first one's answers count."""
        return [ensemble.name for ensemble in self._filters]


class AdaptedModel(TemplateLM):
    """A causal model in memory, in evaluation mode while it answers. Decoding is greedy, whatever a request asks.

    Requests are answered in batches of similar length; the results come in request order.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, batch_size: int) -> None:
        super().__init__()
        self.model: Any = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self._device = next(model.parameters()).device

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What a text without context is conditioned on."""
        begin = self.tokenizer.bos_token_id
        return self.eot_token_id if begin is None else int(begin)

    @property
    def max_length(self) -> int:
        """Positions that the model can attend over."""
        return int(getattr(self.model.config, "max_position_embeddings", MAX_LENGTH))

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids, with the tokenizer's own special tokens unless told otherwise."""
        special = True if add_special_tokens is None else add_special_tokens
        ids: list[int] = self.tokenizer(string, add_special_tokens=special)["input_ids"]
        return ids

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Greedy continuations, cut before the first of a request's `until` strings or the end token.

        A prompt that leaves no room for the answer loses its beginning; half of the model's length is always its own.
        """
        texts = [""] * len(requests)
        for (until, wanted), numbers in _by_settings(requests).items():
            encoded = self.tokenizer([requests[number].args[0] for number in numbers])["input_ids"]
            prompts: dict[int, list[int]] = dict(zip(numbers, encoded, strict=True))
            limit = min(wanted, self.max_length // 2)
            room = self.max_length - limit
            for batch in self._batches(prompts):
                ids = [prompts[number][-room:] for number in batch]
                for number, text in zip(batch, self._continue(ids, until, limit), strict=True):
                    texts[number] = text
        return texts

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[Score]:
        """Score each continuation given its context."""
        scores: list[Score] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return scores

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Log-probability of whole texts, in windows of the model's length, each token predicted once."""
        windows: list[tuple[tuple[str, str], list[int], list[int]]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            tokens = self.tok_encode(request.args[0], add_special_tokens=False)
            for window in get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, context_len=1):
                windows.append((("", ""), *make_disjoint_window(window)))
                owners.append(number)
        totals = [0.0] * len(requests)
        for number, (logarithm, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[number] += logarithm
        return totals

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[Score]:
        scores: dict[int, Score] = {}
        whole = {
            number: (context + target)[-self.max_length - 1 :] for number, (_, context, target) in enumerate(requests)
        }
        for batch in self._batches(whole):
            targets = [len(requests[number][2]) for number in batch]
            scores.update(zip(batch, self._score([whole[number] for number in batch], targets), strict=True))
        return [scores[number] for number in range(len(requests))]

    def _batches(self, sequences: Mapping[int, Sequence[int]]) -> Iterator[list[int]]:
        """Request numbers, longest sequences first: what does not fit into memory fails at once."""
        order = sorted(sequences, key=lambda number: -len(sequences[number]))
        for first in range(0, len(order), self.batch_size):
            yield order[first : first + self.batch_size]

    def _continue(self, prompts: Sequence[list[int]], until: Sequence[str], limit: int) -> list[str]:
        """Greedy continuations of at most `limit` tokens; prompts are padded on the left."""
        length = max(map(len, prompts))
        padding = [[0] * (length - len(prompt)) for prompt in prompts]
        pad, end = self.tokenizer.pad_token_id, self.eot_token_id
        pad = end if pad is None else pad
        ids = self._tensor([[pad] * len(left) + prompt for left, prompt in zip(padding, prompts, strict=True)])
        mask = self._tensor([left + [1] * len(prompt) for left, prompt in zip(padding, prompts, strict=True)])
        plain = GenerationConfig(do_sample=False, max_new_tokens=limit, eos_token_id=end, pad_token_id=pad)
        stopping = StoppingCriteriaList([_UntilText(self._texts, until, length, end)])
        with self._answering(plain):
            whole = self.model.generate(input_ids=ids, attention_mask=mask, stopping_criteria=stopping)
        return [_cut(text, until) for text in self._texts(whole[:, length:].tolist())]

    def _texts(self, rows: Sequence[list[int]]) -> list[str]:
        """Texts of rows of generated ids, each up to its end token."""
        end = self.eot_token_id
        texts: list[str] = self.tokenizer.batch_decode(
            [row[: row.index(end)] if end in row else row for row in rows],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        return texts

    def _score(self, sequences: Sequence[list[int]], targets: Sequence[int]) -> list[Score]:
        """Score the last `targets` tokens of each sequence given those before them."""
        longest = max(map(len, sequences))
        ids = self._tensor([sequence[:-1] + [0] * (longest - len(sequence)) for sequence in sequences])
        mask = self._tensor([[1] * (len(sequence) - 1) + [0] * (longest - len(sequence)) for sequence in sequences])
        with self._answering():
            logits = self.model(input_ids=ids, attention_mask=mask).logits
            return [
                _score_row(logits[row, len(sequence) - 1 - count : len(sequence) - 1], sequence[-count:])
                for row, (sequence, count) in enumerate(zip(sequences, targets, strict=True))
            ]

    def _tensor(self, rows: list[list[int]]) -> Tensor:
        return torch.tensor(rows, device=self._device)

    @contextlib.contextmanager
    def _answering(self, decoding: GenerationConfig | None = None) -> Iterator[None]:
        """Evaluation mode without gradients; `decoding` replaces what the checkpoint suggests (sampling, penalties)."""
        mode, suggested = self.model.training, self.model.generation_config
        self.model.eval()
        self.model.generation_config = decoding or suggested
        try:
            with torch.inference_mode():
                yield
        finally:
            self.model.generation_config = suggested
            self.model.train(mode)


@dataclass
class _Tail:
    """What is decoded of one row: its tokens from `start` on."""

    start: int
    limit: int
    """Tokens; from there on a shorter tail is tried."""
    whole: bool = True
    """Whether it is all that was generated."""
    done: bool = False
    ended: bool = False
    """Whether the end token has come: the row's text is what it is."""

    def certain(self, text: str) -> str:
        """Of the text that the tail's tokens give by themselves, what is the end of the row's text."""
        return text if self.whole else text[SEAM:]

    def shorten(self, row: list[int], text: str, half: list[int], half_text: str, enough: int) -> None:
        """Go on with the half of the row if it can stand for it, else not before the row is twice as long."""
        end = half_text[SEAM:]
        if len(half_text) >= enough and self.certain(text).endswith(end) and not end.endswith(REPLACEMENT):
            self.start += len(row) - len(half)
            self.limit, self.whole = max(2 * enough, len(half)), False
        else:
            self.limit = 2 * len(row)


class _UntilText(StoppingCriteria):
    """Ends a row as soon as the text generated after `prompt_length` holds one of the stop strings.

    Only a tail of each row is decoded, and nothing of a row that is done or ended: a token costs the same however many
    came before it. Tokens may decode apart otherwise than together, so a tail is cut by what its text says, never by
    counting tokens: the shorter one must give, after the seam, the very end of what the longer one gives. A cut within
    a character, or within a run of byte tokens that a decoder takes as one, shows there; while the last character is
    incomplete, when it might not show yet, nothing is cut.
    """

    def __init__(
        self,
        texts: Callable[[Sequence[list[int]]], list[str]],
        until: Sequence[str],
        prompt_length: int,
        end: int | None = None,
    ) -> None:
        """end: the token that ends a row's text."""
        self.texts, self.until, self.prompt_length, self.end = texts, until, prompt_length, end
        # all but the last character of a stop string, a seam before it, and as much for what decoders trim at an end
        self._enough = max(map(len, until), default=0) + 2 * SEAM
        self._tails: list[_Tail] = []

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """Which rows [rows] are done."""
        self._tails = self._tails or [_Tail(self.prompt_length, 2 * self._enough) for _ in range(len(input_ids))]
        growing = {number: tail for number, tail in enumerate(self._tails) if not (tail.done or tail.ended)}
        if growing and self.until:
            first = min(tail.start for tail in growing.values())
            ids = input_ids[:, first:].tolist()
            self._read(list(growing.values()), [ids[number][tail.start - first :] for number, tail in growing.items()])
        return torch.tensor([tail.done for tail in self._tails], device=input_ids.device)

    def _read(self, tails: Sequence[_Tail], rows: Sequence[list[int]]) -> None:
        """Look for stop strings in the rows, which the tails are of, and shorten those that have become long."""
        long: list[tuple[_Tail, list[int], str]] = []
        for tail, row, text in zip(tails, rows, self.texts(rows), strict=True):
            tail.done = any(stop in tail.certain(text) for stop in self.until)
            tail.ended = self.end in row
            if len(row) > tail.limit and not (tail.done or tail.ended):
                long.append((tail, row, text))
        halves = [row[len(row) // 2 :] for _, row, _ in long]
        for (tail, row, text), half, half_text in zip(long, halves, self.texts(halves) if halves else (), strict=True):
            tail.shorten(row, text, half, half_text, self._enough)


def _score_row(logits: Tensor, target: list[int]) -> Score:
    """Log-probability of `target` under logits [tokens, vocabulary], and whether it is their argmax throughout."""
    wanted = torch.tensor(target, device=logits.device)
    logarithms = logits.float().log_softmax(dim=-1).gather(1, wanted[:, None])
    return float(logarithms.sum()), bool((logits.argmax(dim=-1) == wanted).all())


def _by_settings(requests: Sequence[Instance]) -> dict[tuple[tuple[str, ...], int], list[int]]:
    """Numbers of the requests that share stop strings and token limit."""
    groups: dict[tuple[tuple[str, ...], int], list[int]] = {}
    for number, request in enumerate(requests):
        settings = request.args[1]
        until = settings.get("until") or ()
        stops = (until,) if isinstance(until, str) else tuple(until)
        groups.setdefault((stops, int(settings.get("max_gen_toks", MAX_NEW_TOKENS))), []).append(number)
    return groups


def _cut(text: str, until: Sequence[str]) -> str:
    """`text` before the first occurrence of any stop string."""
    return text[: min((text.index(stop) for stop in until if stop in text), default=len(text))]
