"""Puts together what one training cost: FLOPs by the shapes that were really run, and throughput."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn

from harness import data, loop, measure
from harness.bench import Bench, Stage
from harness.flops import LengthCost
from harness.known_counts import KnownCounts
from harness.provenance import sources_have
from harness.records import Costs

NO_MODEL = Costs(train_flops=0.0, inference_flops_per_example=0.0, train_seconds=0.0, adapter_bytes=0)
"""Costs of a row that has no model: nothing is loaded, trained or stored."""


@dataclass(frozen=True)
class StepCosts:
    """FLOPs of one example by its padded length, for a training step and for inference."""

    train: LengthCost | None
    inference: LengthCost


_CACHE: dict[str, StepCosts] = {}
"""Step costs by what determines them, so that the seeds of one row are counted once."""


@dataclass
class Meter:
    """Counts FLOPs before training, adds them up after it."""

    steps: StepCosts | None = field(default=None)

    def count(self, bench: Bench, stage: Stage) -> None:
        """Count training and inference FLOPs on real batches of the adapted model."""
        key = _key(bench, stage)
        if key not in _CACHE:
            _CACHE[key] = _known(bench, stage, key) if _may_share(bench) else _count(bench, stage)
        self.steps = _CACHE[key]

    def costs(self, bench: Bench, stage: Stage, trained: loop.Progress) -> Costs:
        """FLOPs and throughput of a finished training."""
        assert self.steps is not None, "count() comes first"
        result = Costs(
            train_flops=0.0,
            train_seconds=trained.seconds,
            inference_flops_per_example=measure.inference_flops_per_example(
                self.steps.inference, _test_lengths(bench, stage)
            ),
        )
        if self.steps.train is None or not trained.steps:
            return result
        return replace(
            result,
            train_flops=measure.train_flops(self.steps.train, trained.shapes),
            step_seconds=measure.step_seconds(trained.seconds, trained.steps),
            examples_per_second=measure.examples_per_second(trained.examples, trained.seconds),
            tokens_per_second=measure.tokens_per_second(trained.tokens, trained.seconds),
            padding_share=measure.padding_share(trained.tokens, trained.slots),
        )


def _rows(bench: Bench, stage: Stage) -> int:
    """Rows of the batches to count, as many as a step may compute at once."""
    return min(bench.shrunk(bench.trial.recipe.batch_size), len(stage.encoded))


def _key(bench: Bench, stage: Stage) -> str:
    """What FLOPs per step depend on: not seeds, rates or rows, but the shapes of what is attached.

    A single row does not tell what is computed once for a batch from what is computed for each of its rows: counted on
    one (two may not fit into memory), costs hold for steps of one row only.
    """
    trial = bench.trial
    facts = [asdict(trial.backbone), bench.task.kind, trial.method, trial.parameters, trial.recipe.precision]
    place = [stage.device.type, min(2, _rows(bench, stage)), _shapes(stage.model)]
    return json.dumps([*facts, *place], sort_keys=True)


def _shapes(model: nn.Module) -> str:
    """Hash of all tensors' names and shapes, and of which are trained."""
    parameters = [(name, *value.shape, value.requires_grad) for name, value in model.named_parameters()]
    buffers = [(name, *value.shape) for name, value in model.named_buffers()]
    return hashlib.sha256(repr([parameters, buffers]).encode()).hexdigest()


def _may_share(bench: Bench) -> bool:
    """Whether other processes may read what this one counts.

    Only of methods that ship are all sources known. Processes that hold one model together must all count, or none.
    """
    return bench.trial.recipe.shards == 1 and sources_have(type(bench.method))


def _known(bench: Bench, stage: Stage, key: str) -> StepCosts:
    """What some process has counted, else what this one counts, for those that come."""
    counts = KnownCounts(bench.settings.cache_root)
    found = counts.get("step costs", key)
    if found is not None:
        return StepCosts(found["train"] and _length_cost(found["train"]), _length_cost(found["inference"]))
    counted = _count(bench, stage)
    counts.add(asdict(counted), "step costs", key)
    return counted


def _length_cost(found: Mapping[str, Any]) -> LengthCost:
    return LengthCost(tuple(found["per_batch"]), tuple(found["per_row"]))


def _count(bench: Bench, stage: Stage) -> StepCosts:
    order = sorted(range(len(stage.encoded.lengths)), key=stage.encoded.lengths.__getitem__)
    size = _rows(bench, stage)
    middle = (len(order) - size) // 2
    batches = [stage.batch(rows) for rows in (order[:size], order[middle : middle + size], order[-size:])]
    precision = bench.trial.recipe.precision

    def infer(batch: Mapping[str, torch.Tensor]) -> object:
        with loop.autocast(stage.device, precision):
            return stage.model(**{name: value for name, value in batch.items() if name != "labels"})

    def train(batch: Mapping[str, torch.Tensor]) -> object:
        with loop.autocast(stage.device, precision):
            loss = stage.model(**batch).loss
        return loss.backward()

    moved = [{name: value.to(stage.device) for name, value in batch.items()} for batch in batches]
    trains = any(parameter.requires_grad for parameter in stage.model.parameters())
    return StepCosts(
        measure.flops_by_length(stage.model, train, moved) if trains else None,
        measure.flops_by_length(stage.model, infer, moved, training=False),
    )


def _test_lengths(bench: Bench, stage: Stage) -> list[int]:
    tests = [bench.splits[name] for name in bench.task.tests]
    length = bench.trial.recipe.max_length
    return [tokens for frame in tests for tokens in data.row_lengths(bench.task, frame, stage.loaded.tokenizer, length)]
