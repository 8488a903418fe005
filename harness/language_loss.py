"""The loss of a language model from the positions that carry a label alone, a chunk of them at a time.

transformers computes logits for every token and copies them to float32: [tokens, vocabulary], gigabytes where only an
answer of a few tokens is learned. Here the output embedding sees labelled positions only, and a chunk's logits are
turned into its share of the gradient before the next chunk is computed, as Liger's fused loss does (Hsu et al. 2024,
arXiv:2410.10989): no logits are kept, and none are computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.encoded import IGNORED

CHUNK_BYTES = 64 * 2**20
"""Of float32 logits that exist at once (and a few copies of them)."""
_PROBE = 8
"""Tokens that the model is tried on."""

LABELLED = "labelled"
"""Key of a batch: row, position and label of every token that carries a label, int64 [3, tokens]; see `located`."""

LossFunction = Callable[[Mapping[str, Tensor]], Tensor]


def loss_function(model: nn.Module, batch: Mapping[str, Tensor]) -> LossFunction:
    """What computes the mean loss of batches like this one: over rows, or over the tokens with a label.

    A language model that is its inner model and an output embedding, nothing before, between or after, is computed
    as this module says; every other model computes its own loss. The same to float32 rounding. `batch` lies on the
    model's device.
    """
    if batch["labels"].ndim == 2 and _is_plain(model, batch):
        return lambda batch: labelled_loss(model, batch)
    return lambda batch: model(**_without(batch, LABELLED)).loss


def located(batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The batch, of a language model, with where its labels are, which is asked on the host while it is there.

    A device would have to be waited for: how many there are decides the shapes of what it computes next.
    """
    if LABELLED in batch or batch["labels"].ndim != 2:
        return batch
    targets = batch["labels"][:, 1:]
    rows, positions = (targets != IGNORED).nonzero(as_tuple=True)
    return {**batch, LABELLED: torch.stack((rows, positions, targets[rows, positions]))}


def labelled_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Mean cross-entropy over the tokens with a label; position i predicts token i + 1, as in transformers.

    Nothing waits for the device where the batch was `located` before it went there.
    """
    head = _output_embedding(model)
    hidden = _inner(model)(**_inputs(batch)).last_hidden_state
    rows, positions, targets = located(batch)[LABELLED]
    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    chunk = max(1, CHUNK_BYTES // (4 * model.config.vocab_size))  # type: ignore[union-attr, operator]
    total: Tensor = _ChunkedLoss.apply(hidden[rows, positions], targets, head, chunk, *trained)
    mean: Tensor = total / targets.new_full((), len(targets))
    return mean


class _ChunkedLoss(torch.autograd.Function):
    """Sum of cross-entropies. Gradients are made in forward, chunk by chunk, and handed out in backward."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, targets: Tensor, head: nn.Module, chunk: int, *trained: nn.Parameter
    ) -> Tensor:
        wanted = (ctx.needs_input_grad[0], *ctx.needs_input_grad[4:])
        total = torch.zeros((), device=states.device)
        sums = [torch.zeros_like(tensor) for tensor in (states, *trained)]
        for number, part in enumerate(states.split(chunk)):
            rows = slice(number * chunk, number * chunk + len(part))
            part = part.detach().requires_grad_(wanted[0])
            with torch.set_grad_enabled(any(wanted)):
                loss = nn.functional.cross_entropy(head(part).float(), targets[rows], reduction="sum")
            total += loss.detach()
            sources = [tensor for tensor, want in zip((part, *trained), wanted, strict=True) if want]
            places = [place for place, want in zip((sums[0][rows], *sums[1:]), wanted, strict=True) if want]
            for place, gradient in zip(places, torch.autograd.grad(loss, sources) if sources else (), strict=True):
                place += gradient
        ctx.save_for_backward(*sums)
        ctx.wanted = wanted
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [held * outputs[0] if want else None for held, want in zip(ctx.saved_tensors, ctx.wanted, strict=True)]
        return scaled[0], None, None, None, *scaled[1:]


def _is_plain(model: nn.Module, batch: Mapping[str, Tensor]) -> bool:
    """Whether logits are the output embedding of the inner model's states, bit for bit, and the loss transformers'."""
    from transformers.loss.loss_utils import ForCausalLMLoss

    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is None or _inner(model) is model or getattr(model, "loss_function", None) is not ForCausalLMLoss:
        return False
    seen: list[Tensor] = []
    handle = head.register_forward_hook(lambda module, inputs, output: seen.extend((inputs[0], output)))
    few = {name: value[:1, :_PROBE] for name, value in _inputs(batch).items()}
    mode = model.training
    try:
        with torch.inference_mode():
            model.eval()
            states = getattr(_inner(model)(**few), "last_hidden_state", None)
            logits = model(**few).logits
    finally:
        model.train(mode)
        handle.remove()
    if states is None or len(seen) != 2:
        return False
    return torch.equal(seen[0], states) and torch.equal(seen[1], logits)


def _inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return _without(batch, "labels", LABELLED)


def _without(batch: Mapping[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: value for name, value in batch.items() if name not in names}


def _inner(model: nn.Module) -> nn.Module:
    inner: nn.Module = getattr(model, "base_model", model)
    return inner


def _output_embedding(model: nn.Module) -> nn.Module:
    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    return head
