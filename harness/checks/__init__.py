"""The conformance kit: named checks that every method and every task should pass.

For authors, in pytest, in one line: `assert_conforms(MyMethod)`, `assert_conforms(MyTask)`. On the command line:
`python -m harness check NAME|FILE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from harness.api import Baseline, DataRoot, Method, Task
from harness.checks import methods, tasks
from harness.checks.verdicts import Verdict, judge
from harness.plugins import make_method

__all__ = ["Verdict", "assert_conforms", "check_method", "check_task"]


def check_method(cls: type[Method], parameters: Mapping[str, Any] | None = None) -> list[Verdict]:
    """All verdicts on a method with these parameters. A baseline has no model: nothing to check."""
    method = make_method(cls, parameters or {})
    if isinstance(method, Baseline):
        return []
    exemptions = method.exemptions()
    return [judge(check.__name__, partial(check, method), exemptions) for check in methods.CHECKS]


def check_task(task: Task, root: DataRoot | None = None) -> list[Verdict]:
    """All verdicts on a task, its rows read from `root` (default: wherever it reads from without one)."""
    specimen = tasks.Specimen(task, root or DataRoot())
    return [judge(check.__name__, partial(check, specimen), task.exemptions()) for check in tasks.CHECKS]


def assert_conforms(plugin: type[Method] | type[Task], **parameters: Any) -> None:
    """Raise AssertionError that lists every check that failed."""
    verdicts = check_method(plugin, parameters) if issubclass(plugin, Method) else check_task(plugin())
    failed = [f"{verdict.check}: {verdict.reason}" for verdict in verdicts if verdict.status == "failed"]
    assert not failed, f"{plugin.name}: " + "; ".join(failed)
