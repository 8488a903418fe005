"""Whether the suites make what a claim needs; and what a claim leaves out, filled in from its suite."""

from __future__ import annotations

import dataclasses

from harness.built_in_suites import suite_names
from harness.claims.comparisons import Comparison, Needs
from harness.claims.evidence import INITIALISATION_SHARE
from harness.errors import UserError, unknown
from harness.plugins import Plugins
from harness.protocols import PROTOCOLS
from harness.suite import Grid, Suite
from harness.suite_file import load_suite


class Suites:
    """The built-in suites, each read once."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self._read: dict[str, Suite] = {}

    def checked(self, test: Comparison, where: str) -> Needs:
        """The claim's needs with its tasks spelled out; UserError for anything that its suite does not make."""
        needs = test.needs
        if needs.suite not in suite_names():
            raise unknown("suite", needs.suite, suite_names(), where)
        if needs.protocol not in PROTOCOLS:
            raise unknown("protocol", needs.protocol, PROTOCOLS, where)
        suite = self._suite(needs.suite)
        grids = {grid.name: grid for grid in suite.grids}
        if needs.grid not in grids:
            raise unknown("grid", needs.grid, grids, f"{where}, of suite '{suite.name}'")
        grid = grids[needs.grid]
        place = f"{where}, of suite '{suite.name}', grid '{grid.name}'"
        for label in test.rows:
            if test.rows.count(label) > 1:
                raise UserError(f"{place}: row '{label}' is compared with itself; name another.")
            if label not in grid.methods:
                raise unknown("row", label, grid.methods, place)
        for task in needs.tasks:
            if task not in grid.tasks:
                raise unknown("task", task, grid.tasks, place)
        tasks = needs.tasks or tuple(entry.name for entry in suite.tasks if entry.name in grid.tasks)
        self._check_metric(needs.metric, tasks, where)
        for task in tasks:
            if needs.split and needs.split not in self._plugins.tasks[task].tests:
                raise unknown("test set", needs.split, self._plugins.tasks[task].tests, f"{where}, of task '{task}'")
        for size in test.sizes:
            _check_size(size, suite, grid, tasks, place)
        return dataclasses.replace(needs, tasks=tasks)

    def _suite(self, name: str) -> Suite:
        if name not in self._read:
            self._read[name] = load_suite(name, self._plugins)
        return self._read[name]

    def _check_metric(self, metric: str, tasks: tuple[str, ...], where: str) -> None:
        for task in tasks:
            known = [*self._plugins.tasks[task].metrics, INITIALISATION_SHARE]
            if metric and metric not in known:
                raise unknown("metric", metric, known, f"{where}, of task '{task}'")


def _check_size(size: int, suite: Suite, grid: Grid, tasks: tuple[str, ...], where: str) -> None:
    for task in (entry for entry in suite.tasks if entry.name in tasks):
        sizes = {made or task.train_size for made in grid.train_sizes}
        if size and size not in sizes:
            raise unknown("train size", str(size), map(str, sizes), f"{where}, task '{task.name}'")
        if not size and len(sizes) > 1:
            listed = ", ".join(map(str, sorted(sizes)))
            raise UserError(f"{where}: '{task.name}' has the sizes {listed}; say which with train_size.")
