"""The gradient of the full, unadapted model on a few training rows, for initialisations that ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from harness.api import LinearMethod
from harness.language_loss import located, loss_function
from harness.loop import loss_items
from harness.targets import select_modules


def estimate_gradients(
    model: nn.Module, method: LinearMethod, batches: Iterable[Mapping[str, Tensor]], seed: int, dropout: bool
) -> dict[str, Tensor]:
    """Sum over rows (answer tokens, if it generates) of every targeted map's gradient [m, n], float32 on the CPU.

    Gradients are taken over by hooks as backward produces them and freed at once, so that memory does not grow
    with depth. `dropout` says whether the model's own dropout is on; its draws come from `seed` alone.
    The model is left as it was: mode, gradients, and which parameters are trainable.
    """
    names = [target.module for target in select_modules(model, method.targets, method.layers)]
    sums: dict[str, Tensor] = {}
    trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    mode = model.training
    model.requires_grad_(False)
    handles = [_collect(model, name, sums) for name in names]
    try:
        _backward(model.train(dropout), batches, seed)
    finally:
        for handle in handles:
            handle.remove()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(trainable[name])
        model.train(mode)
    return sums


def sample_rows(rows: int, samples: int, seed: int) -> Sequence[int]:
    """`samples` distinct row numbers out of `rows`, drawn from `seed`; all rows if there are fewer."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(rows, generator=generator)[:samples].tolist()


def _collect(model: nn.Module, name: str, sums: dict[str, Tensor]) -> RemovableHandle:
    weight = model.get_parameter(f"{name}.weight")
    weight.requires_grad_(True)

    def take(parameter: Tensor) -> None:
        assert parameter.grad is not None
        gradient = parameter.grad.detach().float().cpu()
        sums[name] = sums[name] + gradient if name in sums else gradient
        parameter.grad = None

    handle: RemovableHandle = weight.register_post_accumulate_grad_hook(take)
    return handle


def _backward(model: nn.Module, batches: Iterable[Mapping[str, Tensor]], seed: int) -> None:
    device = next(model.parameters()).device
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for batch in batches:
            moved = {name: value.to(device) for name, value in located(batch).items()}
            # the loss is a mean over rows or answer tokens: times their number it is the sum, however rows are batched
            loss = loss_function(model, moved)(moved)
            (loss * loss_items(batch)).backward()
