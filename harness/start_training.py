"""Brings a model to where training starts: what another trial computed is read from the cache, else trained here."""

from __future__ import annotations

from torch import Tensor, nn

from harness import loop, starts
from harness.bench import Bench, Phase, Stage, Started, attach, head_carried, load, prepare, train
from harness.checkpoints import Checkpoints, training_checkpoints
from harness.devices import pick_device
from harness.source_hashes import harness_sha256, source_sha256, tensors_sha256


def start(bench: Bench, stage: Stage) -> Started:
    """Bring the model to where training starts; a start that another trial computed is read from the cache.

    An adapter that a transfer brings along waits in the result until the method is attached.
    """
    begin = bench.trial.start
    if begin.kind == "pretrained":
        return Started()
    rows = _source(bench)
    cache = starts.StartCache(bench.settings.cache_root, starts.cache_key(bench.trial, _made_from(bench, rows)))
    maps = {name: module for name, module in stage.model.named_modules() if isinstance(module, nn.Linear)}
    pretrained = {name: module.weight.detach().cpu().clone() for name, module in maps.items()}
    with cache.lock:
        tensors, seconds = cache.load() or _computed(bench, rows, stage, cache)
    digest = tensors_sha256(tensors)
    if begin.kind == "transfer" and begin.what == "adapter":
        return Started(seconds, adapter=tensors, sha256=digest)
    left = starts.carry(stage.model, tensors)
    return Started(seconds, pretrained, head_carried=head_carried(left, stage), sha256=digest)


def _source(bench: Bench) -> Bench:
    """The trial on whose rows the start is trained: the same for a warm-up, another one for a transfer."""
    if bench.trial.start.kind == "warmup":
        return bench
    return prepare(starts.source_trial(bench.trial), bench.settings, bench.least_parts)


def _made_from(bench: Bench, rows: Bench) -> dict[str, str | None]:
    """Hashes of what a start is made from, beside what its trial says."""
    made = {"data": rows.data_sha256, "task": source_sha256(type(rows.task)), "harness": harness_sha256()}
    if bench.trial.start.what == "adapter":
        made["method"] = source_sha256(type(bench.method))
    return made


def _computed(bench: Bench, rows: Bench, stage: Stage, cache: starts.StartCache) -> tuple[dict[str, Tensor], float]:
    """What a start leaves, trained and put into the cache; saved on the way as other trainings are."""
    checkpoints = training_checkpoints(f"start-{cache.file.stem}", bench)
    trained = (
        _train_whole(bench, rows, stage, checkpoints)
        if bench.trial.start.kind == "warmup"
        else _transferred(bench, rows, checkpoints)
    )
    saved = cache.save(*trained)
    if checkpoints is not None:
        checkpoints.forget()
    return saved


def _transferred(bench: Bench, source: Bench, checkpoints: Checkpoints | None) -> tuple[dict[str, Tensor], float]:
    """What training on the start's task leaves: the whole state, or the stored tensors of the attached method."""
    stage = load(source, pick_device(bench.settings.device))
    if bench.trial.start.what == "model":
        return _train_whole(bench, source, stage, checkpoints)
    attachment, _ = attach(source, stage, Started())
    phase = Phase("train", source.trial.recipe, source.method, checkpoints=checkpoints)
    seconds = train(source, stage, phase, loop.Hooks(lambda epoch: None)).seconds
    return attachment.stored_tensors(), seconds


def _train_whole(
    bench: Bench, rows: Bench, stage: Stage, checkpoints: Checkpoints | None
) -> tuple[dict[str, Tensor], float]:
    """The state after full fine-tuning as the start of `bench` says, on the rows of `rows`, and its seconds."""
    stage.model.requires_grad_(True)
    phase = Phase(bench.trial.start.kind, starts.start_recipe(bench.trial), checkpoints=checkpoints)
    seconds = train(rows, stage, phase, loop.Hooks(lambda epoch: None)).seconds
    return stage.model.state_dict(), seconds
