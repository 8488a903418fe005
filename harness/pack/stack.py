"""Modules that carry many trials through one frozen model: the frozen product is shared, the formulas are not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness import adapt
from harness.adapt import AdaptedLinear
from harness.api import Parameters
from harness.pack.blocks import Block
from harness.pack.slots import Slot


class Stack:
    """Trials side by side in the pack's model; like trials are neighbours, so that each `Block` is a run of them.

    While it is in place, the model's rows are the trials' rows one after the other, equally many for each.
    """

    def __init__(self, slots: Sequence[Slot], adopt: bool = True) -> None:
        alike = [list(run) for _, run in groupby(_sorted(slots), key=_likeness)]
        self.blocks = [Block(run, adopt) for run in alike]
        self.slots = [slot for block in self.blocks for slot in block.slots]
        self.model = self.slots[0].stage.model
        self.head = self.slots[0].stage.loaded.head
        self._modules: dict[str, nn.Module] = {}
        for name in dict.fromkeys(name for slot in self.slots for name in slot.maps):
            original = next(slot.attachment.originals[name] for slot in self.slots if name in slot.maps)
            self._modules[name] = StackedLinear(name, original, self.blocks)
        for name in self.head:
            self._modules[name] = StackedModule(name, self.blocks)

    def place(self) -> None:
        """Put the stacked modules into the model."""
        adapt.place(self.model, {**self.slots[0].ground.maps, **self._modules})

    def update(self) -> None:
        """One optimizer step of every trial."""
        for block in self.blocks:
            block.update()


class StackedLinear(nn.Module):
    """One adapted map of all trials: W x once for all that share W, then each method's formula on its own rows."""

    def __init__(self, name: str, original: nn.Linear, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.trials = sum(len(block.slots) for block in blocks)
        parts = [_part(name, original, block) for block in blocks]
        runs = [list(run) for _, run in groupby(parts, key=lambda part: part.product)]
        self._runs = [(run, sum(part.trials for part in run)) for run in runs]

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [trials * rows, ..., m] of x [trials * rows, ..., n]."""
        x = x.unflatten(0, (self.trials, -1))
        outputs, start = [], 0
        for run, trials in self._runs:
            here = x[start : start + trials]
            y = nn.functional.linear(here, run[0].weight, run[0].product_bias)
            first = 0
            for part in run:
                rows = slice(first, first + part.trials)
                outputs.append(part(here[rows], y[rows], self.training))
                first += part.trials
            start += trials
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs)).flatten(0, 1)


@dataclass(frozen=True)
class _Part:
    """A block of trials at one map."""

    trials: int
    weight: Tensor
    """[m, n], the same for all of them."""
    product_bias: Tensor | None
    """[m], added with the product."""
    formula: Callable[[Tensor, Tensor], Tensor] | None = None
    """Of x and y [trials, rows, ..., n] and [..., m]; None where the map is not adapted."""
    bias: Tensor | None = None
    """[m], or one for each trial [trials, m], where it cannot come with the product."""
    bias_last: bool = False
    dropout: float = 0.0

    @property
    def product(self) -> tuple[int, int]:
        """Equal for parts whose frozen product is the same."""
        return self.weight.data_ptr(), 0 if self.product_bias is None else self.product_bias.data_ptr()

    def __call__(self, x: Tensor, y: Tensor, training: bool) -> Tensor:
        if self.formula is None:
            return y
        if self.bias is not None and not self.bias_last:
            y = y + self._spread(y)
        y = self.formula(nn.functional.dropout(x, self.dropout, training), y)
        return y + self._spread(y) if self.bias_last and self.bias is not None else y

    def _spread(self, y: Tensor) -> Tensor:
        bias = cast(Tensor, self.bias)
        return bias if bias.ndim == 1 else bias.view(len(bias), *[1] * (y.ndim - 2), -1)


def _part(name: str, original: nn.Linear, block: Block) -> _Part:
    if name not in block.slots[0].maps:
        return _Part(len(block.slots), original.weight, original.bias)
    adapters = [slot.maps[name] for slot in block.slots]
    first = adapters[0]
    method, bias = first.method, first.base.bias
    trained = bias is not None and bias.requires_grad
    apart = trained or method.scales_output
    return _Part(
        len(adapters),
        first.base.weight,
        None if apart else bias,
        _formula(name, adapters, block),
        (block.leaf(f"{name}.base.bias") if trained else bias) if apart else None,
        method.scales_output,
        method.dropout,
    )


def _formula(name: str, adapters: Sequence[AdaptedLinear], block: Block) -> Callable[[Tensor, Tensor], Tensor]:
    """The method's forward, carried over the trials; frozen tensors that all share are not multiplied."""
    method = adapters[0].method
    tensors = {key: block.leaf(f"{name}.adapter.{key}") for key, _ in adapters[0].adapter.named_parameters()}
    dimensions: list[int | None] = [0] * len(tensors)
    for key, value in adapters[0].adapter.named_buffers():
        shared = all(adapted.adapter.get_buffer(key) is value for adapted in adapters)
        tensors[key] = value if shared else torch.stack([adapted.adapter.get_buffer(key) for adapted in adapters])
        dimensions.append(None if shared else 0)
    names, values = list(tensors), list(tensors.values())

    def one(x: Tensor, y: Tensor, *given: Tensor) -> Tensor:
        return method.forward(x, y, cast(Parameters, SimpleNamespace(**dict(zip(names, given, strict=True)))))

    return _carried(one, values, dimensions)


def _carried(
    one: Callable[..., Tensor], values: Sequence[Tensor], dimensions: Sequence[int | None], inputs: int = 2
) -> Callable[..., Tensor]:
    """`one` over the first dimension of its inputs and of those `values` whose dimension is 0."""
    if not all(dimension is None or len(value) == 1 for value, dimension in zip(values, dimensions, strict=True)):
        many = torch.vmap(one, in_dims=(*[0] * inputs, *dimensions), randomness="different")
        return lambda *given: many(*given, *values)

    def alone(*given: Tensor) -> Tensor:
        own = [value if dimension is None else value[0] for value, dimension in zip(values, dimensions, strict=True)]
        return one(*(value[0] for value in given), *own)[None]

    return alone


class StackedModule(nn.Module):
    """The head of all trials: one module's function with each trial's own tensors."""

    def __init__(self, name: str, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.trials = sum(len(block.slots) for block in blocks)
        self.function = copy.deepcopy(blocks[0].slots[0].modules[name]).requires_grad_(False)
        self._parts = [(len(block.slots), self._over(name, block)) for block in blocks]

    def _over(self, name: str, block: Block) -> Callable[..., Tensor]:
        keys = [key for key, _ in self.function.named_parameters()]

        def one(x: Tensor, *given: Tensor) -> Tensor:
            values: Mapping[str, Any] = dict(zip(keys, given, strict=True))
            return cast(Tensor, torch.func.functional_call(self.function, dict(values), (x,)))

        return _carried(one, [block.leaf(f"{name}.{key}") for key in keys], [0] * len(keys), inputs=1)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [trials * rows, ...] of x [trials * rows, ...]."""
        x = x.unflatten(0, (self.trials, -1))
        outputs, start = [], 0
        for trials, part in self._parts:
            outputs.append(part(x[start : start + trials]))
            start += trials
        return torch.cat(outputs).flatten(0, 1)


def _likeness(slot: Slot) -> tuple[Any, ...]:
    """Equal for trials whose tensors can be stacked: one method, the same shapes, the same frozen weights."""
    shapes = tuple((name, tuple(value.shape)) for name, value in slot.parameters.items())
    frozen = tuple((name, adapted.base.weight.data_ptr()) for name, adapted in slot.maps.items())
    return type(slot.bench.method), slot.bench.method, shapes, frozen


def _sorted(slots: Sequence[Slot]) -> list[Slot]:
    """Like trials next to each other, in order of first appearance."""
    order = {key: number for number, key in reversed(list(enumerate(map(_likeness, slots))))}
    return sorted(slots, key=lambda slot: order[_likeness(slot)])
