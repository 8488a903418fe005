"""Checks of a formula per map, on single random maps of several shapes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from harness.api import Method
from harness.checks.specimens import SHAPES, one_map, require_formula
from harness.checks.verdicts import Broken, NotApplicable, require_close


def keeps_shape(method: Method) -> None:
    """`forward` takes x and y with any leading axes, and returns a tensor of y's shape."""
    linear = require_formula(method)
    for m, n in SHAPES:
        made = one_map(linear, (m, n))
        p: Any = made.parameters
        for leading in ((5,), (2, 3)):
            x = torch.randn(*leading, n, generator=torch.Generator().manual_seed(3))
            y = x @ made.weight.T
            asked = f"forward(x {list(x.shape)}, y {list(y.shape)}) to return {list(y.shape)}, as y is"
            try:
                found = linear.forward(x, y, p)
            except (RuntimeError, IndexError, ValueError) as error:
                raise Broken(asked, str(error).split("\n")[0], f"forward, for a map [{m}, {n}]") from None
            seen = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            if seen != list(y.shape):
                raise Broken(asked, str(seen), f"forward, for a map [{m}, {n}]")


def exports_what_it_adds(method: Method) -> None:
    """The factors of `low_rank` give what `forward` adds to the frozen map's output, on maps of any shape."""
    linear = require_formula(method)
    for shape in SHAPES:
        made = one_map(linear, shape)
        p: Any = SimpleNamespace(**_jittered(made.tensors, made.trainable, 1))
        factors = linear.low_rank(p)
        if factors is None:
            raise NotApplicable("it has no low-rank factors; it is exported merged")
        x = torch.randn(5, shape[1], generator=torch.Generator().manual_seed(3))
        y = x @ made.weight.T
        require_close(
            (x @ factors[1].T) @ factors[0].T, linear.forward(x, y, p) - y, "low_rank's B A x = forward - y", "low_rank"
        )


def follows_its_seed(method: Method) -> None:
    """The same seed gives the same tensors; another seed gives others if random numbers were drawn."""
    linear = require_formula(method)
    for shape in SHAPES:
        first, again, other = (one_map(linear, shape, seed) for seed in (0, 0, 1))
        if not _equal(first.tensors, again.tensors):
            raise Broken("the same tensors from the same seed", "others", "init: draw from context.generator alone")
        if first.drew and _equal(first.tensors, other.tensors):
            raise Broken("other tensors from another seed", "the same", "init: use what context.generator gives")


def runs_under_vmap(method: Method) -> None:
    """`forward` over a leading trial axis (torch.func.vmap) equals one call per trial."""
    linear = require_formula(method)
    for shape in SHAPES:
        made = one_map(linear, shape)
        trials = [_jittered(made.tensors, made.trainable, seed) for seed in range(3)]
        stacked = {name: torch.stack([trial[name] for trial in trials]) for name in made.tensors}
        x = torch.randn(3, 5, shape[1], generator=torch.Generator().manual_seed(3))
        y = x @ made.weight.T

        def forward(tensors: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return linear.forward(x, y, SimpleNamespace(**tensors))  # type: ignore[arg-type]

        together = torch.func.vmap(forward)(stacked, x, y)
        apart = torch.stack([forward(trials[i], x[i], y[i]) for i in range(3)])
        require_close(
            together, apart, "vmap over trials equal to one trial at a time", "data-dependent Python in forward"
        )


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _jittered(tensors: dict[str, Tensor], names: frozenset[str], seed: int) -> dict[str, Tensor]:
    """The tensors with small noise on the trainable ones."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + 0.1 * torch.randn(value.shape, generator=generator) if name in names else value
        for name, value in tensors.items()
    }
