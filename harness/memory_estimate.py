"""Memory that training would take, from shapes alone. An estimate, and called so; runs measure.

Activations after Korthikanti et al. 2022, arXiv:2205.05198, equations 1 and 2: a transformer layer keeps about 34 s b h
bytes for backward in 16-bit training (s tokens, b rows, h hidden), without attention scores, which fused attention does
not keep. Frozen weights need fewer of them, so that adapters stay below the estimate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.counts import Counts
from harness.trial import Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn

BYTES_PER_VALUE = 34
"""Of one layer, per token and hidden unit, 16 bit."""
INPUT_BYTES = 2
"""Of a layer's input alone, which gradient checkpointing keeps."""
FLOAT = 4
"""Bytes of a float32 weight: backbones are loaded so."""
GATHERED = 2
"""Layers that a process has whole at a time where the others are sharded: one computes, the next is on its way."""
TRAINED = 12
"""Bytes of gradient and both moments of AdamW for each trained scalar, float32."""


def training_bytes(counts: Counts, configuration: Any, recipe: Recipe) -> int | None:
    """Bytes of weights, gradients, optimizer state and activations with every row at full length.

    Of one process where `shards` of them hold the model: its share, and the layers that are gathered at a time.
    None where the number of trained scalars depends on the weights' values.
    """
    if counts.total_params is None or counts.trainable_params is None:
        return None
    held = FLOAT * counts.total_params + TRAINED * counts.trainable_params
    if recipe.shards > 1:
        held = -(-held // recipe.shards) + GATHERED * FLOAT * counts.total_params // configuration.num_hidden_layers
    return held + activation_bytes(configuration, recipe)


def exceeds_memory(model: nn.Module, recipe: Recipe, device: torch.device) -> bool:
    """Whether training the adapted model is estimated to take more than the device has.

    False where the device's memory is not known (CPU), or the model's configuration shows no layers.
    """
    from harness.measure import total_parameters, trainable_parameters

    there = device_memory(device)
    configuration = getattr(model, "config", None)
    if there is None or not hasattr(configuration, "num_hidden_layers"):
        return False
    counts = Counts(trainable_parameters(model, ()), 0, total_parameters(model))
    needed = training_bytes(counts, configuration, recipe)
    return needed is not None and needed > there


def device_memory(device: torch.device) -> int | None:
    """Bytes that a CUDA device has; None for others."""
    import torch

    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def activation_bytes(configuration: Any, recipe: Recipe) -> int:
    """Bytes that one micro-batch of full-length rows keeps for backward.

    configuration: the backbone's, of transformers: hidden_size and num_hidden_layers are read.
    """
    rows = -(-recipe.batch_size // recipe.accumulation // recipe.shards)
    values = rows * recipe.max_length * configuration.hidden_size * (1 if recipe.precision == "bf16" else 2)
    layers = configuration.num_hidden_layers
    if recipe.gradient_checkpointing:
        return int(values * (INPUT_BYTES * layers + BYTES_PER_VALUE))
    return int(values * BYTES_PER_VALUE * layers)
