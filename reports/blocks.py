"""What a document may have filled in from the database, by kind."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from harness import schema
from harness.errors import UserError, unknown
from reports import formats
from reports.cells import Cell
from reports.efficiency import COSTS, Crossing
from reports.judged import Interval, Judged
from reports.markdown import NO_RUN, bullets, escape, leaderboard_markdown, table
from reports.suites import Suite, load
from reports.views import MAIN, Board, CurvePanel

if TYPE_CHECKING:
    from harness.store import Store
    from reports.claims import ClaimLine

PICTURES = "pictures"
"""Folder of a document's pictures, beside it, if its marker names no other."""
BY_RUNS = ("reproduced", "contradicted", "inconclusive", "partly")
"""Verdicts on claims that runs have judged."""


@dataclass(frozen=True)
class Filled:
    """What comes between two markers."""

    text: str
    """Markdown; ends with a newline."""
    pictures: Mapping[str, str] = field(default_factory=dict)
    """SVG by the path from the document's folder."""


class Source:
    """A database as blocks read it; a suite is judged once for all of them."""

    def __init__(self, store: Store, claims: Callable[[], Iterable[ClaimLine]]) -> None:
        self.store = store
        self.claims = claims
        self._suites: dict[str, Suite] = {}

    def suite(self, name: str) -> Suite:
        """UserError for a suite that the database does not have."""
        if name not in self._suites:
            self._suites[name] = load(self.store, name, {}, None)
        return self._suites[name]

    def board(self, name: str, grid: str) -> tuple[Suite, Board | None, Judged | None]:
        """The table of a grid under the suite's protocol, and its statistics."""
        suite = self.suite(name)
        found = {section.grid: section.boards[0] for section in suite.page.view.sections}
        if grid not in found:
            if grid == MAIN and not found:
                return suite, None, None
            raise unknown("grid", grid, list(found), name)
        return suite, found[grid], suite.page.judged.get((grid, found[grid].protocol))


def leaderboard(source: Source, suite: str, grid: str = MAIN) -> Filled:
    """The table of a grid."""
    found, board, judged = source.board(suite, grid)
    return Filled(leaderboard_markdown(found.page.view, board, judged.standings if judged else {}))


def best(source: Source, suite: str, grid: str = MAIN) -> Filled:
    """Which rows may be the best, on each task and, where there are several, in the average."""
    _, board, judged = source.board(suite, grid)
    if board is None or judged is None:
        return Filled(NO_RUN)
    ends: dict[tuple[str, str | None], Interval | None] = {
        (label, None): standing.interval for label, standing in judged.standings.items()
    }
    ends |= {(label, task): interval for (label, task), interval in judged.task_intervals.items()}
    columns: list[tuple[str | None, str, list[Cell]]] = [
        (task.name, f"{task.title} ({task.metric})", [row.cells[index] for row in board.contenders])
        for index, task in enumerate(board.tasks)
    ]
    if len(columns) > 1:
        columns.insert(0, (None, "Average", [row.average for row in board.contenders]))
    first = judged.best()
    lines = []
    for task, title, cells in columns:
        found = [
            (cell.mean, f"{escape(row.title)} {formats.score(cell.mean)} [{formats.ends(*interval)}]")
            for row, cell in zip(board.contenders, cells, strict=True)
            if (row.label, task) in first and cell.mean is not None and (interval := ends.get((row.label, task)))
        ]
        many = f"{len(found)} of {formats.plural(len(cells), 'row')} may be the best"
        names = ", ".join(text for _, text in sorted(found, key=lambda item: -item[0]))
        lines.append(f"{escape(title)}: " + (f"{many}: {names}." if found else "no row has a rank."))
    return Filled(bullets(lines))


def order(source: Source, suite: str, grid: str = MAIN) -> Filled:
    """Which rows are shown to be better than which, in the average: Holm over all pairs."""
    _, board, judged = source.board(suite, grid)
    if board is None or judged is None:
        return Filled(NO_RUN)
    titles = {row.label: escape(row.title) for row in board.contenders}
    above: dict[str, list[str]] = {label: [] for label in titles}
    for better, worse in judged.table.separated:
        above[judged.labels[better]].append(titles[judged.labels[worse]])
    pairs = len(titles) * (len(titles) - 1) // 2
    lines = [f"{titles[label]} above {', '.join(found)}." for label, found in above.items() if found]
    apart = f"{len(judged.table.separated)} of {formats.plural(pairs, 'pair')} are told apart.\n"
    return Filled(f"{apart}\n{bullets(lines)}" if lines else apart)


def protocols(source: Source, suite: str, grid: str = MAIN) -> Filled:
    """The averages of a table when another epoch is shown."""
    found, board, _ = source.board(suite, grid)
    if board is None or not board.usual_n:
        return Filled(NO_RUN)
    boards = next(section.boards for section in found.page.view.sections if section.grid == grid)
    averages = {(shown.protocol, row.label): row.average for shown in boards for row in shown.rows}
    header = ["Average", *(shown.protocol for shown in boards)]
    rows = [
        [row.title, *(formats.cell(averages[shown.protocol, row.label], board.usual_n) for shown in boards)]
        for row in board.rows
    ]
    return Filled(table(header, rows))


def fronts(source: Source, suite: str) -> Filled:
    """How sure it is that a row is on the Pareto front of score against each cost."""
    found = source.suite(suite).page.fronts
    rows = [[row.title, *map(formats.share, row.probabilities)] for row in found]
    return Filled(table(["Row", *COSTS], rows) if rows else NO_RUN)


