"""A suite, or a part of it, from its name to stored runs: what `harness run` and `harness.run` both do."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pandas as pd

from harness import file_systems
from harness.api import Task
from harness.checkpoint_files import forget_ended, forget_finished
from harness.cluster.machines import Cluster, RayMachines
from harness.contests import OpenPair, open_pairs
from harness.database import Database
from harness.execution import ORDINARY, Conduct, Outcome, run_members
from harness.executors import Machines, ThisMachine
from harness.pack.plan import check_pack, make_packs
from harness.plugins import Plugins, discover, method_info, task_info
from harness.preflight import check_disk, check_plan
from harness.progress import Reporter
from harness.records import Member, SuiteInfo
from harness.scoring import results
from harness.separation import Driver, Goal, check_contests, separate
from harness.settings import Settings
from harness.store import Store, open_store
from harness.suite import Selection, plan
from harness.suite_file import load_suite
from harness.tuning import TUNED, chosen, search_selection, search_suite, tuned_suite

ReporterMaker = Callable[[Mapping[str, Task]], Reporter]


@dataclass(frozen=True)
class Request:
    """What to run, with what, and where to."""

    suite: str
    """Name of a built-in suite, or a suite file."""
    selection: Selection = field(default_factory=Selection)
    settings: Settings = field(default_factory=Settings)
    db: str = "leaderboard.db"
    jobs: int = 0
    """Trials at a time; 0 chooses by the machine."""
    goal: Goal | None = None
    """With one, further seeds are run after the planned ones until the rows are separated."""
    conduct: Conduct = ORDINARY
    """What becomes of trials that end badly, or did so before."""
    cluster: Cluster | None = None
    """The Ray cluster that runs the trials; None: this machine."""

    def machines(self) -> Machines:
        """Where the trials run; to be closed."""
        return ThisMachine(self.settings) if self.cluster is None else RayMachines(self.cluster, self.settings)


@dataclass(frozen=True)
class Plans:
    """What a request means: the suite's trials and, where it tunes, those of its search, which are run first."""

    info: SuiteInfo
    plugins: Plugins
    search: SuiteInfo | None = None


def make_plan(request: Request) -> Plans:
    """The trials that the request means, and the plugins they need. Tuned rows are in it once their search is done."""
    plugins = discover(request.settings.plugin_files)
    suite = load_suite(request.suite, plugins)
    searched = search_suite(suite, plugins)
    if searched is None:
        return Plans(plan(suite, request.selection, request.settings, plugins), plugins)
    selection = search_selection(request.selection, searched)
    search = None if selection is None else plan(searched, selection, request.settings, plugins)
    choices = {} if search is None else chosen(suite, _results(request.db, search.name), plugins)
    wanted = _with_tuned(request.selection, choices)
    return Plans(plan(tuned_suite(suite, choices, plugins), wanted, request.settings, plugins), plugins, search)


def _with_tuned(selection: Selection, choices: Iterable[tuple[str, str]]) -> Selection:
    """The selection with the tuned row of every row that it names by label."""
    names = selection.filters.methods
    tuned = tuple(sorted({f"{row}{TUNED}" for row, _ in choices if row in names}))
    return replace(selection, filters=replace(selection.filters, methods=names + tuned))


def _results(db: str, suite: str) -> pd.DataFrame:
    """Results of a suite; empty if the database has none of it."""
    with existing_store(db) as store:
        known = store is not None and suite in {summary.name for summary in store.suites()}
        if store is not None and known:
            return results(store, suite)
    return pd.DataFrame(columns=["label", "task", "status", "select_selected"])


def execute(request: Request, make_reporter: ReporterMaker) -> tuple[SuiteInfo, Outcome]:
    """Plan, check everything that can be checked, and run what is not done yet.

    Raises UserError before any training, with the database as it was, if the request cannot be carried out.
    """
    check_pack(request.settings.pack)
    with contextlib.closing(request.machines()) as machines:
        return _execute(request, Means(machines, make_reporter))


@dataclass(frozen=True)
class Means:
    """What a request is carried out with."""

    machines: Machines
    make_reporter: ReporterMaker


