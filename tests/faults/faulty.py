"""Methods and a task that go wrong on purpose, beside those of `cli_support`; a plugin file."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch

from harness.api import (
    AttachContext,
    DataRoot,
    Frozen,
    InitContext,
    Kind,
    LinearMethod,
    Method,
    Parameters,
    Task,
    Text,
    Trainable,
)

MOST_ROWS = 3
"""What fits into the memory of `Greedy`."""


@dataclass(frozen=True)
class Greedy(LinearMethod):
    """A learned gain of each output that cannot take more than `MOST_ROWS` rows at once."""

    name: ClassVar[str] = "greedy"
    title: ClassVar[str] = "Greedy"
    targets: str = "v"
    rows: int = MOST_ROWS
    main_memory: bool = False
    """Whether it is the allocator of the CPU that says so."""

    def init(self, weight: torch.Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        return {"W": Frozen(weight), "g": Trainable(weight.new_zeros(weight.shape[0]))}

    def forward(self, x: torch.Tensor, y: torch.Tensor, p: Parameters) -> torch.Tensor:
        if len(x) > self.rows and self.main_memory:
            torch.empty(10**15)
        if len(x) > self.rows:
            raise torch.OutOfMemoryError(f"{len(x)} rows do not fit")
        return y + (x @ p.W.T) * p.g

    def merge(self, weight: torch.Tensor, p: Parameters) -> torch.Tensor:
        return weight + p.g[:, None] * p.W

    def count(self, m: int, n: int) -> int:
        return m


STICKY = "HARNESS_TEST_DEVICE_LOST"
"""Set in a process whose device is lost, in place of what CUDA remembers."""


@dataclass(frozen=True)
class Asserts(LinearMethod):
    """One gain whose kernel fails (if `wrong`), after which none works in the same process, as CUDA has it."""

    name: ClassVar[str] = "asserts"
    title: ClassVar[str] = "Asserts"
    targets: str = "v"
    wrong: bool = True

    def init(self, weight: torch.Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        return {"W": Frozen(weight), "g": Trainable(weight.new_zeros(weight.shape[0]))}

    def forward(self, x: torch.Tensor, y: torch.Tensor, p: Parameters) -> torch.Tensor:
        if self.wrong:
            os.environ[STICKY] = "1"
        if STICKY in os.environ:
            raise torch.AcceleratorError("CUDA error: device-side assert triggered\nmore")
        return y + (x @ p.W.T) * p.g

    def merge(self, weight: torch.Tensor, p: Parameters) -> torch.Tensor:
        return weight + p.g[:, None] * p.W

    def count(self, m: int, n: int) -> int:
        return m


@dataclass(frozen=True)
class Hangs(Method):
    """Never comes back from C code, where Python hears of no signal."""

    name: ClassVar[str] = "hangs"
    title: ClassVar[str] = "Hangs"

    def attach(self, model: Any, context: AttachContext) -> None:
        ctypes.PyDLL(None).sleep(600)  # with the interpreter's lock held


@dataclass(frozen=True)
class Exits(Method):
    """Ends the process that it runs in, as a script would."""

    name: ClassVar[str] = "exits"
    title: ClassVar[str] = "Exits"

    def attach(self, model: Any, context: AttachContext) -> None:
        sys.exit("that is all")


class Stalls(Task):
    """Its rows never come, as from a network drive that is away."""

    name = "stalls"
    title = "Stalls"
    kind: ClassVar[Kind] = "classification"
    labels = ("no", "yes")
    metrics = ("accuracy",)
    columns = ("text",)

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        threading.Event().wait()
        raise AssertionError("nobody ends the wait")

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["text"])