def sizes(source: Source, suite: str, grid: str) -> Filled:
    """Scores over training sizes, and where curves cross."""
    page = source.suite(suite).page
    panels = [panel for panel in page.view.panels if panel.grid == grid]
    if not panels:
        raise unknown("grid with several training sizes", grid, [panel.grid for panel in page.view.panels], suite)
    crossed = {(panel.grid, panel.task.name): found for panel, found in page.crossings}
    parts = []
    for panel in panels:
        found = crossed.get((panel.grid, panel.task.name), ())
        lines = [_crossing(item) for item in found if item.found.size is not None]
        parts.append(_curves(panel) + (f"\n{bullets(lines)}" if lines else ""))
    return Filled("\n".join(parts))


def _crossing(item: Crossing) -> str:
    (smallest, largest), below, above = item.sizes, item.found.leads_below, item.found.leads_above
    return (
        f"{escape(item.first)} is ahead at {smallest:,} rows (sure to {formats.share(below)}), "
        f"{escape(item.second)} at {largest:,} (sure to {formats.share(above)})."
    )


def _curves(panel: CurvePanel) -> str:
    header = [
        f"{panel.task.title} ({panel.task.metric})",
        *(f"{formats.train_size(size)} rows" for size in panel.sizes),
    ]
    cells = [point.cell.n for curve in panel.curves for point in curve.points]
    usual = Counter(cells).most_common(1)[0][0]
    return table(
        header,
        ([curve.title, *(formats.cell(curve.at(size), usual) for size in panel.sizes)] for curve in panel.curves),
    )


def made(source: Source, suite: str) -> Filled:
    """How the runs of a suite were made: how many, where, from which commits, and what they took."""
    view = source.suite(suite).page.view
    done = [row for row in view.rows if row.status == "ok"]
    if not done:
        return Filled(NO_RUN)
    commits = Counter(
        f"{row.git_commit[:7]}{' with changes' if row.git_dirty else ''}" for row in done if row.git_commit
    )
    seconds = sum((row.train_seconds or 0.0) + (row.eval_seconds or 0.0) + (row.init_seconds or 0.0) for row in done)
    dates = sorted(row.started_at[:10] for row in done if row.started_at)
    stacks = Counter(row.stack_id for row in done if row.stack_id)
    with source.store.reading() as connection:
        known = connection.execute(sa.select(schema.STACKS.c.id, schema.STACKS.c.details)).all()
    details: dict[str, Mapping[str, Any]] = {row.id: row.details for row in known}
    lines = [
        f"{formats.plural(view.done, 'trial')} done, {view.unfinished} not run yet, {len(view.failures)} ended badly; "
        f"from {dates[0]} to {dates[-1]}; {seconds / 3600:.1f} hours of training and evaluation in all.",
        "Commits: " + ", ".join(f"{commit} ({formats.plural(n, 'run')})" for commit, n in commits.most_common()) + ".",
        *(f"{formats.plural(n, 'run')} on {escape(_machine(details[stack]))}." for stack, n in stacks.most_common()),
    ]
    return Filled(bullets(lines))


def _machine(stack: Mapping[str, Any]) -> str:
    gpu = stack.get("gpu") or {}
    where = gpu.get("name") if isinstance(gpu, Mapping) else None
    versions = ", ".join(f"{name} {version}" for name, version in stack.get("versions", {}).items())
    threads = formats.plural(int(stack.get("threads") or 0), "thread")
    return f"{where or stack.get('processor')}, {threads} per trial; {versions}"


def claims(source: Source) -> Filled:
    """What became of the papers' claims."""
    lines = list(source.claims())
    papers = dict.fromkeys(line.paper for line in lines)
    verdicts = dict.fromkeys(line.verdict for line in lines)
    counts = Counter((line.paper, line.verdict) for line in lines)
    rows = [[paper, *(formats.count(counts[paper, verdict]) for verdict in verdicts)] for paper in papers]
    judged = [
        f"{escape(line.paper)}, {escape(line.table)}: {escape(line.quote)} **{line.verdict}**: {escape(line.why)}"
        for line in lines
        if line.verdict in BY_RUNS
    ]
    return Filled(table(["Paper", *verdicts], rows) + (f"\n{bullets(judged)}" if judged else ""))


def plot(source: Source, suite: str, folder: str = PICTURES) -> Filled:
    """Score over adapter parameters, as a picture in a folder below the document's."""
    chart = source.suite(suite).page.plots.scatter
    if chart is None:
        return Filled(NO_RUN)
    name = f"{folder}/{suite}.svg"
    return Filled(f"![{escape(chart.title)}]({name})\n\n{escape(chart.caption)}\n", {name: chart.standalone})


KINDS: Mapping[str, Callable[..., Filled]] = {
    kind.__name__: kind for kind in (leaderboard, best, order, protocols, fronts, sizes, made, claims, plot)
}


def fill(source: Source, kind: str, options: Mapping[str, str], where: str) -> Filled:
    """What a block of this kind says. UserError for what does not exist; `where` names the document."""
    if kind not in KINDS:
        raise unknown("kind of block", kind, list(KINDS), where)
    known = list(inspect.signature(KINDS[kind]).parameters.values())[1:]
    for name in options:
        if name not in [parameter.name for parameter in known]:
            raise unknown(f"option of a block '{kind}'", name, [parameter.name for parameter in known], where)
    for parameter in known:
        if parameter.default is parameter.empty and parameter.name not in options:
            raise UserError(f"{where}: a block '{kind}' needs {parameter.name}=NAME.")
    return KINDS[kind](source, **options)