def _execute(request: Request, means: Means) -> tuple[SuiteInfo, Outcome]:
    plans, outcome = make_plan(request), Outcome()
    if request.goal is not None:
        check_contests(plans.info, plans.plugins, tuned=plans.search is not None)
    if plans.search is not None:
        outcome = _run(plans.search, plans.plugins, request, means, afterwards=plans.info.members)
        if outcome.cut_short:
            return plans.info, outcome
        plans = make_plan(request)  # with the rows that the search has chosen
    outcome += _run(plans.info, plans.plugins, request, means)
    if request.goal is not None and not outcome.cut_short:
        outcome += _separate(plans, request.goal, request, means)
    return plans.info, outcome


def _separate(plans: Plans, goal: Goal, request: Request, means: Means) -> Outcome:
    """Further seeds, one trial at a time: where the next one goes depends on what this one says."""
    executor = means.machines.executor(1)
    try:
        check_plan(plans.info.members, plans.plugins, request.settings, executor)
        reporter = means.make_reporter(plans.plugins.tasks)
        taken = {member.trial.seed for member in (plans.search.members if plans.search else ())}
        with _writable(request.db) as store:
            run_one = partial(run_members, store=store, executor=executor, reporter=reporter, conduct=_conduct(request))
            return separate(plans.info, plans.plugins, goal, store, Driver(run_one, reporter.note, frozenset(taken)))
    finally:
        executor.close()


def _run(
    info: SuiteInfo,
    plugins: Plugins,
    request: Request,
    means: Means,
    afterwards: Sequence[Member] = (),
) -> Outcome:
    """Check and run what is missing of one suite. `afterwards` is only checked: it will be run after this."""
    todo, later = (_missing(request.db, members) for members in (info.members, afterwards))
    # what is done needs no cluster
    machines = means.machines if todo or later else ThisMachine(request.settings)
    jobs = min(machines.jobs(request.jobs), max(1, len(todo)))
    executor = machines.executor(jobs)
    try:
        if todo or later:
            check_plan([*todo, *later], plugins, request.settings, executor)
        with _writable(request.db) as store:
            record_plan(store, info, plugins)
            if request.settings.checkpointed:
                done = store.finished([member.trial.id for member in info.members])
                forget_finished(request.settings.cache_root, done)
            pack = "off" if request.settings.checkpointed else request.settings.pack
            packer = partial(make_packs, plugins=plugins, pack=pack, jobs=jobs)
            reporter = means.make_reporter(plugins.tasks)
            return run_members(info.members, store, executor, reporter, packer, _conduct(request))
    finally:
        executor.close()


def _conduct(request: Request) -> Conduct:
    """What the request says, and that the checkpoint of a stored run goes."""
    return replace(request.conduct, stored=partial(forget_ended, request.settings.cache_root))


def _missing(db: str, members: Sequence[Member]) -> list[Member]:
    done = finished_trials(db, members)
    return [member for member in members if member.trial.id not in done]


def finished_trials(db: str, members: Sequence[Member]) -> set[str]:
    """Ids of the members' trials that have an ok run; a database that does not exist yet has none."""
    with existing_store(db) as store:
        return set() if store is None else store.finished([member.trial.id for member in members])


def pairs_to_separate(db: str, plans: Plans) -> list[OpenPair]:
    """Pairs of the suite's tables that its runs so far do not separate; none in a database without it."""
    with existing_store(db) as store:
        return [] if store is None else open_pairs(store, plans.info, plans.plugins)


@contextmanager
def existing_store(db: str) -> Iterator[Store | None]:
    """The store at `db`, its schema brought up to date; None, and nothing is made, if there is none yet."""
    path = Database(db).path
    if path is not None and not path.exists():
        yield None
        return
    with open_store(db) as store:
        yield store


def record_plan(store: Store, info: SuiteInfo, plugins: Plugins) -> None:
    """Keep the suite in the database, with what its methods and tasks say of themselves."""
    methods = {member.trial.method for member in info.members}
    tasks = {member.trial.task for member in info.members}
    store.describe(
        [method_info(plugins.methods[name]) for name in sorted(methods)],
        [task_info(plugins.tasks[name]) for name in sorted(tasks)],
    )
    store.set_suite(info)


def _writable(db: str) -> Store:
    path = Database(db).path
    if path is not None and path.absolute().parent.is_dir():
        check_disk(Path(path).absolute().parent)
    if path is not None and (text := file_systems.warning(path)):
        print(f"warning: {text}", file=sys.stderr)
    store = open_store(db)
    store.check_writable()
    return store
