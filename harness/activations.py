"""Whether a model keeps the activations inside its layers for the backward pass, or computes them again."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from torch import nn

from harness.errors import UserError


@contextlib.contextmanager
def checkpointing(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Gradient checkpointing inside if it is `wanted`, none if it is not; afterwards it is as it was before.

    UserError if it is wanted of a model whose architecture knows none. Random states are put back before layers are
    computed again, so that dropout, and with it every loss, is the same.
    """
    if wanted and not getattr(model, "supports_gradient_checkpointing", False):
        raise UserError(f"{type(model).__name__} knows no gradient checkpointing; set gradient_checkpointing = false.")
    before = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    if wanted != before:
        _set_checkpointing(model, wanted)
    try:
        yield
    finally:
        if wanted != before:
            _set_checkpointing(model, before)


def _set_checkpointing(model: Any, wanted: bool) -> None:
    # without the warning of names that transformers 6 will drop: the new ones are not in every version allowed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        if wanted:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            # wanted by reentrant checkpoints only; here it would carry gradients down to frozen embeddings
            model.disable_input_require_grads()
        else:
            model.gradient_checkpointing_disable()
