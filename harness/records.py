"""What one run leaves behind, before it is stored. Plain data: no torch, no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from harness.printed import PrintedCount
from harness.trial import Trial

UNPARSED = "unparsed: "
"""Begins the prediction of a generation task in whose output no final answer was found; the output follows."""

Status = Literal["ok", "failed", "oom", "diverged", "timeout", "interrupted"]

SELECT = "select"
"""Name of the split cut from train, on which an epoch is chosen. Test sets never choose."""


@dataclass(frozen=True)
class ParameterCounts:
    """Counts of scalars. trainable = adapter + head; total is the whole adapted model."""

    adapter: int
    head: int
    total: int

    @property
    def trainable(self) -> int:
        return self.adapter + self.head


@dataclass(frozen=True)
class Costs:
    """Measured cost of one run; a quantity that was not measured is None. Definitions: `harness.measure`."""

    train_flops: float | None = None
    inference_flops_per_example: float | None = None
    load_seconds: float | None = None
    init_seconds: float | None = None
    train_seconds: float | None = None
    eval_seconds: float | None = None
    start_seconds: float | None = None
    step_seconds: float | None = None
    step_seconds_spread: float | None = None
    pack_trials: int | None = None
    pack_seconds: float | None = None
    pack_share_seconds: float | None = None
    examples_per_second: float | None = None
    tokens_per_second: float | None = None
    padding_share: float | None = None
    peak_memory_bytes: int | None = None
    adapter_bytes: int | None = None


@dataclass(frozen=True)
class Forgetting:
    """Perplexity of held-out text, None if the recipe names no text. Definitions: `harness.measure`."""

    perplexity_before: float | None = None
    perplexity_after: float | None = None


@dataclass(frozen=True)
class Score:
    """One metric on one split after one epoch (epoch 0: before any training)."""

    epoch: int
    split: str
    metric: str
    value: float


@dataclass(frozen=True)
class MethodInfo:
    """What the database keeps of a method plugin, so that a site needs no plugin to be built."""

    name: str
    title: str
    paper: str
    formula: str
    summary: str
    """First paragraph of the plugin's docstring."""
    control: bool


@dataclass(frozen=True)
class TaskInfo:
    """What the database keeps of a task plugin."""

    name: str
    version: int
    title: str
    kind: str
    metrics: tuple[str, ...]
    """The first one is the metric that rows are ranked by."""
    tests: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Member:
    """One trial's place in a suite: the grid it belongs to and the name of its row."""

    grid: str
    label: str
    trial: Trial


@dataclass(frozen=True)
class SuiteInfo:
    """A suite as it was planned."""

    name: str
    title: str
    description: str
    rank_by: str
    """"last", "selected" (best epoch on `select`; the default) or "optimistic" (best epoch on test)."""
    members: tuple[Member, ...]
    printed: Mapping[tuple[str, str], PrintedCount] = field(default_factory=dict)
    """Counts that a paper prints, by task and label, for the plan; the database does not keep them."""
    whole: bool = False
    """Whether no filter narrowed the plan: cells of its rows that it lacks are ones that the suite has no more."""


@dataclass(frozen=True)
class Predictions:
    """Per-example predictions of one split after one epoch, in row order.

    Class ids, numbers, or final answers; for an output without a final answer, `UNPARSED` and the output.
    """

    split: str
    epoch: int
    ids: list[str]
    labels: list[Any]
    values: list[Any]


@dataclass(frozen=True)
class RunRecord:
    """One execution of a trial."""

    trial: Trial
    status: Status
    started_at: datetime
    finished_at: datetime
    reason: str = ""
    traceback: str = ""
    parameters: ParameterCounts | None = None
    costs: Costs = field(default_factory=Costs)
    forgetting: Forgetting = field(default_factory=Forgetting)
    scores: list[Score] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    """(optimizer step, mean training loss since the previous point)."""
    predictions: list[Predictions] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    """Commit, dirty flag, versions, device, hashes; see `harness.provenance`."""
