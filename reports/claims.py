"""The page of the claims register: what papers say, and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ClaimLine:
    """A claim and its finding, as `python -m harness claims` has them."""

    id: str
    paper: str
    reference: str
    table: str
    quote: str
    """What the paper says, in our words."""
    verdict: str
    why: str


@dataclass(frozen=True)
class PaperClaims:
    """The claims of one paper."""

    paper: str
    reference: str
    lines: list[ClaimLine]

    @property
    def counts(self) -> list[tuple[str, int]]:
        """How many claims have each verdict, the most frequent first."""
        return Counter(line.verdict for line in self.lines).most_common()


def by_paper(lines: Sequence[ClaimLine]) -> list[PaperClaims]:
    """The claims by paper, in order of first appearance."""
    papers = dict.fromkeys((line.paper, line.reference) for line in lines)
    return [PaperClaims(*key, [line for line in lines if (line.paper, line.reference) == key]) for key in papers]
