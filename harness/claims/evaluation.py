"""Claims and evidence in, findings out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from harness.claims.comparisons import Comparison
from harness.claims.evidence import Points, points_of
from harness.claims.findings import Finding
from harness.claims.intervals import CAP, Contrast, Judgement, judge
from harness.claims.register import Claim
from harness.scoring import Frame
from harness.suite import MAIN


@dataclass(frozen=True)
class _Attempt:
    """A claim judged on one recorded suite."""

    judgement: Judgement
    points: Points
    setting: str
    """What the recorded suite changed: the text in its brackets; empty for the suite itself."""
    wanted_tasks: int

    @property
    def complete(self) -> bool:
        return not self.setting and len(self.points.tasks) == self.wanted_tasks

    @property
    def where(self) -> str:
        parts = [f"with {self.setting}"] if self.setting else []
        if len(self.points.tasks) < self.wanted_tasks:
            parts.append(f"on {', '.join(self.points.tasks)} ({len(self.points.tasks)} of {self.wanted_tasks} tasks)")
        return " ".join(parts)


def evaluate(claims: Sequence[Claim], evidence: Frame) -> list[Finding]:
    """The finding of each claim, on the frame that `harness.claims.evidence.load` gives."""
    return [
        compare(claim.test, evidence) if isinstance(claim.test, Comparison) else claim.test.finding()
        for claim in claims
    ]


def compare(test: Comparison, evidence: Frame) -> Finding:
    """The finding of a comparison.

    Judged on the suite itself if all its tasks have runs; else partly, on the tasks that have and on every
    recorded variant of the suite (`NAME[key=value]`).
    """
    needs = test.needs
    chosen = evidence["metric"] == needs.metric if needs.metric else evidence["first"]
    asked = {"protocol": needs.protocol, "grid": needs.grid, "split": needs.split}
    usable = evidence[(evidence[list(asked)] == pd.Series(asked)).all(axis=1) & chosen]
    exact = _attempt(test, usable[usable["suite"] == needs.suite], "")
    if exact is not None and exact.complete:
        return Finding(exact.judgement.state, in_words(exact), exact.judgement.further_seeds)
    prefix = f"{needs.suite}["
    variants = sorted(name for name in usable["suite"].unique() if name.startswith(prefix))
    tried = [exact, *(_attempt(test, usable[usable["suite"] == name], name[len(prefix) : -1]) for name in variants)]
    found = [attempt for attempt in tried if attempt is not None]
    if not found:
        return Finding("not run", f"no seed has all of its rows: `python -m harness run {_options(test)}`")
    whys = [f"{attempt.judgement.state} {attempt.where}: {in_words(attempt)}" for attempt in found]
    return Finding("partly", "; ".join(whys))


def _attempt(test: Comparison, rows: Frame, setting: str) -> _Attempt | None:
    """The claim judged on these rows; None if some contrast has no seed."""
    if setting and len(test.sizes) == 1 and rows.groupby("task")["train_size"].nunique().max() == 1:
        rows = rows.assign(train_size=test.sizes[0])  # a variant of another size stands for the one that is claimed
    points = points_of(rows, test.rows, test.needs.tasks, test.sizes)
    contrasts = test.contrasts(points) if points.tasks else []
    if not contrasts or not all(contrast.values for contrast in contrasts):
        return None
    return _Attempt(judge(contrasts), points, setting, len(test.needs.tasks))


def _options(test: Comparison) -> str:
    """What to give `run`: the suite, and its part if that is short to say."""
    methods = [f"--method {label}" for label in dict.fromkeys(test.rows)] if len(test.rows) <= 3 else []
    tasks = [f"--task {test.needs.tasks[0]}"] if len(test.needs.tasks) == 1 else []
    grids = [] if test.needs.grid == MAIN else [f"--grid {test.needs.grid}"]
    return " ".join([f"--suite {test.needs.suite}", *grids, *methods, *tasks])


def in_words(attempt: _Attempt) -> str:
    """The numbers behind a judgement, in one line."""
    judgement, contrast = attempt.judgement, attempt.judgement.about
    seeds = len(contrast.values)
    mean, half = fmean(contrast.values), contrast.half_width()
    spread = f" [{mean - half:+.2f}, {mean + half:+.2f}]" if math.isfinite(half) else ""
    among = f", the closest of {judgement.contrasts} comparisons" if judgement.contrasts > 1 else ""
    text = f"{contrast.about} = {mean:+.2f}{spread} over {seeds} seed{'s' * (seeds > 1)}{among}; {_range(contrast)}"
    if judgement.state != "inconclusive":
        return text
    if judgement.further_seeds is None and not contrast.has_spread:
        return f"{text}; without a spread over seeds nothing is decided: at least 1 more seed"
    more = f"about {judgement.further_seeds}" if judgement.further_seeds is not None else f"more than {CAP}"
    return f"{text}; {more} further seed{'s' * (judgement.further_seeds != 1)} would decide it"


def _range(contrast: Contrast) -> str:
    if contrast.high == math.inf:
        return f"claimed at least {contrast.low:+.2f}"
    if contrast.low == -math.inf:
        return f"claimed at most {contrast.high:+.2f}"
    return f"claimed {contrast.low:+.2f} to {contrast.high:+.2f}"
