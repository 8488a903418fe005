"""What a user sees while trials run: bars on a terminal, one plain line per finished trial elsewhere, or nothing."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from typing import Protocol, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from harness.api import Task
from harness.records import RunRecord
from harness.trial import Trial


class Reporter(Protocol):
    """Hears how a plan is getting on."""

    def begin(self, labels: Mapping[str, str], total: int, skipped: int) -> None:
        """`labels` names the row of each trial id; `total` trials will run, `skipped` were done before."""
        ...

    def note(self, text: str) -> None:
        """What is about to be done and why, in one line."""
        ...

    def started(self, trial: Trial) -> None: ...

    def progress(self, trial: Trial, done: int, total: int) -> None: ...

    def finished(self, record: RunRecord) -> None: ...

    def end(self) -> None: ...


def make_reporter(tasks: Mapping[str, Task], quiet: bool, stream: TextIO | None = None) -> Reporter:
    """Bars if `stream` (standard error) is a terminal, else lines; nothing if quiet."""
    stream = stream or sys.stderr
    if quiet:
        return Silent()
    return Bars(tasks, stream) if stream.isatty() else Lines(tasks, stream)


def headline(record: RunRecord, tasks: Mapping[str, Task]) -> str:
    """How a run ended, in a few words: the ranking metric after the last epoch, mean over the test sets."""
    if record.status != "ok":
        return f"{record.status}: {record.reason}"
    task = tasks[record.trial.task]
    metric = task.metrics[0]
    scores = [score for score in record.scores if score.metric == metric and score.split in task.tests]
    last = max((score.epoch for score in scores), default=0)
    values = [score.value for score in scores if score.epoch == last]
    return f"{metric} {statistics.fmean(values):.4f}" if values else "no score"


def describe_trial(trial: Trial, label: str) -> str:
    """One trial in a few words."""
    rows = f", {trial.train_size} rows" if trial.train_size else ""
    return f"{trial.task} {label} seed {trial.seed}{rows}"


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Silent:
    """Says nothing."""

    def begin(self, labels: Mapping[str, str], total: int, skipped: int) -> None: ...

    def note(self, text: str) -> None: ...

    def started(self, trial: Trial) -> None: ...

    def progress(self, trial: Trial, done: int, total: int) -> None: ...

    def finished(self, record: RunRecord) -> None: ...

    def end(self) -> None: ...


class Lines(Silent):
    """A plain line per finished trial, with the time left by the pace so far."""

    def __init__(self, tasks: Mapping[str, Task], stream: TextIO) -> None:
        self._tasks = tasks
        self._stream = stream
        self._labels: Mapping[str, str] = {}
        self._total = 0
        self._done = 0
        self._began = 0.0

    def begin(self, labels: Mapping[str, str], total: int, skipped: int) -> None:
        self._labels, self._total, self._done, self._began = labels, total, 0, time.monotonic()
        self._print(f"{total} {'trial' if total == 1 else 'trials'} to run, {skipped} already done")

    def note(self, text: str) -> None:
        self._print(text)

    def finished(self, record: RunRecord) -> None:
        self._done += 1
        seconds = (record.finished_at - record.started_at).total_seconds()
        left = (time.monotonic() - self._began) / self._done * (self._total - self._done)
        what = describe_trial(record.trial, self._labels[record.trial.id])
        self._print(
            f"[{self._done}/{self._total}] {what}: {headline(record, self._tasks)} "
            f"({seconds:.1f} s, {duration(left)} left)"
        )

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class Bars(Silent):
    """One bar for the suite and one for each trial under way; a line only for trials that ended badly."""

    def __init__(self, tasks: Mapping[str, Task], stream: TextIO) -> None:
        self._tasks = tasks
        self._labels: Mapping[str, str] = {}
        self._bars: dict[str, TaskID] = {}
        self._display = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=Console(file=stream),
        )

    def begin(self, labels: Mapping[str, str], total: int, skipped: int) -> None:
        self._labels = labels
        for bar in self._display.task_ids:  # of an earlier plan
            self._display.remove_task(bar)
        note = f"{skipped} already done" if skipped else ""
        self._suite = self._display.add_task("trials", total=total, note=note)
        self._display.start()

    def note(self, text: str) -> None:
        self._display.console.print(escape(text), highlight=False)

    def started(self, trial: Trial) -> None:
        name = escape(describe_trial(trial, self._labels[trial.id]))
        self._bars[trial.id] = self._display.add_task(name, total=None, note="")

    def progress(self, trial: Trial, done: int, total: int) -> None:
        self._display.update(self._bars[trial.id], completed=done, total=total)

    def finished(self, record: RunRecord) -> None:
        trial = record.trial
        self._display.remove_task(self._bars.pop(trial.id))
        text = escape(headline(record, self._tasks))
        name = escape(describe_trial(trial, self._labels[trial.id]))
        self._display.update(self._suite, advance=1, note=f"{name}: {text}" if record.status == "ok" else "")
        if record.status != "ok":
            self._display.console.print(f"{name}: {text}", highlight=False)

    def end(self) -> None:
        self._display.stop()
