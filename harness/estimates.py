"""What a plan would cost, before anything is run. Estimates, and called so; runs measure."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness import backbones
from harness.api import Baseline, DataRoot, LinearMethod, Task
from harness.counts import Counts, Shape, count
from harness.memory_estimate import training_bytes
from harness.plugins import Plugins, make_method
from harness.printed import PrintedCount
from harness.records import SuiteInfo
from harness.settings import Settings
from harness.trial import Trial

if TYPE_CHECKING:
    from harness.store import Store

TOKENS_PER_WORD = 1.4
"""English words cut into subwords, special tokens included: a rule of thumb."""
SAMPLED_ROWS = 200
"""Rows whose words are counted to estimate a task's length."""


@dataclass(frozen=True)
class PlanRow:
    """The trials of one label on one task in one grid."""

    grid: str
    task: str
    label: str
    method: str
    backbone: str
    trials: int
    done: int
    adapter_params: int | None
    """Of each trial; None if only the weights can tell."""
    head_params: int
    printed_params: int | None
    """What a paper prints for the row; None if it prints nothing for this backbone."""
    printed_as: str
    """As the paper writes it."""
    printed_agrees: bool | None
    """Whether our count agrees, to the printed digits; None without one of the two."""
    train_flops: float | None
    """Estimated, over the trials that are not done; None if unknown."""
    seconds: float | None
    """Estimated by the pace of earlier runs on this stack; None if there are none."""
    memory_bytes: int | None
    """Estimated for training with every row at full length; None if only the weights can tell."""


@dataclass
class Estimator:
    """Counts and costs of trials. Rows are looked at only where they can be had without a download."""

    plugins: Plugins
    settings: Settings
    seconds_per_flop: float | None = None
    _counts: dict[tuple[str, str, str], Counts] = field(default_factory=dict)
    _sizes: dict[str, tuple[int, float] | None] = field(default_factory=dict)

    def rows(self, info: SuiteInfo, finished: set[str]) -> Iterator[PlanRow]:
        """One row per (grid, task, label), in plan order."""
        groups: dict[tuple[str, str, str], list[Trial]] = {}
        for member in info.members:
            groups.setdefault((member.grid, member.trial.task, member.label), []).append(member.trial)
        for (grid, task, label), trials in groups.items():
            counts = self.counts(trials[0])
            printed = info.printed.get((task, label))
            left = [self.train_flops(trial) for trial in trials if trial.id not in finished]
            known = [flops for flops in left if flops is not None]
            flops = sum(known) if len(known) == len(left) else None
            yield PlanRow(
                grid,
                task,
                label,
                trials[0].method,
                trials[0].backbone.name,
                trials=len(trials),
                done=len(trials) - len(left),
                adapter_params=counts.adapter_params,
                head_params=counts.head_params,
                printed_params=printed.params if printed else None,
                printed_as=printed.text if printed else "",
                printed_agrees=_agrees(printed, counts),
                train_flops=flops,
                seconds=None if flops is None or self.seconds_per_flop is None else flops * self.seconds_per_flop,
                memory_bytes=self.memory_bytes(trials[0]),
            )

    def counts(self, trial: Trial) -> Counts:
        """Parameters of the trial's adapted model, from shapes."""
        key = (trial.backbone.name, trial.task, f"{trial.method} {sorted(trial.parameters.items())}")
        if key not in self._counts:
            task = self.plugins.tasks[trial.task]
            method = make_method(self.plugins.methods[trial.method], trial.parameters)
            shape = Shape(trial.backbone.name, task.kind, len(task.labels) or 1, trial.backbone.revision)
            self._counts[key] = count(method, shape, self.settings)
        return self._counts[key]

    def memory_bytes(self, trial: Trial) -> int | None:
        """What training the trial would take; nothing for a baseline without a model."""
        if issubclass(self.plugins.methods[trial.method], Baseline):
            return 0
        backbone = trial.backbone
        configuration = backbones.configuration(backbone.name, self.settings, backbone.revision)
        return training_bytes(self.counts(trial), configuration, trial.recipe)

    def train_flops(self, trial: Trial) -> float | None:
        """Two FLOPs per weight and token forward, two for the way back to the adapters, two per trained weight."""
        cls = self.plugins.methods[trial.method]
        if issubclass(cls, Baseline):
            return 0.0
        size = self._size(self.plugins.tasks[trial.task])
        if size is None:
            return None
        rows, tokens = size
        counts = self.counts(trial)
        linear = counts.linear_params
        adapted = issubclass(cls, LinearMethod) or bool(counts.adapter_params)
        trained = min(counts.adapter_params or 0, linear)
        per_token = 2.0 * linear + 2.0 * linear * adapted + 2.0 * trained
        return per_token * min(tokens, trial.recipe.max_length) * (trial.train_size or rows) * trial.recipe.epochs

    def _size(self, task: Task) -> tuple[int, float] | None:
        """(training rows, tokens per row) of a task; None if its rows would have to be downloaded."""
        if task.mirrored and self.settings.data_root is None:
            return None
        if task.name not in self._sizes:
            from harness.data import load_task

            train = load_task(task, DataRoot(self.settings.data_root)).train
            texts = [task.encode(dict(row)) for _, row in train.head(SAMPLED_ROWS).iterrows()]
            words = [len(f"{text.first} {text.second or ''}".split()) for text in texts]
            self._sizes[task.name] = (len(train), TOKENS_PER_WORD * statistics.fmean(words))
        return self._sizes[task.name]


def _agrees(printed: PrintedCount | None, counts: Counts) -> bool | None:
    if printed is None or counts.adapter_params is None:
        return None
    return printed.agrees(counts.adapter_params, counts.head_params)


def measured_pace(store: Store, settings: Settings) -> float | None:
    """Median seconds per training FLOP (all clocks together) of the ok runs on this stack; None without any."""
    import sqlalchemy as sa

    from harness.provenance import provenance
    from harness.rows import fingerprint
    from harness.schema import RUNS

    clocks = (RUNS.c.load_seconds, RUNS.c.init_seconds, RUNS.c.train_seconds, RUNS.c.eval_seconds)
    query = sa.select(sum(sa.func.coalesce(clock, 0.0) for clock in clocks) / RUNS.c.train_flops).where(
        RUNS.c.status == "ok", RUNS.c.train_flops > 0, RUNS.c.stack_id == fingerprint(provenance(settings)["stack"])
    )
    with store.reading() as connection:
        paces = [float(pace) for pace in connection.scalars(query) if pace is not None]
    return statistics.median(paces) if paces else None


def totals(rows: Sequence[PlanRow]) -> Mapping[str, float | int | None]:
    """Sums over the plan; unknown as soon as one part is."""
    sums: dict[str, float | int | None] = {}
    for name in ("trials", "done", "train_flops", "seconds"):
        values = [getattr(row, name) for row in rows]
        sums[name] = None if None in values else sum(values)
    return sums


def plan_as_dict(suite: str, rows: Sequence[PlanRow]) -> dict[str, object]:
    """The plan for `--json`."""
    return {"suite": suite, "rows": [dataclasses.asdict(row) for row in rows], "total": dict(totals(rows))}
