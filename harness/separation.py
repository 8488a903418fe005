"""Adaptive seeds: after the planned ones, each next trial goes where it most likely splits a tie.

A further seed is a planned trial under another seed; it joins the suite as a member like any other. All that was
decided follows from the stored runs and the order in which their trials joined: an interrupted command goes on where
it stopped, and never looks more often than it may.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.contests import Contest, contests, places_of
from harness.errors import UserError
from harness.execution import Outcome, PairState
from harness.plugins import Plugins
from harness.predictions import StoredPredictions
from harness.records import Member, SuiteInfo
from harness.standings import Place, table_scores
from harness.stats.pairs import all_pairs
from harness.stats.resampling import TaskScores
from harness.stats.sequential import Course, Spend, State, follow, next_trial
from harness.store import Store

OUT_OF_TIME = "the budget is gone"
HOPELESS = "no further seed is expected to decide them, or a trial of theirs did not end well"


@dataclass(frozen=True)
class Goal:
    """When to stop."""

    margin: float = 0.005
    """Rows that differ by less, on the scale of the scores, are equivalent; 0: none are."""
    budget: float | None = None
    """Seconds for further seeds: no trial begins after them. None: no limit."""


@dataclass(frozen=True)
class Driver:
    """What running a further trial takes."""

    run: Callable[[Sequence[Member]], Outcome]
    note: Callable[[str], None]
    taken: frozenset[int] = frozenset()
    """Seeds that must not be used: those of a tuning search."""


@dataclass(frozen=True)
class _Sight:
    """A contest as the store shows it."""

    scores: list[TaskScores]
    seeds: dict[str, list[int]]
    """By task, in the order of the scores' columns."""
    course: Course


def check_contests(info: SuiteInfo, plugins: Plugins, tuned: bool) -> None:
    """Raise UserError if there is nothing to separate. tuned: rows will join that a search has yet to choose."""
    if not contests(info, plugins) and not tuned:
        raise UserError(
            f"suite '{info.name}' has no two rows to separate in what is selected; controls and curves over training "
            "sizes do not count."
        )


def separate(info: SuiteInfo, plugins: Plugins, goal: Goal, store: Store, driver: Driver) -> Outcome:
    """Run further seeds of the suite's tables, one table after the other, until `goal` is reached."""
    began, total = time.monotonic(), Outcome()
    for contest in contests(info, plugins):
        total += _Separation(info, contest, goal, store, driver).run(began)
        if total.cut_short:
            break
    return total


class _Separation:
    """The further seeds of one contest."""

    def __init__(self, info: SuiteInfo, contest: Contest, goal: Goal, store: Store, driver: Driver) -> None:
        self._info = info
        self._contest = contest
        self._goal = goal
        self._store = store
        self._driver = driver
        self._pairs = all_pairs(len(contest.rows))
        self._tried = {member.trial.id for members in contest.members.values() for member in members}
        self._abandoned: set[int] = set()
        """Rows of which a trial was run and left no score."""

    def run(self, began: float) -> Outcome:
        """Go on until every pair is decided, nothing helps, the budget is gone or the user interrupts."""
        total, ended = Outcome(), ""
        sight = self._look()
        try:
            while (member := self._next(sight)) is not None:
                if self._goal.budget is not None and time.monotonic() - began >= self._goal.budget:
                    ended = OUT_OF_TIME
                    break
                self._announce(member, sight.course)
                self._store.set_suite(replace(self._info, members=(member,)))
                total += self._driver.run([member])
                if total.cut_short:
                    return total
                sight = self._look()
        except KeyboardInterrupt:
            return total + Outcome(interrupted=True)
        pairs = self._states(sight.course)
        left = any(pair.state == "open" for pair in pairs)
        return total + Outcome(pairs=pairs, ended=(ended or HOPELESS) if left else "")

    def _look(self) -> _Sight:
        from harness.scoring import results

        contest = self._contest
        places = places_of(contest, results(self._store, self._info.name), self._info.rank_by)
        scores = table_scores(StoredPredictions(self._store), places, contest.rows, contest.tasks)
        seeds = {task: sorted({place.seed for place in places if place.task == task}) for task in contest.tasks}
        further = [self._spend(place, seeds) for place in places if not self._planned(place)]
        return _Sight(scores, seeds, follow(scores, self._pairs, further, self._goal.margin))

    def _planned(self, place: Place) -> bool:
        return place.seed in {member.trial.seed for member in self._contest.members[place.row, place.task]}

    def _spend(self, place: Place, seeds: dict[str, list[int]]) -> Spend:
        rows, tasks = self._contest.rows, self._contest.tasks
        return Spend(rows.index(place.row), tasks.index(place.task), seeds[place.task].index(place.seed))

    def _next(self, sight: _Sight) -> Member | None:
        """The next trial; rows whose trials leave no score are abandoned on the way."""
        while True:
            course, margin = sight.course, self._goal.margin
            states = [self._state(pair, state) for pair, state in zip(self._pairs, course.states, strict=True)]
            spend = next_trial(sight.scores, self._pairs, course.difference, states, course.look, margin)
            if spend is None:
                return None
            member = self._member(spend, sight)
            if member.trial.id not in self._tried:
                self._tried.add(member.trial.id)
                return member
            self._abandoned.add(spend.row)

    def _state(self, pair: tuple[int, int], state: State) -> State:
        return "abandoned" if state == "open" and self._abandoned & set(pair) else state

    def _member(self, spend: Spend, sight: _Sight) -> Member:
        task = self._contest.tasks[spend.task]
        planned = self._contest.members[self._contest.rows[spend.row], task]
        known = sight.seeds[task]
        if spend.seed < len(known):
            seed = known[spend.seed]
        else:
            seed = 1 + max([*known, *(member.trial.seed for member in planned)])
            while seed in self._driver.taken:
                seed += 1
        return replace(planned[0], trial=replace(planned[0].trial, seed=seed))

    def _announce(self, member: Member, course: Course) -> None:
        still = sum(state == "open" for state in course.states)
        self._driver.note(
            f"{self._contest.grid}: {still} of {len(self._pairs)} pairs are open after look {course.look}; next: "
            f"{member.trial.task} {member.label} seed {member.trial.seed}"
        )

    def _states(self, course: Course) -> list[PairState]:
        grid, rows = self._contest.grid, self._contest.rows
        return [
            PairState(grid, rows[first], rows[second], state)
            for (first, second), state in zip(self._pairs, course.states, strict=True)
        ]
