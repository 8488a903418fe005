"""A suite, or a part of it, from its name to stored runs: what `harness run` and `harness.run` both do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.api import Task
from harness.database import Database
from harness.execution import Outcome, run_members
from harness.executors import automatic_jobs, make_executor
from harness.plugins import Plugins, discover, method_info, task_info
from harness.preflight import check_disk, check_plan
from harness.progress import Reporter
from harness.records import Member, SuiteInfo
from harness.settings import Settings
from harness.store import Store, open_store
from harness.suite import Selection, plan
from harness.suite_file import load_suite

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


def make_plan(request: Request) -> tuple[SuiteInfo, Plugins]:
    """The trials that the request means, and the plugins they need."""
    plugins = discover(request.settings.plugin_files)
    suite = load_suite(request.suite, plugins)
    return plan(suite, request.selection, request.settings, plugins), plugins


def execute(request: Request, make_reporter: ReporterMaker) -> tuple[SuiteInfo, Outcome]:
    """Plan, check everything that can be checked, and run what is not done yet.

    Raises UserError before any training, with the database as it was, if the request cannot be carried out.
    """
    info, plugins = make_plan(request)
    done = finished_trials(request.db, info.members)
    todo = [member for member in info.members if member.trial.id not in done]
    jobs = min(request.jobs or automatic_jobs(request.settings), max(1, len(todo)))
    executor = make_executor(jobs, request.settings)
    try:
        if todo:
            check_plan(todo, plugins, request.settings, executor)
        with _writable(request.db) as store:
            record_plan(store, info, plugins)
            return info, run_members(info.members, store, executor, make_reporter(plugins.tasks))
    finally:
        executor.close()


def finished_trials(db: str, members: Sequence[Member]) -> set[str]:
    """Ids of the members' trials that have an ok run; a database that does not exist yet has none."""
    path = Database(db).path
    if path is not None and not path.exists():
        return set()
    with open_store(db) as store:
        return store.finished([member.trial.id for member in members])


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
    store = open_store(db)
    store.check_writable()
    return store
