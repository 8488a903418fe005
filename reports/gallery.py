"""All plots of one suite, by what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.predictions import StoredPredictions
from reports import formats
from reports.bands import curve_bands
from reports.comparisons import Comparison
from reports.efficiency import BudgetPanel
from reports.marks import Mark, mark_of
from reports.overall import Overall
from reports.plots.bars import cost_bars
from reports.plots.chart import Chart
from reports.plots.curves import budget_curves, size_curves
from reports.plots.matrix import rate_map_chart, win_matrix
from reports.plots.profiles import profile_chart
from reports.plots.ranks import critical_difference_diagram
from reports.plots.scatter import Scatter
from reports.rates import rate_map
from reports.rows import Row
from reports.task_ranks import task_ranks
from reports.views import CurvePanel, SuiteView


@dataclass(frozen=True)
class Gallery:
    """The plots of a suite; None or nothing for what it has no runs for."""

    scatter: Chart | None
    scatter_note: str
    """What lies below the plot."""
    ranks: Chart | None
    profiles: Chart | None
    wins: Chart | None
    costs: Chart | None
    sizes: tuple[tuple[CurvePanel, Chart], ...]
    budgets: tuple[tuple[BudgetPanel, Chart], ...]
    rates: Chart | None

    @property
    def charts(self) -> list[Chart]:
        """All of them."""
        single = [self.scatter, self.ranks, self.profiles, self.wins, self.costs, self.rates]
        several = [chart for _, chart in (*self.sizes, *self.budgets)]
        return [chart for chart in single if chart is not None] + several


def gallery(
    stored: StoredPredictions,
    view: SuiteView,
    marks: Mapping[str, Mark],
    scattered: Scatter | None,
    comparison: Comparison | None,
    whole: Overall | None,
    budgets: Sequence[BudgetPanel],
    searched: Sequence[Row],
) -> Gallery:
    """Draw a suite. scattered: what `score_over_parameters` made; searched: the rows of its tuning search."""
    main = view.main
    scatter, low = scattered or (None, [])
    below = ", ".join(f"{row.title} ({formats.score(row.average.mean)})" for row in low)
    ranks = task_ranks(main) if main else None
    rates = rate_map(searched)
    tuned = _search_marks(marks, [curve.label for panel in budgets for curve in panel.curves])
    return Gallery(
        scatter=scatter,
        scatter_note=f"Below the chart: {below}." if below else "",
        ranks=critical_difference_diagram(ranks, marks) if ranks else None,
        profiles=profile_chart(whole, marks) if whole else None,
        wins=win_matrix(comparison, marks) if comparison else None,
        costs=cost_bars(main, marks) if main else None,
        sizes=tuple((panel, size_curves(panel, marks, curve_bands(stored, view, panel))) for panel in view.panels),
        budgets=tuple((panel, budget_curves(panel, tuned)) for panel in budgets),
        rates=rate_map_chart(rates, _search_marks(tuned, [row.label for row in rates.rows])) if rates else None,
    )


def _search_marks(marks: Mapping[str, Mark], labels: Sequence[str]) -> dict[str, Mark]:
    """The suite's marks, and some for rows that only its search has."""
    names = tuple(dict.fromkeys(labels))
    return {label: marks.get(label) or mark_of(label, names, frozenset()) for label in names}
