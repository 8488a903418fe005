"""The conformance kit: it passes every plugin that is here, and fails each planted fault by the right name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from method_support import VARIANTS
from torch import Tensor

from harness.api import DataRoot, Frozen, InitContext, LinearMethod, Parameters, Task, Text, Trainable
from harness.checks import assert_conforms, check_method, check_task
from harness.errors import UserError
from harness.plugins import discover
from methods.lora import LoRA
from tasks.paraphrase import Paraphrase

PLUGINS = discover()
GENERATED = [name for name, task in PLUGINS.tasks.items() if not task.mirrored]


@pytest.mark.parametrize("name", sorted(PLUGINS.methods))
def test_every_method_conforms(name: str) -> None:
    assert_conforms(PLUGINS.methods[name])


@pytest.mark.parametrize("variant", sorted(name for name, (_, values) in VARIANTS.items() if values))
def test_every_option_of_a_method_conforms(variant: str) -> None:
    cls, values = VARIANTS[variant]
    assert_conforms(cls, **values)


@pytest.mark.parametrize("name", GENERATED)
def test_every_generated_task_conforms(name: str) -> None:
    assert [verdict for verdict in check_task(PLUGINS.tasks[name]) if verdict.status == "failed"] == []


# ------------------------------------------------------------------------------ planted faults in methods


@dataclass(frozen=True)
class Planted(LoRA):
    """LoRA with a fault to be planted."""

    name: ClassVar[str] = "planted"
    r: int = 4


class RandomAtStart(Planted):
    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        made = super().init(weight, context)
        B = torch.randn(made["B"].tensor.shape, generator=context.generator)
        return {**made, "B": Trainable(B)}


class FrozenByMistake(Planted):
    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        made = super().init(weight, context)
        return {**made, "A": Frozen(made["A"].tensor)}


class Unused(Planted):
    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        return {**super().init(weight, context), "spare": Trainable(weight.new_zeros(3))}

    def count(self, m: int, n: int) -> int:
        return super().count(m, n) + 3


class CutGradient(Planted):
    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        return y + self.alpha / self.r * (x @ p.A.detach().T) @ p.B.T


class UnscaledFactors(Planted):
    def low_rank(self, p: Parameters) -> tuple[Tensor, Tensor]:
        return p.B, p.A

    def merge(self, weight: Tensor, p: Parameters) -> Tensor:
        return weight + self.alpha / self.r * p.B @ p.A


class Talkative(Planted):
    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        print("initialising", context.module)
        return super().init(weight, context)


class UnscaledMerge(Planted):
    def merge(self, weight: Tensor, p: Parameters) -> Tensor:
        return weight + p.B @ p.A


class WritesIntoTheWeight(Planted):
    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        weight.mul_(1.0 + 1e-6)
        return super().init(weight, context)


class CountsHalf(Planted):
    def count(self, m: int, n: int) -> int:
        return self.r * m


class CountsSquares(Planted):
    """Right for square maps alone."""

    def count(self, m: int, n: int) -> int:
        return 2 * self.r * n


class IgnoresItsSeed(Planted):
    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        made = super().init(weight, context)
        return {**made, "A": Trainable(torch.ones_like(made["A"].tensor))}


class DrawsGlobally(Planted):
    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        made = super().init(weight, context)
        return {**made, "A": Trainable(torch.randn(made["A"].tensor.shape))}


class Reseeds(Planted):
    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        torch.manual_seed(42)
        return super().init(weight, context)


class HalfPrecision(Planted):
    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        made = super().init(weight, context)
        return {name: Trainable(value.tensor.bfloat16()) for name, value in made.items()}


class LooksAtValues(Planted):
    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        if float(p.B.abs().sum()) == 0:
            return y
        return super().forward(x, y, p)


STALE: dict[str, Tensor] = {}


class StaleCache(Planted):
    """Keeps the update of the first call."""

    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        key = f"{y.shape[-1]}/{x.shape[-1]}"
        if not self.fresh(key, p):
            STALE[key] = (self.alpha / self.r * p.B @ p.A).detach()
        return y + x @ STALE[key].T + 0 * ((x @ p.A.T) @ p.B.T)

    def fresh(self, key: str, p: Parameters) -> bool:
        return key in STALE


class KeepsStateOutside(Planted):
    """Its bases come from a counter, not from weight and seed."""

    calls: ClassVar[list[int]] = []

    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        self.calls.append(1)
        made = super().init(weight, context)
        return {**made, "A": Frozen(made["A"].tensor + len(self.calls))}

    def count(self, m: int, n: int) -> int:
        return self.r * m


class InfiniteUnderAutocast(Planted):
    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        added = (x @ p.A.T) @ p.B.T
        return y + added * (float("inf") if added.dtype == torch.bfloat16 else self.alpha / self.r)


class OneColumn(Planted):
    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        return super().forward(x, y, p)[..., :1]


class Transposed(Planted):
    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        return y + x @ p.A @ p.B


@dataclass(frozen=True)
class EncoderOnly(Planted):
    targets: str = "re:.*attention.self.query"


FAULTS: list[tuple[type[LinearMethod], str]] = [
    (RandomAtStart, "starts_as_backbone"),
    (FrozenByMistake, "counts_what_it_trains"),
    (Unused, "reaches_every_tensor"),
    (CutGradient, "moves_what_it_declares"),
    (CutGradient, "reaches_every_tensor"),
    (UnscaledMerge, "merges_to_its_forward"),
    (UnscaledFactors, "exports_what_it_adds"),
    (Talkative, "prints_nothing"),
    (WritesIntoTheWeight, "detaches_without_trace"),
    (CountsHalf, "counts_what_it_trains"),
    (CountsSquares, "counts_what_it_trains"),
    (IgnoresItsSeed, "follows_its_seed"),
    (DrawsGlobally, "follows_its_seed"),
    (DrawsGlobally, "leaves_global_randomness"),
    (Reseeds, "leaves_global_randomness"),
    (HalfPrecision, "trains_under_bf16"),
    (LooksAtValues, "runs_under_vmap"),
    (StaleCache, "moves_what_it_declares"),
    (KeepsStateOutside, "survives_a_round_trip"),
    (InfiniteUnderAutocast, "trains_under_bf16"),
    (EncoderOnly, "works_on_decoder"),
    (OneColumn, "keeps_shape"),
    (Transposed, "keeps_shape"),
]


@pytest.mark.parametrize(("fault", "check"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_fault_fails_by_name(fault: type[LinearMethod], check: str) -> None:
    STALE.clear()
    verdicts = {verdict.check: verdict for verdict in check_method(fault)}
    assert verdicts[check].status == "failed", verdicts
    assert verdicts[check].reason.startswith("expected ")
    assert "; look at " in verdicts[check].reason


def test_a_wrong_shape_is_told_as_shapes() -> None:
    verdicts = {verdict.check: verdict for verdict in check_method(OneColumn)}
    asked = "expected forward(x [5, 32], y [5, 32]) to return [5, 32], as y is; saw [5, 1]; look at forward"
    assert verdicts["keeps_shape"].reason.startswith(asked)


def test_what_attaches_nowhere_passes_no_check_that_needs_a_model() -> None:
    verdicts = {verdict.check: verdict for verdict in check_method(EncoderOnly, {"targets": "re:nothing"})}
    passed = {name for name, verdict in verdicts.items() if verdict.status == "passed"}
    assert passed == {"keeps_shape", "exports_what_it_adds", "follows_its_seed", "runs_under_vmap"}
    assert verdicts["works_on_encoder"].status == "failed"
    assert verdicts["starts_as_backbone"].reason == "not tried: it attaches to no backbone here"


def test_the_method_that_the_faults_are_planted_in_conforms() -> None:
    assert_conforms(Planted)


def test_an_exemption_is_shown_with_its_reason() -> None:
    verdicts = {verdict.check: verdict for verdict in check_method(PLUGINS.methods["lora_sb"])}
    assert verdicts["starts_as_backbone"].status == "exempt"
    assert "first step" in verdicts["starts_as_backbone"].reason


# -------------------------------------------------------------------------------- planted faults in tasks


def altered(**changes: Callable[..., Any]) -> Task:
    """The paraphrase task with some of its functions replaced."""
    return type("Altered", (Paraphrase,), {"name": "altered", **changes})()


def _leaking(self: Task, root: DataRoot) -> Mapping[str, pd.DataFrame]:
    frames = dict(Paraphrase.read(self, root))  # type: ignore[arg-type]
    shared = frames["train"].head(3).assign(id=["leak-0", "leak-1", "leak-2"])
    return {**frames, "test": pd.concat([frames["test"], shared], ignore_index=True)}


def _unseeded(self: Task, root: DataRoot) -> Mapping[str, pd.DataFrame]:
    return {split: frame.sample(frac=1) for split, frame in Paraphrase.read(self, root).items()}  # type: ignore[arg-type]


def _telling(self: Task, row: Mapping[str, Any]) -> Text:
    return Text(f"{row['label']} {row['first']}", row["second"])


def _endless(self: Task, row: Mapping[str, Any]) -> Text:
    return Text(" ".join([row["first"]] * 60), row["second"])


def _empty(self: Task, row: Mapping[str, Any]) -> Text:
    return Text("", row["second"])


@pytest.mark.parametrize(
    ("task", "check"),
    [
        (altered(read=_leaking), "splits_are_disjoint"),
        (altered(read=_unseeded), "reads_the_same_twice"),
        (altered(encode=_telling), "hides_its_labels"),
        (altered(encode=_endless), "encodes_every_row"),
        (altered(encode=_empty), "encodes_every_row"),
    ],
    ids=["leaking split", "unseeded order", "label in the text", "too long", "no text"],
)
def test_a_planted_fault_in_a_task_fails_by_name(task: Task, check: str) -> None:
    verdicts = {verdict.check: verdict for verdict in check_task(task)}
    assert verdicts[check].status == "failed", verdicts


def test_a_method_that_cannot_be_configured_so_is_refused() -> None:
    with pytest.raises(UserError, match="no parameter 'rr'"):
        check_method(LoRA, {"rr": 3})
