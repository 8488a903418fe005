"""FLOPs of a step as a function of its shape, counted by torch's dispatcher-level counter on real batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

Step = Callable[[Mapping[str, "Tensor"]], object]
"""Forward, and for training backward, of one batch; no optimizer step."""


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
    """Count `step` on one and on two rows of the shortest, a middle and the longest batch; fit `LengthCost`.

    A few rows suffice because FLOPs are linear in their number, and exactly quadratic in the length. Gradients,
    RNG state and training mode are put back. Attention runs in its plain form while counting: the fused kernels
    are invisible to the counter on the CPU, and their recomputation in backward would count as work on a GPU.

    batches: real ones, tensors [rows, ...] on the model's device, `input_ids` [rows, padded length] among them.
    training: count with the model in training mode and gradients; else in evaluation mode under inference mode.
    """
    chosen = _short_middle_long(batches)
    with _left_as_found(model, training):
        two = {length: _count(step, batch, 2) for length, batch in chosen.items()}
        one = {length: _count(step, batch, 1) for length, batch in chosen.items()}
    rows = {length: min(2, len(batch["input_ids"])) for length, batch in chosen.items()}
    per_row = {length: (two[length] - one[length]) if rows[length] == 2 else one[length] for length in chosen}
    per_batch = {length: one[length] - per_row[length] for length in chosen}
    return LengthCost(_fit(per_batch), _fit(per_row))


def _short_middle_long(batches: Sequence[Mapping[str, Tensor]]) -> dict[int, Mapping[str, Tensor]]:
    by_length = {int(batch["input_ids"].shape[1]): batch for batch in batches}
    lengths = sorted(by_length)
    middle = min(lengths, key=lambda length: abs(2 * length - lengths[0] - lengths[-1]))
    return {length: by_length[length] for length in (lengths[0], middle, lengths[-1])}


def _count(step: Step, batch: Mapping[str, Tensor], rows: int) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
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


def _fit(values: Mapping[int, float]) -> tuple[float, float, float]:
    """The polynomial through up to three points (length, value): proportional to the length if there is one."""
    import numpy as np

    if len(values) == 1:
        ((length, value),) = values.items()
        return (0.0, value / length, 0.0)
    lengths = np.array(list(values), dtype=np.float64)
    powers = np.vander(lengths, len(values), increasing=True)
    solved = np.linalg.solve(powers, np.array(list(values.values()), dtype=np.float64)).tolist()
    constant, linear, quadratic = [*solved, 0.0][:3]
    return (constant, linear, quadratic)


def _value(coefficients: tuple[float, float, float], length: int) -> float:
    constant, linear, quadratic = coefficients
    return constant + linear * length + quadratic * length**2
