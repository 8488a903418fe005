"""What an error that torch raises says of memory: its allocators do not all have a class of their own for that."""

from __future__ import annotations

import torch

_FULL = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""What a plain RuntimeError, or an AcceleratorError, says where main memory or a device is full."""


def out_of_memory(error: BaseException) -> bool:
    """Whether a smaller tensor might have found room, on the device or in main memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _FULL)
