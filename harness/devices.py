"""Which device a process computes on."""

from __future__ import annotations

import torch

from harness.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA, else MPS if a product runs on it, else the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if _mps_works() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used: {str(error).splitlines()[0]}") from error
    return device


def _mps_works() -> bool:
    if not torch.backends.mps.is_available():
        return False
    try:
        (torch.ones(2, 2, device="mps") @ torch.ones(2, 2, device="mps")).sum().item()
    except RuntimeError:
        return False
    return True


def set_matmul_precision(precision: str, device: torch.device) -> None:
    """TF32 for float32 matrix products and convolutions on CUDA if the recipe's precision is "tf32", else full float32.

    Set anew for every run, so that a run never inherits what an earlier one, or a library, has left behind.
    """
    wanted = precision == "tf32" and device.type == "cuda"
    torch.set_float32_matmul_precision("high" if wanted else "highest")
    torch.backends.cudnn.allow_tf32 = wanted
