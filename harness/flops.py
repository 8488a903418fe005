"""FLOPs of a step as a function of its shape, counted by torch's dispatcher-level counter on real batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import Tensor, nn

Step = Callable[[Mapping[str, "Tensor"]], object]
"""Forward, and for training backward, of one batch; no optimizer step."""


SHORTEST = 4
"""Tokens of which three different lengths can be cut: the whole, a half and a quarter."""


@dataclass(frozen=True)
class LengthCost:
    """FLOPs of a step by its shape, as two quadratics (constant, linear, quadratic) in the padded length.

    Linear layers grow with the length, attention with its square, the head of a classifier not at all.
    """

    per_batch: tuple[float, float, float]
    """What is computed once however many rows there are (a weight that a method rebuilds at each step)."""
    per_row: tuple[float, float, float]

    def flops(self, rows: int, length: int) -> float:
        """FLOPs of one step on `rows` rows padded to `length` tokens."""
        return _value(self.per_batch, length) + rows * _value(self.per_row, length)


def flops_by_length(
    model: nn.Module, step: Step, batches: Sequence[Mapping[str, Tensor]], training: bool = True
) -> LengthCost:
    """Count `step` on one and on two rows of batches of three lengths; fit `LengthCost`.

    The lengths are those of the shortest, a middle and the longest batch; where fewer than three differ, the longest is
    taken cut short too. A few rows suffice because FLOPs are linear in their number, and exactly quadratic in the
    length: whichever batches are given, the same comes out. Gradients, RNG state and training mode are put back.
    Attention runs in its plain form while counting: the fused kernels are invisible to the counter on the CPU, and
    their recomputation in backward would count as work on a GPU.

    batches: real ones, tensors [rows, ...] on the model's device, `input_ids` [rows, padded length] among them.
    training: count with the model in training mode and gradients; else in evaluation mode under inference mode.
    """
    chosen = _of_three_lengths(batches)
    with _left_as_found(model, training):
        two = {length: _count(step, batch, 2) for length, batch in chosen.items()}
        one = {length: _count(step, batch, 1) for length, batch in chosen.items()}
    rows = {length: min(2, len(batch["input_ids"])) for length, batch in chosen.items()}
    per_row = {length: (two[length] - one[length]) if rows[length] == 2 else one[length] for length in chosen}
    per_batch = {length: one[length] - per_row[length] for length in chosen}
    return LengthCost(_fit(per_batch), _fit(per_row))


def _of_three_lengths(batches: Sequence[Mapping[str, Tensor]]) -> dict[int, Mapping[str, Tensor]]:
    by_length = {_length(batch): batch for batch in batches}
    lengths = sorted(by_length)
    longest = lengths[-1]
    if longest < SHORTEST:
        return _of_three_lengths([_columns(by_length[longest], [place % longest for place in range(SHORTEST)])])
    middle = min(lengths, key=lambda length: abs(2 * length - lengths[0] - longest))
    chosen = {length: by_length[length] for length in (lengths[0], middle, longest)}
    for length in (longest // 2, longest // 4):
        if len(chosen) < 3 and length not in chosen:
            chosen[length] = _columns(by_length[longest], range(length))
    return chosen


def _length(batch: Mapping[str, Tensor]) -> int:
    return int(batch["input_ids"].shape[1])


def _columns(batch: Mapping[str, Tensor], places: Sequence[int]) -> dict[str, Tensor]:
    """The batch with these of its token positions; what has none (the labels of a classifier) as it is."""
    shape = batch["input_ids"].shape
    return {name: value[:, list(places)] if value.shape == shape else value for name, value in batch.items()}


class _NoModules(contextlib.nullcontext[None]):
    """Stands in for the tracker that hooks every module to tell whose FLOPs they are: a quarter of a count's time."""

    parents = ("Global",)


def _count(step: Step, batch: Mapping[str, Tensor], rows: int) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    counter.mod_tracker = cast(Any, _NoModules())
    with counter:
        step({name: value[:rows] for name, value in batch.items()})
    return int(counter.get_total_flops())


@contextlib.contextmanager
def _left_as_found(model: nn.Module, training: bool) -> Iterator[None]:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    mode = model.training
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    model.train(training)
    try:
        with _rng_kept(model), torch.inference_mode(not training), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        model.train(mode)
        for parameter, gradient in gradients:
            parameter.grad = gradient


def _rng_kept(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    import torch

    device = next(model.parameters()).device
    if device.type in ("cpu", "meta"):
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device.index or 0], device_type=device.type)


def _fit(values: Mapping[int, int]) -> tuple[float, float, float]:
    """The quadratic through three points (length, value), by Newton's divided differences without rounding."""
    (x0, y0), (x1, y1), (x2, y2) = ((Fraction(length), Fraction(value)) for length, value in values.items())
    first, second = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    curvature = (second - first) / (x2 - x0)
    return (float(y0 - first * x0 + curvature * x0 * x1), float(first - curvature * (x0 + x1)), float(curvature))


def _value(coefficients: tuple[float, float, float], length: int) -> float:
    constant, linear, quadratic = coefficients
    return constant + linear * length + quadratic * length**2
