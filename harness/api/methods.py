"""The surface of a method: what a plugin subclasses, and what it is handed."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from harness.api.checks import require
from harness.api.later import settings_of
from harness.api.tasks import Kind

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Trainable:
    """Marks a tensor that `LinearMethod.init` returns as learned."""

    tensor: Tensor


@dataclass(frozen=True)
class Frozen:
    """Marks a tensor that `LinearMethod.init` returns as fixed: kept with the adapter, never updated.

    `stored` says that it cannot be recomputed from the backbone and the seed alone (LoRA-SB's bases come from
    a gradient), so it counts towards the adapter's bytes on disk.
    """

    tensor: Tensor
    stored: bool = False


class Parameters(Protocol):
    """The tensors of one adapted map by the names that `init` gave them: `p.A`, `p.B`."""

    def __getattr__(self, name: str) -> Tensor: ...


class Decompositions(Protocol):
    """Factorisations of frozen weights, computed once per weight in float32 or better and shared by trials."""

    def svd(self, weight: Tensor, rank: int, routine: str = "exact") -> tuple[Tensor, Tensor, Tensor]:
        """Leading `rank` singular triplets of weight [m, n]: U [m, rank], S [rank], Vt [rank, n].

        routine: "exact" (torch.linalg.svd), "randomized" (scikit-learn's, 10 iterations, seed 42) or
        "niter_K" (torch.svd_lowrank with K iterations).
        """
        ...

    def pivoted_qr(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Column-pivoted QR of weight [m, n]: weight[:, P] = Q R, Q [m, k], R [k, n], P [n] int64, k = min(m, n)."""
        ...


@dataclass(frozen=True)
class Common:
    """What the maps of one attachment have in common."""

    largest: tuple[int, int] = (0, 0)
    """The largest output and the largest input size of all adapted maps."""
    tensors: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """Empty at first. What one map's `init` puts here, the others find: frozen tensors that all maps share (VeRA)."""


@dataclass(frozen=True)
class InitContext:
    """What `LinearMethod.init` may use beside the weight. Everything is for one adapted map."""

    module: str
    """Full name of the adapted module inside the model."""
    generator: torch.Generator
    """CPU generator of the adapter-initialisation stream: the only source of randomness."""
    decompositions: Decompositions
    pretrained: Tensor
    """The map's weight [m, n] in the pretrained checkpoint (equal to `weight` unless the start trained it)."""
    gradient: Tensor | None
    """Sum over samples of the loss gradient [m, n], float32, if `gradient_request` asked for it."""
    first_step_learning_rate: float
    """Learning rate over warm-up optimizer steps (at least one): the size of the first AdamW step."""
    common: Common = dataclasses.field(default_factory=Common)


@dataclass(frozen=True)
class AttachContext:
    """What `Method.attach` may use. Randomness comes from `generator` alone."""

    generator: torch.Generator
    head: tuple[str, ...]
    """Names of the modules that make up the head; the harness trains them apart (see `Method.trains_head`)."""
    select: Callable[[str, str], Sequence[str]] = lambda targets, layers: ()
    """Module names of the linear maps that `targets` and `layers` name, as for `LinearMethod`; none is a UserError."""


@dataclass(frozen=True)
class GradientRequest:
    """Asks for the gradient of the full, unadapted model before `init`, summed over training samples."""

    samples: int
    dropout: bool = True


@dataclass(frozen=True)
class ParameterGroup:
    """Trainable tensors whose names end in one of `suffixes` learn at `ratio` times the learning rate (LoRA+)."""

    suffixes: tuple[str, ...]
    ratio: float


@dataclass(frozen=True)
class Method(ABC):
    """How a backbone is adapted. The fields of the subclass, a frozen dataclass, are its configuration.

    Before `attach` the harness has frozen the whole model; what `attach` unfreezes is counted as
    adapter parameters, the head is counted apart.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """As the leaderboard prints it: "LoRA-XS"."""
    paper: ClassVar[str] = ""
    """Citation with identifier: "Hu et al. 2021, arXiv:2106.09685"."""
    formula: ClassVar[str] = ""
    """One line of plain text: "W + (alpha / r) B A"."""
    trains_head: ClassVar[bool] = True
    control: ClassVar[bool] = False
    """A row that is there to be compared with (head_only, majority), not a contender."""
    packable: ClassVar[bool] = False
    """Whether trials of it may share the steps of one model with others: only adapted maps and the head are trained,
    and `after_update` is not used. A trial that trains more runs alone all the same."""
    requires_start: ClassVar[str] = ""
    """Name of the start without which the method means nothing ("warmup"), or empty."""

    def validate(self) -> None:
        """Raise UserError for values that can never work. Called before anything is planned."""

    @abstractmethod
    def attach(self, model: nn.Module, context: AttachContext) -> None:
        """Unfreeze, or add, what this method trains."""

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """Tensors with a learning rate of their own."""
        return ()

    def plain(self, model: nn.Module) -> nn.Module:
        """The trained model as one that transformers can save: of the backbone's own architecture.

        Methods that only unfreeze, and linear methods (the harness has merged their maps), leave it as it is.
        """
        return model

    def after_update(self, model: nn.Module, step: int) -> None:
        """Called after the optimizer's step number `step` (from 1 on), before its gradients are cleared (AdaLoRA)."""
        return

    def exemptions(self) -> Mapping[str, str]:
        """Checks of `python -m harness check` that this configuration does not meet, each with its reason."""
        return {}

    def gradient_request(self, train_rows: int) -> GradientRequest | None:
        """The gradient estimate that `init` needs, given the number of training rows."""
        return None


@dataclass(frozen=True)
class Baseline(Method):
    """A control that looks at training labels only and has no model: the majority class, the mean."""

    control: ClassVar[bool] = True
    trains_head: ClassVar[bool] = False

    def attach(self, model: nn.Module, context: AttachContext) -> None:
        raise TypeError(f"{self.name} has no model to attach to")

    @abstractmethod
    def predict(self, labels: pd.Series, rows: int, kind: Kind) -> list[Any]:
        """`rows` predictions from the training `labels` of a task of `kind`."""


@dataclass(frozen=True)
class LinearMethod(Method):
    """A method that is a formula for each adapted linear map y = W x (+ bias), W [m, n] = [out, in].

    `forward` is a pure function of its tensors, so that `torch.func.vmap` can carry it over many trials.
    """

    packable: ClassVar[bool] = True
    scales_output: ClassVar[bool] = False
    """`forward` needs y = W x without the bias, which is then added to its result (DoRA)."""

    targets: str = "q,v"
    """Canonical names, comma-separated (q, k, v, o, up, down, gate), or "re:" and a regex over module names."""
    layers: str = "all"
    """"all", or "last:N" for the last N layers (all of them if the model has fewer)."""
    bias: bool = False
    """Also train the bias of the adapted maps (counted as adapter parameters)."""
    dropout: float = 0.0
    """Dropout on the adapter's input x, not on the frozen path."""

    def validate(self) -> None:
        """Raise UserError for values that can never work; overriding methods call this first."""
        require(self, 0 <= self.dropout < 1, f"dropout = {self.dropout} is outside [0, 1).")

    def check_map(self, module: str, shape: tuple[int, int]) -> None:
        """Raise UserError if the map `module` of this shape [m, n] cannot carry the method; asked before training."""
        return

    @abstractmethod
    def init(self, weight: Tensor, context: InitContext) -> Mapping[str, Trainable | Frozen]:
        """Tensors of one map, float32, from its frozen weight [m, n] (float32)."""

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor, p: Parameters) -> Tensor:
        """Adapted output [..., m] from the input x [..., n] and the frozen map's output y [..., m]."""

    @abstractmethod
    def count(self, m: int, n: int) -> int | None:
        """Trainable parameters for one map [m, n] without bias; None if it depends on the weight's values."""

    def low_rank(self, p: Parameters) -> tuple[Tensor, Tensor] | None:
        """Factors B [m, k] and A [k, n] of what `forward` adds to y: B A x. None if it has none (DoRA).

        Merging and the export to a standard LoRA follow from them; a method without them overrides `merge`.
        """
        return None

    def merge(self, weight: Tensor, p: Parameters) -> Tensor:
        """The weight [m, n] whose plain map equals `forward` around the frozen `weight`."""
        factors = self.low_rank(p)
        if factors is None:
            raise NotImplementedError(f"{self.name} has neither low_rank nor a merge of its own")
        B, A = factors
        return weight + B @ A

    def takes_out_start(self) -> bool:
        """Whether to train around W minus the initial B A, so that y = W x at step 0 all the same (PiSSA)."""
        return False

    def attach(self, model: nn.Module, context: AttachContext) -> None:
        raise TypeError("a LinearMethod is attached map by map; see harness.adapt")


def parameters_of(method: Method) -> dict[str, Any]:
    """The method's configuration as a plain dictionary, in field order; see `later` for what it leaves out."""
    return settings_of(method)


def kaiming_uniform(shape: tuple[int, int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """[rows, columns] ~ U(-1/sqrt(columns), 1/sqrt(columns)): kaiming uniform with a = sqrt 5, as nn.Linear starts."""
    import torch

    bound = shape[1] ** -0.5
    return torch.empty(shape, dtype=dtype).uniform_(-bound, bound, generator=generator)
