"""Numbers as text. Every report prints a quantity through the one function that is meant for it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, TypeGuard

from reports.cells import Cell, Span
from reports.views import Board, BoardRow

if TYPE_CHECKING:
    from harness.standings import Standing
    from harness.stats.cells import CellSummary

DASH = "–"
"""What stands for an unknown number, everywhere."""

KEPT = 4096
"""Numbers that are kept as they are printed: most runs of a suite share their counts."""
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def score(value: float | None) -> str:
    """A score times 100 with one decimal: 0.8634 -> "86.3"."""
    return f"{100 * value:.1f}" if _known(value) else DASH


def spread(value: float | None) -> str:
    """A standard deviation times 100 with its sign: 0.004 -> "± 0.4"; "± –" where there is none."""
    return f"± {score(value)}"


def cell(value: Cell, usual_n: int) -> str:
    """ "86.3 ± 0.4", with n where it is one or not the table's usual one; a dash without a score."""
    if value.mean is None:
        return DASH
    n = f" (n={value.n})" if value.n != usual_n or value.n == 1 else ""
    return f"{score(value.mean)} {spread(value.spread)}{n}"


def average(row: BoardRow, usual_n: int) -> str:
    """The row's average as `cell` prints it, or how many tasks it has: "4 of 5 tasks"."""
    return tasks_scored(row) if row.missing else cell(row.average, usual_n)


def tasks_scored(row: BoardRow) -> str:
    """Tasks with a score of all the table's: "4 of 5 tasks"."""
    return f"{len(row.cells) - len(row.missing)} of {plural(len(row.cells), 'task')}"


def interval(standing: Standing | None) -> str:
    """The ends of a row's interval, times 100: "71.2 to 80.5"."""
    if standing is None or standing.interval is None:
        return DASH
    low, high = standing.interval
    return f"{score(low)} to {score(high)}"


def rank(standing: Standing | None) -> str:
    """The ranks that a row may hold: "2", or "1–3"; a dash for a row without a rank."""
    if standing is None or standing.rank is None:
        return DASH
    return ranks(standing.rank.best, standing.rank.worst)


def ends(low: float | None, high: float | None) -> str:
    """The ends of an interval, times 100; a dash without one."""
    return f"{score(low)} to {score(high)}" if _known(low) and _known(high) else DASH


def ranks(best: int | None, worst: int | None) -> str:
    """As `rank`, from the ends of the range."""
    if best is None or worst is None:
        return DASH
    return str(best) if best == worst else f"{best}–{worst}"


def signed(value: float | None) -> str:
    """A difference of scores times 100 with its sign: 0.012 -> "+1.2"."""
    return f"{100 * value:+.1f}" if _known(value) else DASH


def share(value: float | None) -> str:
    """A probability in per cent; never 0 or 100 unless it is: 0.9996 -> "> 99 %"."""
    if not _known(value):
        return DASH
    if 0.99 < value < 1:
        return "> 99 %"
    return "< 1 %" if 0 < value < 0.01 else f"{100 * value:.0f} %"


def seeds(value: CellSummary) -> str:
    """A cell in words: "5 seeds: mean 86.3 ± 1.2 (95 %: 84.0 to 88.1), median 86.1, from 85.0 to 87.4"."""
    between = f" (95 %: {ends(*value.interval)})" if value.interval else ""
    deviation = f" {spread(value.spread)}" if value.spread is not None else ""
    several = f", median {score(value.median)}, from {ends(value.low, value.high)}" if value.seeds > 1 else ""
    return f"{plural(value.seeds, 'seed')}: mean {score(value.mean)}{deviation}{between}{several}"


def p_value(value: float | None) -> str:
    """Three decimals: 0.0004 -> "< 0.001"."""
    if not _known(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def time(value: str) -> str:
    """A stored time to the minute: "2026-01-31 12:00"; a dash without one."""
    return value[:16].replace("T", " ") or DASH


def board_columns(board: Board) -> list[str]:
    """What `board_row` prints after the tasks."""
    forgetting = ["Perplexity before", "Perplexity after"] if board.tells_forgetting else []
    costs = ["Adapter params", "Head params", "FLOPs", "Seconds", "Memory"]
    starts = ["Start seconds", "Share of start"] if board.tells_starts else []
    return ["Average", "95 %", "Rank", *costs, *starts, *forgetting]


def board_row(row: BoardRow, board: Board, standing: Standing | None = None) -> list[str]:
    """Scores, average, standing, costs, starts and perplexities of a table row, in the order of `board_columns`."""
    starts = [seconds(row.starts.whole), seconds(row.starts.share)]
    perplexities = [perplexity(row.perplexities.before), perplexity(row.perplexities.after)]
    return [
        *(cell(value, board.usual_n) for value in row.cells),
        average(row, board.usual_n),
        interval(standing),
        rank(standing),
        span(row.costs.adapter_params),
        span(row.costs.head_params),
        quantity(row.costs.train_flops),
        seconds(row.costs.train_seconds),
        quantity(row.costs.peak_memory_bytes, "B"),
        *(starts if board.tells_starts else []),
        *(perplexities if board.tells_forgetting else []),
    ]


@lru_cache(KEPT)
def count(value: float | None) -> str:
    """A whole number with thousands separators: 294912 -> "294,912"."""
    return f"{value:,.0f}" if _known(value) else DASH


def span(value: Span | None) -> str:
    """A whole number, or the range of it over tasks: "1,024" or "1,024–4,096"."""
    if value is None:
        return DASH
    return count(value.low) if value.low == value.high else f"{count(value.low)}–{count(value.high)}"


@lru_cache(KEPT)
def quantity(value: float | None, unit: str = "") -> str:
    """Three significant digits with an SI prefix: 1.234e12 FLOP -> "1.23 T"; `unit` follows the prefix."""
    if not _known(value):
        return DASH
    step = 0
    while step + 1 < len(_PREFIXES) and abs(float(f"{value:.3g}")) >= 1000:
        value /= 1000
        step += 1
    return f"{_three_digits(value)} {_PREFIXES[step]}{unit}".rstrip()


def short(value: int) -> str:
    """A round number for a tick: 1000 -> "1k", 10000000 -> "10M"."""
    for power in range(len(_PREFIXES) - 1, 0, -1):
        if value >= 1000**power:
            return f"{value // 1000**power}{_PREFIXES[power]}"
    return str(value)


def seconds(value: float | None) -> str:
    """A duration in seconds with three significant digits: 12.34 -> "12.3", 1234.5 -> "1,234"."""
    return _three_digits(value) if _known(value) else DASH


def perplexity(value: float | None) -> str:
    """Two decimals: 12.345 -> "12.35"."""
    return f"{value:,.2f}" if _known(value) else DASH


def train_size(value: int) -> str:
    """A number of training rows: 1000 -> "1,000"; 0 -> "all"."""
    return f"{value:,}" if value else "all"


def plural(number: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(float(f"{value:.3g}")))))
    return f"{value:,.{decimals}f}"


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
