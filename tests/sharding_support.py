"""What tests/test_sharding.py shares with the processes it starts: small tasks, and what the processes do."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from harness.api import DataRoot, GenerationTask, Kind, Task, Text
from harness.records import RunRecord
from harness.settings import Settings
from harness.sharding.launch import Place, together
from harness.trial import Trial

WORDS = ("river", "stone", "lamp", "garden", "the old", "a quiet")
Say = Callable[..., None]


class Thirds(Task):
    """Three classes, which do not cut into two equal shares; five test rows, so that the last batch has one."""

    name = "thirds"
    title = "Thirds"
    kind: ClassVar[Kind] = "classification"
    labels = ("none", "one", "two")
    metrics = ("accuracy",)
    columns = ("text",)

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        texts = [" ".join(WORDS[(row * step) % 6] for step in range(1, 2 + row % 5)) for row in range(46)]
        frame = pd.DataFrame({"id": range(46), "text": texts, "label": [row % 3 for row in range(46)]})
        return {"train": frame[:41], "test": frame[41:]}

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["text"])


class Echo(GenerationTask):
    """The last word again: answers of different lengths."""

    name = "echo"
    title = "Echo"
    metrics = ("exact_match",)
    columns = ("text",)
    max_new_tokens = 3

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        labels = [WORDS[row % 6] for row in range(33)]
        texts = [f"{WORDS[row % 4]} and {label}" for row, label in enumerate(labels)]
        frame = pd.DataFrame({"id": range(33), "text": texts, "label": labels})
        return {"train": frame[:30], "test": frame[30:]}

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(f"{row['text']}:")

    def answer(self, row: Mapping[str, Any]) -> str:
        return f" {row['label']}"

    def extract(self, text: str) -> str | None:
        return text.strip() or None


def run_all(argument: tuple[Sequence[Trial], Settings], place: Place, say: Say) -> list[RunRecord]:
    """The records of trials, all by the same processes, for they take seconds to import torch; the first as in a run.

    The others' FLOPs are not counted: hundreds of small collectives, each of which waits for a turn on a busy machine.
    """
    from harness import bench, costs
    from harness.runner import run_placed, run_shard
    from harness.sharding.model import Sharded

    (first, *others), settings = argument
    apart = dataclasses.replace(place, meeting=place.meeting.with_suffix(".first"))
    records = [run_shard((first, settings, 0), apart, lambda *steps: say("progress", place.rank, *steps))]
    (known,) = costs._CACHE.values()
    costs._count = lambda bench, stage: known
    placement = Sharded(place, settings)
    say("salt", place.rank, placement.salt)
    say("largest", place.rank, placement.largest(10 + place.rank), placement.largest(None if place.rank else 5))
    for trial in argument[0]:
        say("step", place.rank, trial.method, *step(trial, settings, placement))
    for trial in others:
        records.append(run_placed(bench.prepare(trial, settings), lambda done, total: None, placement))
    placement.close()
    return records


def step(trial: Trial, settings: Settings, placement: Any) -> tuple[float, float, dict[str, Any]]:
    """Loss, gradient norm and clipped gradients (as NumPy arrays) of the first step of a trial, in two uneven parts."""
    import torch
    from torch import nn

    from harness import bench, loop

    prepared = bench.prepare(trial, settings)
    device = torch.device("cpu")
    placement.take_turn()
    stage = bench.load(prepared, device)
    attachment, _ = bench.attach(prepared, stage, bench.Started())
    stage = placement.placed(stage, attachment, device)
    stage.model.eval()  # no dropout
    batches = [stage.batch(rows) for rows in ([0], [1, 2, 3, 4, 5, 6])]
    items = [loop.loss_items(batch) for batch in batches]
    loss = placement.way.choose(stage.model, batches[0])
    parts = [
        placement.way.compute(loss, batch, count / sum(items)) for batch, count in zip(batches, items, strict=True)
    ]
    trained = {name: value for name, value in stage.model.named_parameters() if value.requires_grad}
    norm = nn.utils.clip_grad_norm_(list(trained.values()), 0.01)
    norm = placement.whole({"norm": norm})["norm"]
    gradients = placement.whole({name: value.grad for name, value in trained.items() if value.grad is not None})
    return float(sum(parts)), float(norm), {name: value.numpy().copy() for name, value in gradients.items()}


# ------------------------------------------------------------------------- processes that end badly


def dies(argument: Any, place: Place, say: Say) -> None:
    """The second process is killed while the first waits."""
    if place.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def dies_in_company(argument: Any, place: Place, say: Say) -> None:
    """The second process is killed while the first waits for it in a collective."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=place.meeting.as_uri(), rank=place.rank, world_size=place.ranks)
    dist.all_reduce(torch.zeros(1))
    if place.rank == 1:
        time.sleep(0.5)  # the first is waiting by then
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(torch.zeros(1))


def tells(argument: Any, place: Place, say: Say) -> None:
    """Each process says who it is, and hangs in C code, where nothing but the kernel can end it."""
    say(os.getpid())
    ctypes.PyDLL(None).sleep(60)


def fails(argument: BaseException, place: Place, say: Say) -> str:
    """The second process raises."""
    if place.rank == 1:
        raise argument
    time.sleep(60)
    return "never"


def answers(argument: int, place: Place, say: Say) -> tuple[int, str]:
    """What the first process gives; the second is still busy for a while."""
    time.sleep(0.3 * place.rank)
    print("into the void")
    return argument + place.rank, os.environ["OMP_NUM_THREADS"]


def lead(file: str) -> None:
    """A worker process: one that may have no children, and starts two all the same."""

    def heard(pid: int) -> None:
        with Path(file).open("a") as stream:
            stream.write(f"{pid}\n")

    together(tells, None, 2, 1, heard)
