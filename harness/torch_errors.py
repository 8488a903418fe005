"""What an error that torch raises says of memory and of the device: not all have a class of their own for that."""

from __future__ import annotations

import re

import torch

from harness.errors import UserError

_FULL = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""What a plain RuntimeError, or an AcceleratorError, says where main memory or a device is full."""

_FAULT = re.compile(r"\b(CUDA|HIP) error\b")


def out_of_memory(error: BaseException) -> bool:
    """Whether a smaller tensor might have found room, on the device or in main memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _FULL)


def device_lost(error: BaseException) -> bool:
    """Whether this process may compute nothing more on its device: a kernel failed there (an assertion, an access).

    CUDA answers whatever is asked after such an error with the same error, as long as the process lives. Those few that
    leave the device in order (a launch that was refused) are not told apart: for them a process ends in vain. An error
    that was raised while this one was handled, or because of it, counts too.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        if isinstance(cause, RuntimeError) and _FAULT.search(str(cause)) and not out_of_memory(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
