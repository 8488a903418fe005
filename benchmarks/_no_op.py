"""A trial that does nothing, for measuring what surrounds trials. Light: a worker that runs it loads no torch."""

from __future__ import annotations

from collections.abc import Sequence

from harness.clocks import Began
from harness.executors import Listener
from harness.records import RunRecord, Score
from harness.settings import Settings
from harness.trial import Trial


def run_nothing(trials: Sequence[Trial], settings: Settings, listener: Listener) -> None:
    """End each trial well, with one score, at once."""
    for trial in trials:
        began = Began()
        listener.started(trial)
        score = Score(1, "test", "accuracy", 0.5)
        listener.finished(RunRecord(trial, "ok", began.at, began.now(), scores=[score]))
