"""Training steps through torch.compile where that is measured to pay, eager everywhere else.

Every call is a real part of a real step, so that measuring costs nothing: in each bucket of lengths the first parts
run eager and are timed, the next ones compiled (the first of them compiles and is not timed), and the quicker way
stays. An error in the first compiled part of a shape, which may have to compile for it, is taken back, and the model
stays eager from then on: gradients are copied before such a part, and before no other. A later error is the trial's.
Compiling counts among a run's training seconds; its provenance says that it was tried.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.language_loss import LossFunction, located, loss_function
from harness.torch_errors import device_lost, out_of_memory

BUCKET = 16
"""Padded lengths in steps of this share a choice, and row counts between two powers of two."""
TIMED = 3
"""Parts of each way that are timed, by bucket."""

Compute = Callable[[LossFunction, Mapping[str, Tensor], float], Tensor]
"""Adds the gradient of a weighted loss to the parameters and gives that loss, detached."""
Compiler = Callable[[LossFunction], LossFunction]
Shape = tuple[int, int]


def by_inductor(loss: LossFunction) -> LossFunction:
    """torch.compile for tensors of any shape, so that few shapes compile it anew.

    Without CUDA graphs: gradients that accumulate over the parts of a step would lie in memory which a graph's next
    replay overwrites.
    """
    compiled: LossFunction = torch.compile(loss, dynamic=True)
    return compiled


class Chooser:
    """Forward and backward of parts of steps, eager or compiled; to be called in place of `backward`."""

    def __init__(self, parameters: Sequence[nn.Parameter], compiler: Compiler, clock: Callable[[], float]) -> None:
        self._parameters, self._compiler, self._clock = parameters, compiler, clock
        self._compiled: LossFunction | None = None
        self._seconds: dict[tuple[Shape, bool], list[float]] = defaultdict(list)
        self._warm: set[Shape] = set()
        self._proven: set[Shape] = set()
        """Shapes, to the token, that a compiled part has been computed on: no compiler has to act on them again."""
        self.failed: str = ""
        """Why nothing is compiled any more, if so."""

    def __call__(self, loss: LossFunction, batch: Mapping[str, Tensor], weight: float) -> Tensor:
        """Add the gradient of `weight` times the loss of the batch; that loss, detached."""
        shape = self._shape(batch)
        if self.failed or not self._wants_compiled(shape):
            return self._timed(shape, False, loss, batch, weight)
        rows, length = batch["input_ids"].shape
        exact = rows, length
        if exact in self._proven:
            return self._with_compiled(shape, loss, batch, weight)
        # copies cost time and memory that are the run's: taken only where a compiler may still fail
        before = [None if parameter.grad is None else parameter.grad.clone() for parameter in self._parameters]
        try:
            result = self._with_compiled(shape, loss, batch, weight)
            self._proven.add(exact)
            return result
        except Exception as error:  # a compiler and its backends raise anything
            if out_of_memory(error) or device_lost(error):
                raise
            self.failed = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            for parameter, gradient in zip(self._parameters, before, strict=True):
                parameter.grad = gradient
            return backward(loss, batch, weight)

    def _with_compiled(self, shape: Shape, loss: LossFunction, batch: Mapping[str, Tensor], weight: float) -> Tensor:
        self._compiled = self._compiled or self._compiler(loss)
        if shape in self._warm:
            return self._timed(shape, True, self._compiled, batch, weight)
        self._warm.add(shape)
        return backward(self._compiled, batch, weight)

    def facts(self) -> dict[str, Any]:
        """For the run's provenance: what was chosen for how many buckets, or why nothing was compiled."""
        if self.failed:
            return {"compile": f"eager: {self.failed}"}
        shapes = {shape for shape, _ in self._seconds}
        return {"compile": f"{sum(map(self._wants_compiled, shapes))} of {len(shapes)} shapes compiled"}

    def _wants_compiled(self, shape: Shape) -> bool:
        eager, compiled = self._seconds[shape, False], self._seconds[shape, True]
        if len(eager) < TIMED:
            return False
        return len(compiled) < TIMED or statistics.median(compiled) < statistics.median(eager)

    def _timed(
        self, shape: Shape, compiled: bool, loss: LossFunction, batch: Mapping[str, Tensor], weight: float
    ) -> Tensor:
        seconds = self._seconds[shape, compiled]
        if len(seconds) >= TIMED:
            return backward(loss, batch, weight)
        began = self._clock()
        result = backward(loss, batch, weight)
        seconds.append(self._clock() - began)
        return result

    def _shape(self, batch: Mapping[str, Tensor]) -> Shape:
        rows, length = batch["input_ids"].shape
        return rows.bit_length(), -(-length // BUCKET)


def backward(loss: LossFunction, batch: Mapping[str, Tensor], weight: float) -> Tensor:
    """Add the gradient of `weight` times the loss of the batch; that product, detached."""
    part = loss(batch) * weight
    part.backward()
    return part.detach()


@dataclass(frozen=True)
class Way:
    """How the steps of a training are computed."""

    compute: Compute = backward
    choose: Callable[[nn.Module, Mapping[str, Tensor]], LossFunction] = loss_function
    """The loss function for a model and batches like this one."""
    ready: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = located
    """A batch with what that function is to know of it, while it is still on the host."""


PLAIN = Way()


def chooser_for(parameters: Sequence[nn.Parameter], device: torch.device) -> Chooser:
    """Measured by the wall clock, after the device has done what it was given."""

    def clock() -> float:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return time.perf_counter()

    return Chooser(parameters, by_inductor, clock)
