"""How a trial's end becomes a record, good or bad, alone or among others."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from harness import adapt, measure
from harness.bench import Bench, Stage, Started
from harness.clocks import Began
from harness.errors import TrialFailure, UserError
from harness.evaluation import Evaluator
from harness.kept import KeptTensors
from harness.loop import Progress
from harness.placement import ALONE, Placement
from harness.provenance import provenance
from harness.records import Costs, RunRecord, Status
from harness.settings import Settings
from harness.source_hashes import bench_facts, model_facts
from harness.torch_errors import out_of_memory
from harness.trial import Trial


def failed(trial: Trial, error: BaseException) -> RunRecord:
    """The record of a trial that an error ended, with its traceback."""
    status: Status = "failed"
    if isinstance(error, TrialFailure):
        status = error.status
    elif isinstance(error, MemoryError) or out_of_memory(error):
        status = "oom"
    message = str(error).split("\n")[0]
    known = isinstance(error, TrialFailure | UserError)
    now = datetime.now(UTC)
    return RunRecord(
        trial,
        status,
        now,
        now,
        reason=message if known else f"{type(error).__name__}: {message}",
        traceback="".join(traceback.format_exception(error)),
    )


def scored(bench: Bench, evaluator: Evaluator, costs: Costs) -> RunRecord:
    """The record of a trial that ended well: scores, kept predictions, costs."""
    now = datetime.now(UTC)
    return RunRecord(
        bench.trial,
        "ok",
        now,
        now,
        costs=costs,
        scores=evaluator.scores,
        predictions=evaluator.kept_predictions(),
        provenance=bench_facts(bench),
    )


def sound(
    bench: Bench,
    stage: Stage,
    started: Started,
    evaluator: Evaluator,
    costs: Costs,
    trained: Progress,
) -> RunRecord:
    """The record of a model that was trained to its end; the trial's own modules are in place."""
    record = scored(bench, evaluator, costs)
    facts = {
        **_start_facts(started),
        **model_facts(stage, started),
        **_training_facts(bench, stage),
        **trained.facts,
        "backbone_sha256": stage.loaded.sha256,
    }
    return dataclasses.replace(
        record,
        parameters=measure.count_parameters(stage.model, stage.loaded.output),
        losses=trained.losses,
        provenance={**record.provenance, **facts},
    )


def finished(record: RunRecord, began: Began, settings: Settings) -> RunRecord:
    """The record with its times and what is known of machine and software."""
    facts = {**provenance(settings), **record.provenance}
    return dataclasses.replace(record, started_at=began.at, finished_at=began.now(), provenance=facts)


def keeper(
    bench: Bench, attachment: adapt.Attachment, placement: Placement = ALONE
) -> Callable[[Evaluator, int], None]:
    """Keeps the trained tensors of the last and the selected epoch, if the settings say so."""
    kept = KeptTensors(bench.settings.cache_root, bench.trial.id)

    def keep(evaluator: Evaluator, epoch: int) -> None:
        if not bench.settings.keep_adapters:
            return
        tensors = placement.whole(attachment.stored_tensors())
        if placement.leads:
            kept.save(epoch, tensors)
            kept.drop_all_but(evaluator.kept_epochs())

    return keep


def _start_facts(started: Started) -> dict[str, Any]:
    """Whether a start on other rows brought its head along, for the run's provenance."""
    if started.head_carried is None:
        return {}
    return {"start_head": "carried over" if started.head_carried else "drawn afresh: the shapes differ"}


def _training_facts(bench: Bench, stage: Stage) -> dict[str, Any]:
    """Rows that were left out as too long, if any were, and whether batches were left whole."""
    count = len(bench.train) - len(stage.encoded)
    facts: dict[str, Any] = {"dropped_rows": count} if count else {}
    if not bench.settings.split_batches:
        facts["whole_batches"] = True
    return facts
