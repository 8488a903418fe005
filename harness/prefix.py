"""Activations of frozen lower layers, computed once for each row and looked up from then on.

Where a method trains the last layers or the head alone, everything below is the same function of a row in every epoch:
what it gives is kept when a row is first seen, in training or evaluation, and its layers are passed over from then on.
Only where nothing random happens below (no dropout), so that losses and scores stay what they are, to rounding.

Memory: 4 bytes x hidden size x tokens of each split, at most `LIMIT_BYTES` for all splits of a run together, on the
model's device; a split that does not fit any more is computed as ever. FLOPs of a run count the lower layers in every
step, as without this cache: what the method costs, not what was spared here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.encoded import Encoded
from harness.errors import UserError

LIMIT_BYTES = 2 * 2**30
DROPOUT_NAMES = ("attention_dropout", "dropout_prob")
"""Attributes of modules that hold a dropout share which no module of its own applies."""
_READ, _WRITE = "prefix_read", "prefix_write"
"""Keys of a batch: where its states are, or shall be, [rows, tokens] int64; 0 for padding."""

Batch = Mapping[str, Tensor]
Maker = Callable[[Sequence[int]], Batch]


class _Split:
    """Where the states of one split's rows are, and which are there."""

    def __init__(self, encoded: Encoded, begin: int) -> None:
        self._encoded = encoded
        lengths = encoded.input_ids.lengths
        self._first = begin + np.cumsum(lengths) - lengths
        self._seen = np.zeros(len(lengths), dtype=bool)

    def extended(self, batch: Batch, rows: Sequence[int]) -> Batch:
        """The batch with where to read its states, or to write them if a row is new; rows count as seen then."""
        chosen = np.asarray(rows, dtype=np.int64)
        there = self._encoded.input_ids.mask(chosen)
        positions = np.where(there, self._first[chosen][:, None] + np.arange(there.shape[1]), 0)
        key = _READ if self._seen[chosen].all() else _WRITE
        self._seen[chosen] = True
        return {**batch, key: torch.from_numpy(positions)}


class PrefixCache:
    """The states below the first trained layer of a model, for the splits that it was told of."""

    def __init__(self, hidden: int, device: torch.device, limit: int) -> None:
        self._limit = limit
        self._states = torch.zeros(1, hidden, device=device)  # position 0 is where padding goes
        self._splits: dict[int, _Split] = {}
        self._batch: dict[str, Tensor] = {}
        self._tuples = False

    def remembering(self, encoded: Encoded, make: Maker) -> Maker:
        """`make`, whose batches of these rows are remembered from now on; as it is if there is no room for them."""
        split = self._splits.get(id(encoded))
        if split is None:
            begin, tokens = len(self._states), len(encoded.input_ids.values)
            if self._states.element_size() * self._states.shape[1] * (begin + tokens) > self._limit:
                return make
            self._states = torch.cat([self._states, self._states.new_zeros(tokens, self._states.shape[1])])
            split = self._splits[id(encoded)] = _Split(encoded, begin)
        found = split
        return lambda rows: found.extended(make(rows), rows)

    def take(self, model: nn.Module, arguments: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Before the model's forward: keep for the layers what is theirs, and hand on the rest."""
        self._batch = {key: named.pop(key) for key in (_READ, _WRITE) if key in named}
        return arguments, named

    def passed(self, layer: nn.Module, last: bool) -> Callable[..., Any]:
        """The forward of a frozen layer that is passed over where its states are known; the last one reads them."""
        compute = layer.forward

        def forward(hidden: Tensor, *arguments: Any, **named: Any) -> Any:
            if _READ in self._batch:
                known = self._states[self._batch[_READ]] if last else hidden
                return (known,) if self._tuples else known
            output = compute(hidden, *arguments, **named)
            self._tuples = isinstance(output, tuple)
            if last and _WRITE in self._batch:
                states = output[0] if self._tuples else output
                self._states[self._batch[_WRITE]] = states.detach().to(self._states.dtype)
            return output

        return forward


@contextlib.contextmanager
def cached(model: nn.Module, head: tuple[str, ...], wanted: bool) -> Iterator[PrefixCache | None]:
    """The adapted model with its frozen lower layers computed once per row, while `wanted`; None otherwise.

    Raises UserError where that would change what is computed; see `check_frozen`.
    """
    if not wanted:
        yield None
        return
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    below = check_frozen(model, trained, head)
    check_no_dropout(model, below)
    device = next(model.parameters()).device
    cache = PrefixCache(model.config.hidden_size, device, LIMIT_BYTES)  # type: ignore[union-attr, arg-type]
    layers = list(_stack(model)[1])[:below]
    handle = model.register_forward_pre_hook(cache.take, with_kwargs=True)
    for layer in layers:
        layer.forward = cache.passed(layer, last=layer is layers[-1])  # type: ignore[method-assign]
    try:
        yield cache
    finally:
        handle.remove()
        for layer in layers:
            del layer.forward  # the class's own again


def check_frozen(model: nn.Module, trained: Iterable[str], head: tuple[str, ...]) -> int:
    """How many layers lie below the first trained one; UserError if none do, or if something else below is trained.

    trained: names of trained parameters, or of the modules that hold them.
    """
    name, layers = _stack(model)
    first = len(layers)
    for parameter in trained:
        if parameter.split(".")[0] in head:
            continue
        inside = parameter.startswith(f"{name}.")
        first = min(first, int(parameter[len(name) + 1 :].split(".")[0])) if inside else 0
    if first == 0:
        raise UserError(
            "cache_prefix = true, but the method trains the first layer or what lies outside of the layers; "
            'it needs frozen lower layers (layers = "last:N", or the head alone).'
        )
    return first


def check_no_dropout(model: nn.Module, below: int) -> None:
    """UserError if something random happens in the embeddings or in the first `below` layers."""
    above = {id(module) for layer in list(_stack(model)[1])[below:] for module in layer.modules()}
    inner: nn.Module = getattr(model, "base_model", model)
    for path, module in inner.named_modules():
        shares = [module.p] if isinstance(module, nn.Dropout) else []
        shares += [share for name in DROPOUT_NAMES if isinstance(share := getattr(module, name, None), float)]
        if id(module) not in above and any(shares):
            raise UserError(
                f"cache_prefix = true, but the backbone draws dropout below the first trained layer ({path}: "
                f"{max(shares):g}); set backbone_dropout = 0, or cache_prefix = false."
            )


def layer_stack(model: nn.Module) -> tuple[str, nn.ModuleList] | None:
    """The model's layers, and their name in it; None for a model that shows none."""
    depth = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return name, module
    return None


def _stack(model: nn.Module) -> tuple[str, nn.ModuleList]:
    found = layer_stack(model)
    if found is None:
        text = f"cache_prefix = true, but {type(model).__name__} shows no list of its layers; set it to false."
        raise UserError(text)
    return found
