"""Renders `docs/claims.md` from the register: `python -m harness.claims.page > docs/claims.md`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness.claims.comparisons import Comparison
from harness.claims.register import Claim, load_claims
from harness.plugins import discover
from harness.suite import MAIN

INTRODUCTION = """# The claims

<!-- Made by `python -m harness.claims.page > docs/claims.md`; change harness/claims/*.toml instead. -->

What the papers claim, in our own words, and what would show it. `python -m harness claims` says what became of each.

- **reproduced, contradicted**: the runs in the database decide it, by a 95 % t interval over differences paired by
  seed. A claim of several comparisons is contradicted by one of them only at a level divided by their number.
- **inconclusive**: they do not; the line says how many further seeds would, at the spread seen so far. One seed never
  does.
- **partly**: judged on another backbone, a smaller setting (a suite recorded as `NAME[key=value]`), or some of the
  tasks.
- **not run**: the line says which command makes the runs.
- **holds, refuted**: decided by arithmetic on printed numbers. Each stands for all numbers that round to it, so that
  what is refuted cannot be saved by rounding. Bounds (at least, at most) are taken as they are written.
"""


def render() -> str:
    """The whole page as Markdown, paper by paper."""
    claims = load_claims(discover())
    papers = dict.fromkeys((claim.paper, claim.reference) for claim in claims)
    sections = [_section(*paper, [claim for claim in claims if claim.paper == paper[0]]) for paper in papers]
    return "\n".join([INTRODUCTION, *sections])


def _section(paper: str, reference: str, claims: Sequence[Claim]) -> str:
    rows = [f"| `{claim.id}` | {claim.table} | {claim.quote} | {_needed(claim)} |\n" for claim in claims]
    head = "| claim | table | in our words | judged by |\n| --- | --- | --- | --- |\n"
    return f"## {paper} ({reference})\n\n{head}{''.join(rows)}"


def _needed(claim: Claim) -> str:
    """The suite, the grid (unless it is the main one) and the epoch of a comparison; else the kind of arithmetic."""
    if isinstance(claim.test, Comparison):
        needs = claim.test.needs
        grid = "" if needs.grid == MAIN else f", grid {needs.grid}"
        return f"`{needs.suite}`{grid}, {needs.protocol} epoch"
    return claim.kind.replace("_", " ")


if __name__ == "__main__":
    sys.stdout.write(render())
