"""What became of a claim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Verdict = Literal["reproduced", "contradicted", "inconclusive", "partly", "not run", "holds", "refuted"]
"""Of a comparison: the first five. Partly: judged, but on another backbone, a smaller setting or some of the tasks.
Of a claim that arithmetic decides: holds or refuted."""
VERDICTS: tuple[str, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Finding:
    """A verdict, and why, in one line."""

    verdict: Verdict
    why: str
    further_seeds: int | None = None
    """Inconclusive: how many more seeds would decide it at the spread seen so far; None if more than the cap."""
