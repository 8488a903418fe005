"""Compiled steps only where they are quicker, eager after any error, and the same gradients either way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from test_runner import good, make, numbers
from torch import Tensor, nn

from harness import compiling
from harness.adapt import AdaptedLinear
from harness.api import Trainable
from harness.compiling import TIMED, Chooser, backward
from harness.settings import Settings
from methods.lora import LoRA


class Clock:
    """Moves on by what the last way of computing is said to take."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Case:
    """A model of one weight; eager parts take `eager` seconds, compiled ones `compiled`."""

    def __init__(self, eager: float, compiled: float) -> None:
        self.weight = nn.Parameter(torch.tensor([2.0, -1.0]))
        self.clock = Clock()
        self.eager, self.compiled = eager, compiled
        self.calls: list[str] = []
        self.chooser = Chooser([self.weight], self.compiler, self.clock)

    def loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        self.calls.append("eager")
        self.clock.now += self.eager
        return self._value(batch)

    def compiler(self, loss: Callable[[Mapping[str, Tensor]], Tensor]) -> Callable[[Mapping[str, Tensor]], Tensor]:
        def compiled(batch: Mapping[str, Tensor]) -> Tensor:
            self.calls.append("compiled")
            self.clock.now += self.compiled
            return self._value(batch)

        return compiled

    def _value(self, batch: Mapping[str, Tensor]) -> Tensor:
        return (self.weight**2).sum() * batch["input_ids"].numel()

    def run(self, parts: int, length: int = 8) -> None:
        for _ in range(parts):
            self.chooser(self.loss, {"input_ids": torch.ones(2, length)}, 0.5)


@pytest.mark.parametrize(("compiled", "kept"), [(0.5, "compiled"), (2.0, "eager")])
def test_the_quicker_way_is_kept(compiled: float, kept: str) -> None:
    case = Case(1.0, compiled)
    case.run(2 * TIMED + 1)
    assert case.calls == ["eager"] * TIMED + ["compiled"] * (1 + TIMED)
    case.run(4)
    assert case.calls[-4:] == [kept] * 4
    assert case.chooser.facts() == {"compile": f"{int(kept == 'compiled')} of 1 shapes compiled"}


def test_every_length_bucket_is_measured_on_its_own() -> None:
    case = Case(1.0, 0.5)
    case.run(2 * TIMED + 1, length=8)
    case.calls.clear()
    case.run(TIMED, length=8 + compiling.BUCKET)
    assert case.calls == ["eager"] * TIMED


def test_gradients_add_up_as_they_do_eager() -> None:
    case = Case(1.0, 0.5)
    case.run(10)
    assert case.weight.grad is not None
    torch.testing.assert_close(case.weight.grad, 10 * 0.5 * 16 * 2 * case.weight.detach())


@pytest.mark.parametrize("where", ["compiling", "forward", "backward"])
def test_an_error_is_taken_back_and_all_stays_eager(where: str) -> None:
    case = Case(1.0, 0.5)

    class Breaks(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor) -> Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            raise RuntimeError("no such kernel\nmore")

    def compiler(loss: Any) -> Any:
        if where == "compiling":
            raise RuntimeError("no such kernel\nmore")

        def compiled(batch: Mapping[str, Tensor]) -> Tensor:
            if where == "forward":
                raise RuntimeError("no such kernel\nmore")
            # one use of the weight is differentiated before the other one fails
            return (case.weight * 3).sum() + Breaks.apply(case.weight * 1).sum()

        return compiled

    case.chooser = Chooser([case.weight], compiler, case.clock)
    case.run(TIMED + 3)
    assert case.chooser.facts() == {"compile": "eager: RuntimeError: no such kernel"}
    assert case.calls == ["eager"] * (TIMED + 3)
    assert case.weight.grad is not None
    torch.testing.assert_close(case.weight.grad, (TIMED + 3) * 0.5 * 16 * 2 * case.weight.detach())


def test_gradients_are_copied_only_before_the_first_compiled_part_of_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []
    plain, case = Tensor.clone, Case(1.0, 0.5)

    def clone(tensor: Tensor, **named: Any) -> Tensor:
        copied.append(len(case.calls))
        return plain(tensor, **named)

    monkeypatch.setattr(Tensor, "clone", clone)
    case.run(2 * TIMED + 20)
    assert copied == [TIMED]
    case.run(4, length=7)  # of the same bucket, but a compiler may have to act on it
    assert copied == [TIMED, 2 * TIMED + 20]


def test_an_error_in_a_shape_that_was_compiled_well_is_the_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(1.0, 0.5)
    case.run(TIMED + 1)

    def fails(batch: Mapping[str, Tensor]) -> Tensor:
        raise RuntimeError("the device has a fault")

    monkeypatch.setattr(case.chooser, "_compiled", fails)
    with pytest.raises(RuntimeError, match="the device has a fault"):
        case.run(1)
    assert not case.chooser.failed


def test_running_out_of_memory_is_for_the_trial_to_report() -> None:
    def compiler(loss: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("full")

    case = Case(1.0, 0.5)
    case.chooser = Chooser([case.weight], compiler, case.clock)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        case.run(TIMED + 1)


def test_an_error_that_costs_the_device_is_not_taken_back() -> None:
    def compiler(loss: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    case = Case(1.0, 0.5)
    case.chooser = Chooser([case.weight], compiler, case.clock)
    with pytest.raises(torch.AcceleratorError):
        case.run(TIMED + 1)


def test_a_run_with_a_compiler_that_changes_nothing_is_the_same_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "by_inductor", lambda loss: lambda batch: loss(batch))
    trial = make("lora", settings, train_size=32)
    plain, compiled = good(trial, settings), good(trial, dataclasses.replace(settings, compile="auto"))
    assert numbers(plain) == numbers(compiled)
    assert "shapes compiled" in compiled.provenance["compile"]
    assert "compile" not in plain.provenance


@pytest.fixture
def captured() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_a_step_through_adapted_maps_compiles_to_the_same_gradients(captured: None) -> None:
    """Dynamo and AOT autograd; their code is run by torch, so that no C++ compiler is needed."""
    torch.manual_seed(0)
    tensors = {"A": Trainable(torch.randn(2, 6)), "B": Trainable(torch.randn(6, 2))}
    model = nn.Sequential(nn.Embedding(30, 6), *(AdaptedLinear(nn.Linear(6, 6), LoRA(r=2), tensors) for _ in "ab"))
    model[0].requires_grad_(False)

    def loss(batch: Mapping[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch["input_ids"]).mean(1), batch["labels"])

    traced: Any = torch.compile(loss, dynamic=True, backend="aot_eager", fullgraph=True)
    found = []
    for way in (loss, traced):
        model.zero_grad()
        values = [backward(way, {"input_ids": ids, "labels": ids[:, 0] % 6}, 0.5) for ids in batches()]
        found.append([*values, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(found[0]) == 2 + 4
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def batches() -> list[Tensor]:
    """Two shapes for one compiled step."""
    return [torch.arange(rows * length).reshape(rows, length) % 30 for rows, length in ((3, 5), (4, 7))]
