"""One adapted map without a model, for the tests of method formulas."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from harness.adapt import frozen_weight
from harness.api import Common, InitContext, LinearMethod, Trainable
from harness.decompositions import CachedDecompositions
from methods.dora import DoRA
from methods.lora import LoRA
from methods.lora_plus import LoRAPlus
from methods.lora_sb import LoraSB
from methods.lora_xs import LoraXS
from methods.olora import OLoRA
from methods.pissa import PiSSA
from methods.qr_lora import QrLoRA
from methods.rslora import RsLoRA
from methods.svd_lora import SvdLoRA
from methods.vera import VeRA

DECOMPOSITIONS = CachedDecompositions(Path(os.devnull))  # no folder can be made there: memory only
RATE = 1e-3
SHAPES = [(9, 9), (14, 6), (6, 14)]
"""Square, tall and wide."""

VARIANTS: dict[str, tuple[type[LinearMethod], dict[str, Any]]] = {
    "lora": (LoRA, {}),
    "lora gaussian": (LoRA, {"a_init": "gaussian"}),
    "lora_plus": (LoRAPlus, {}),
    "rslora": (RsLoRA, {}),
    "dora": (DoRA, {}),
    "olora": (OLoRA, {}),
    "vera": (VeRA, {}),
    "pissa": (PiSSA, {}),
    "pissa niter": (PiSSA, {"svd": "niter_4", "alpha": 5.0}),
    "svd_lora": (SvdLoRA, {}),
    "svd_lora split B": (SvdLoRA, {"split": "B"}),
    "svd_lora split A": (SvdLoRA, {"split": "A"}),
    "svd_lora residual": (SvdLoRA, {"residual": True}),
    "lora_xs": (LoraXS, {}),
    "lora_xs randomized": (LoraXS, {"svd": "randomized"}),
    "lora_xs middle": (LoraXS, {"which": "middle"}),
    "lora_xs bottom without sigma": (LoraXS, {"which": "bottom", "sigma": False}),
    "lora_xs svd_random": (LoraXS, {"basis": "svd_random"}),
    "lora_xs random": (LoraXS, {"basis": "random"}),
    "lora_sb": (LoraSB, {}),
    "lora_sb raw": (LoraSB, {"grad_mode": "raw"}),
    "lora_sb split B": (LoraSB, {"split": "B"}),
    "lora_sb kaiming": (LoraSB, {"estimate": "kaiming"}),
    "lora_sb noise": (LoraSB, {"noise": 1e-4}),
    "qr_lora": (QrLoRA, {}),
    "qr_lora transpose": (QrLoRA, {"transpose": True, "tau": 0.8}),
    "qr_lora pivoted": (QrLoRA, {"unpivot": False, "rank_rule": "absolute"}),
    "qr_lora relative": (QrLoRA, {"rank_rule": "relative", "lam_init": 0.5}),
}
"""Every linear method, and every option of it that changes its formula."""


def make(variant: str, rank: int) -> LinearMethod:
    """The method of a variant; `rank` for those that have one."""
    cls, values = VARIANTS[variant]
    method = cls(**(values if cls is QrLoRA else {**values, "r": rank}))
    method.validate()
    return method


def context(weight: Tensor, seed: int = 0, **changes: Any) -> InitContext:
    """What the harness hands to `init`, with a random gradient, for one map."""
    generator = torch.Generator().manual_seed(seed)
    values: dict[str, Any] = {
        "module": "layer.0.query",
        "generator": generator,
        "decompositions": DECOMPOSITIONS,
        "pretrained": weight,
        "gradient": torch.randn(weight.shape, dtype=weight.dtype, generator=generator),
        "first_step_learning_rate": RATE,
        "common": Common(largest=(weight.shape[0], weight.shape[1])),
    }
    return InitContext(**(values | changes))


def namespace(**tensors: Tensor) -> Any:
    """What a method reads its tensors from; Any, for to a type checker a plain namespace promises no attribute."""
    return SimpleNamespace(**tensors)


@dataclass
class Map:
    """A weight [m, n] with a method around it."""

    method: LinearMethod
    weight: Tensor
    p: Any
    frozen: Tensor
    trainable: tuple[str, ...]

    @classmethod
    def of(cls, method: LinearMethod, weight: Tensor, seed: int = 0, **changes: Any) -> Map:
        """Initialise `method` on `weight` as the harness does."""
        tensors = method.init(weight, context(weight, seed, **changes))
        p = namespace(**{name: marked.tensor.clone() for name, marked in tensors.items()})
        trainable = tuple(name for name, marked in tensors.items() if isinstance(marked, Trainable))
        return cls(method, weight, p, frozen_weight(method, weight, p), trainable)

    def train(self, seed: int = 1) -> Map:
        """Move every trainable tensor away from its start, as training would."""
        generator = torch.Generator().manual_seed(seed)
        for name in self.trainable:
            tensor = getattr(self.p, name)
            setattr(self.p, name, tensor + torch.randn(tensor.shape, dtype=tensor.dtype, generator=generator))
        return self

    def __call__(self, x: Tensor) -> Tensor:
        """Adapted output [..., m]."""
        return self.method.forward(x, x @ self.frozen.T, self.p)

    @property
    def merged(self) -> Tensor:
        """The plain weight [m, n] of the same function."""
        return self.method.merge(self.frozen, self.p)

    @property
    def update(self) -> Tensor:
        """What the method has added to the backbone's weight, [m, n]."""
        return self.merged - self.weight


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers from a seed of their own."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    """Assert that no entry differs by more than `tolerance`."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
