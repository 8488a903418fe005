"""All charts of a suite's pages, each also a file of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports import charts, formats
from reports.comparisons import Comparison
from reports.efficiency import BudgetPanel
from reports.judged import Judged
from reports.marks import Mark
from reports.plots.costs import cost_bars
from reports.plots.differences import critical_differences
from reports.plots.drawing import Chart
from reports.plots.pairs import win_matrix
from reports.plots.tuning import budget_curves, rate_grids, rate_heat_map
from reports.rows import Row
from reports.views import CurvePanel, SuiteView


@dataclass(frozen=True)
class Figures:
    """The charts of one suite; None or empty where there is nothing to draw."""

    scatter: Chart | None = None
    scatter_note: str = ""
    """What lies below the chart."""
    differences: Chart | None = None
    """Average ranks of the first table's rows."""
    costs: tuple[Chart, ...] = ()
    curves: tuple[tuple[CurvePanel, Chart], ...] = ()
    budgets: tuple[tuple[BudgetPanel, Chart], ...] = ()
    rates: tuple[Chart, ...] = ()
    wins: Chart | None = None

    def by_name(self) -> dict[str, Chart]:
        """Every chart by the name of its file."""
        several = {
            "cost": self.costs,
            "training-size": [chart for _, chart in self.curves],
            "budget": [chart for _, chart in self.budgets],
            "learning-rate": self.rates,
        }
        one = {"parameters": self.scatter, "critical-difference": self.differences, "improvement": self.wins}
        named = {name: chart for name, chart in one.items() if chart is not None}
        return named | {f"{name}-{n}": chart for name, found in several.items() for n, chart in enumerate(found, 1)}


def suite_figures(
    view: SuiteView,
    marks: Mapping[str, Mark],
    first: Judged | None,
    comparison: Comparison | None,
    budgets: Sequence[BudgetPanel],
    searched: Sequence[Row],
) -> Figures:
    """Draw a suite. first: its first table, judged; budgets, searched: of its tuning search."""
    scatter, note = _scatter(view, marks, first)
    return Figures(
        scatter,
        note,
        differences=critical_differences(view.main, marks) if view.main else None,
        costs=cost_bars(view.main, marks) if view.main else (),
        curves=tuple((panel, charts.size_curves(panel, marks)) for panel in view.panels),
        budgets=tuple((panel, budget_curves(panel)) for panel in budgets),
        rates=tuple(rate_heat_map(grid) for grid in rate_grids(searched)),
        wins=win_matrix(comparison) if comparison else None,
    )


def _scatter(view: SuiteView, marks: Mapping[str, Mark], first: Judged | None) -> tuple[Chart | None, str]:
    """Score over parameters of the first table, and a note on what lies below the chart."""
    known = {label: found.interval for label, found in first.standings.items() if found.interval} if first else {}
    drawn = charts.score_over_parameters(view.main, marks, known) if view.main else None
    if drawn is None:
        return None, ""
    chart, low = drawn
    below = ", ".join(f"{row.title} ({formats.score(row.average.mean)})" for row in low)
    return chart, f"Below the chart: {below}." if below else ""
