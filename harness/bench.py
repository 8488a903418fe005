"""The stages that a trial goes through before training: prepared, loaded, started, attached."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness import (
    activations,
    adapt,
    backbones,
    chat,
    compiling,
    data,
    gradients,
    loop,
    packing,
    prefetch,
    prefix,
    splitting,
    starts,
)
from harness.api import DataRoot, GenerationTask, LinearMethod, Method, ParameterGroup, Task
from harness.checkpoints import Checkpoints
from harness.decompositions import CachedDecompositions
from harness.generation import load_scorer
from harness.memory_estimate import exceeds_memory
from harness.placement import ALONE, Placement
from harness.plugins import Plugins, discover, make_method
from harness.records import SELECT
from harness.settings import Settings
from harness.trial import Recipe, Trial, stream_seed

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Bench:
    """A trial with its plugins and rows."""

    trial: Trial
    settings: Settings
    task: Task
    method: Method
    train: pd.DataFrame
    splits: dict[str, pd.DataFrame]
    """`select` and the test sets."""
    data_sha256: str
    least_parts: int = 0
    """Micro-batches of a step at least, where fewer did not fit into memory."""

    @property
    def micro_batches(self) -> int:
        """Parts that the rows of a step are computed in, one after the other; the step is the same."""
        return max(self.least_parts, self.trial.recipe.accumulation)

    def shrunk(self, rows: int) -> int:
        """So many of `rows` as may be computed at once; of a step's rows, no fewer than its largest micro-batch has."""
        return -(-rows * self.trial.recipe.accumulation // self.micro_batches)


@dataclass(frozen=True)
class Stage:
    """A loaded model on its device, and the training rows encoded by its tokenizer."""

    loaded: backbones.Loaded
    device: torch.device
    encoded: data.Encoded

    @property
    def model(self) -> nn.Module:
        return self.loaded.model

    def batch(self, rows: Sequence[int]) -> loop.Batch:
        """The padded batch of these row numbers."""
        return data.collate(self.encoded, rows, self.loaded.tokenizer.pad_token_id)

    def packed(self, rows: Sequence[int]) -> loop.Batch:
        """The batch of these row numbers as one row without padding."""
        return packing.pack(self.encoded, rows)


@dataclass(frozen=True)
class Phase:
    """One training within a trial: a start's, or the method's own."""

    name: str
    """Names its random streams."""
    recipe: Recipe
    method: Method | None = None
    """The attached method; None while the whole model is trained."""
    cache: prefix.PrefixCache | None = None
    """Keeps what the frozen lower layers give."""
    checkpoints: Checkpoints | None = None
    """Saves it on the way."""
    placement: Placement = ALONE
    """Where the model lies, and which rows this process computes."""


@dataclass
class Started:
    """What a start leaves behind beside the model's weights."""

    seconds: float | None = None
    """Training seconds of the start when it was computed, whoever computed it; None for the pretrained start."""
    pretrained: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the linear maps before the start changed them; empty if it did not."""
    adapter: dict[str, Tensor] = field(default_factory=dict)
    """Stored tensors of the method, trained on another task, for `attach`."""
    head_carried: bool | None = None
    """Whether the head came along; None if the start has none to bring, or an adapter is still to bring it."""
    sha256: str | None = None
    """Hash of the tensors that the start brings; None for the pretrained start."""


@functools.lru_cache(maxsize=4)
def _plugins(settings: Settings) -> Plugins:
    return discover(settings.plugin_files)


def prepare(trial: Trial, settings: Settings, least_parts: int = 0) -> Bench:
    """Plugins and rows of a trial; what scoring imports is imported here, outside every clock."""
    plugins = _plugins(settings)
    task = plugins.tasks[trial.task]
    importlib.import_module("harness.metric_modules")
    if isinstance(task, GenerationTask):
        load_scorer()
    method = make_method(plugins.methods[trial.method], trial.parameters)
    rows = data.load_task(task, DataRoot(settings.data_root))
    train = data.subset(rows.train, trial.train_size, trial.seed, task.name)
    if trial.recipe.chat_template and isinstance(task, GenerationTask):
        task = chat.in_chat(task, backbones.load_tokenizer(trial.backbone, settings))
    select = rows.select.head(trial.recipe.select_rows or len(rows.select))
    return Bench(trial, settings, task, method, train, {SELECT: select, **rows.tests}, rows.sha256, least_parts)


def load(bench: Bench, device: torch.device) -> Stage:
    """Backbone on the device, head drawn, training rows encoded."""
    trial = bench.trial
    loaded = backbones.load(trial.backbone, bench.task, trial.seed, bench.settings)
    if trial.recipe.backbone_dropout >= 0:
        _set_dropout(loaded.model, trial.recipe.backbone_dropout)
    loaded.model.to(device)
    return beside(bench, loaded, device)


def beside(bench: Bench, loaded: backbones.Loaded, device: torch.device) -> Stage:
    """A trial's training rows beside a backbone that is loaded already."""
    recipe = bench.trial.recipe
    drop_long = recipe.long_answers == "drop"
    cache_root = bench.settings.cache_root
    encoded = data.encode(bench.task, bench.train, loaded.tokenizer, recipe.max_length, drop_long, cache_root)
    return Stage(loaded, device, encoded)


def row_order(bench: Bench, stage: Stage, phase: Phase) -> Iterator[list[list[int]]]:
    """For each epoch its batches of row numbers, from the seed's order stream: the same for every method."""
    recipe = phase.recipe
    generator = torch.Generator().manual_seed(stream_seed(bench.trial.seed, "order", bench.task.name, phase.name))
    for _ in range(recipe.epochs):
        yield data.epoch_batches(stage.encoded.lengths, recipe.batch_size, generator, recipe.length_pool)


def step_maker(bench: Bench, stage: Stage, phase: Phase) -> Callable[[Sequence[int]], list[loop.Batch]]:
    """Makes the micro-batches of an optimizer step from its row numbers."""
    recipe, lengths = phase.recipe, stage.encoded.lengths
    batch: prefix.Maker = stage.packed if recipe.packing else stage.batch
    if phase.cache is not None:
        batch = phase.cache.remembering(stage.encoded, batch)
    splits = bench.settings.split_batches and not recipe.packing and splitting.pays_on(stage.device)

    overhead = splitting.overhead_for(stage.model)

    def parts(rows: Sequence[int]) -> list[Sequence[int]]:
        micro = _split(rows, bench.micro_batches)
        return [part for rows in micro for part in splitting.by_length(rows, lengths, overhead)] if splits else micro

    return lambda rows: [prefetch.pinned(batch(part), stage.device) for part in parts(rows)]


def train(bench: Bench, stage: Stage, phase: Phase, hooks: loop.Hooks) -> loop.Progress:
    """Fit what is trainable."""
    recipe = phase.recipe

    if recipe.packing:
        first = range(min(recipe.batch_size, len(stage.encoded)))
        packing.check_apart(stage.model, stage.packed(first), stage.batch(first))

    step = step_maker(bench, stage, phase)

    def steps() -> Iterator[loop.Steps]:
        for batches in row_order(bench, stage, phase):
            yield prefetch.Prepared(step, batches, prefetch.ahead_for(stage.device))

    special: tuple[ParameterGroup, ...] = ()
    if phase.method is not None:
        special = phase.method.parameter_groups()
        hooks = dataclasses.replace(hooks, after_update=partial(phase.method.after_update, stage.model))
    groups = loop.optimizer_groups(stage.model, special, stage.loaded.head, recipe)
    plain, chosen = packing.without_cache(stage.model), checkpoints(bench, stage)
    with torch.random.fork_rng(), plain, activations.checkpointing(stage.model, chosen):
        torch.manual_seed(stream_seed(bench.trial.seed, "dropout", bench.task.name, phase.name, *phase.placement.salt))
        if bench.settings.compile == "off":
            progress = loop.fit(stage.model, groups, steps(), recipe, hooks, phase.placement.way, phase.checkpoints)
        else:
            parameters = [parameter for parameter in stage.model.parameters() if parameter.requires_grad]
            chooser = compiling.chooser_for(parameters, stage.device)
            progress = loop.fit(stage.model, groups, steps(), recipe, hooks, compiling.Way(chooser), phase.checkpoints)
            progress.facts |= chooser.facts()
    progress.facts |= checkpointing_facts(bench, chosen)
    return progress


def checkpoints(bench: Bench, stage: Stage) -> bool:
    """Whether to keep no activations inside layers: the recipe says so, or memory is estimated not to suffice.

    Losses are the same either way, so that it is no part of a trial's identity. What is trainable when it is asked
    counts: ask when the method is attached.
    """
    recipe = bench.trial.recipe
    if recipe.gradient_checkpointing or bench.settings.checkpointing == "recipe":
        return recipe.gradient_checkpointing
    able = bool(getattr(stage.model, "supports_gradient_checkpointing", False))
    return able and exceeds_memory(stage.model, recipe, stage.device)


def checkpointing_facts(bench: Bench, chosen: bool) -> dict[str, Any]:
    """For a run's provenance: whether activations were kept in another way than its recipe says."""
    return {"gradient_checkpointing": "chosen by memory"} if chosen != bench.trial.recipe.gradient_checkpointing else {}


def head_carried(left: Iterable[str], stage: Stage) -> bool | None:
    """Whether no tensor of the head is among those that found no place; None for a model without a head of its own."""
    head = stage.loaded.head
    return all(name.split(".")[0] not in head for name in left) if head else None


def attach(bench: Bench, stage: Stage, started: Started) -> tuple[adapt.Attachment, float]:
    """Attach the method and carry a transferred adapter over.

    Also the seconds of decompositions that came from the cache: they are this run's cost too.
    """
    attached = attach_anew(bench, stage, started)
    carry_adapter(stage, started)
    return attached


def attach_anew(bench: Bench, stage: Stage, started: Started) -> tuple[adapt.Attachment, float]:
    """The same with the adapter as its method initialises it."""
    recipe = bench.trial.recipe
    decompositions = CachedDecompositions(bench.settings.cache_root)
    steps_per_epoch = -(-len(stage.encoded) // recipe.batch_size)
    warmup = loop.warmup_steps(recipe, steps_per_epoch * recipe.epochs)

    def pretrained(name: str) -> Tensor:
        weight = started.pretrained.get(name)
        return stage.model.get_parameter(f"{name}.weight").detach() if weight is None else weight.to(stage.device)

    support = adapt.Support(decompositions, pretrained, _gradients(bench, stage), recipe.learning_rate / max(1, warmup))
    attachment = adapt.attach(stage.model, bench.method, stage.loaded.head, bench.trial.seed, support)
    return attachment, decompositions.cached_seconds


def carry_adapter(stage: Stage, started: Started) -> None:
    """Put the tensors of a transferred adapter into the attached one."""
    if started.adapter:
        left = starts.carry(stage.model, started.adapter)
        started.head_carried = head_carried(left, stage)


def _gradients(bench: Bench, stage: Stage) -> dict[str, Tensor]:
    request = bench.method.gradient_request(len(stage.encoded))
    if request is None or not isinstance(bench.method, LinearMethod):
        return {}
    seed = stream_seed(bench.trial.seed, "gradient", bench.task.name)
    rows = gradients.sample_rows(len(stage.encoded), request.samples, seed)
    size = max(1, bench.trial.recipe.batch_size // bench.micro_batches)  # as many at once as a step computes
    batches = [stage.batch(rows[first : first + size]) for first in range(0, len(rows), size)]
    # all weights of a fresh model count as trained here: that may cost time, never memory
    with activations.checkpointing(stage.model, checkpoints(bench, stage)):
        return gradients.estimate_gradients(stage.model, bench.method, batches, seed, request.dropout)


def _split(rows: Sequence[int], parts: int) -> list[Sequence[int]]:
    """`rows` in at most `parts` runs of nearly equal length."""
    size = -(-len(rows) // parts)
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def _set_dropout(model: nn.Module, share: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        for name in prefix.DROPOUT_NAMES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, share)
