"""`claims`: what became of the papers' claims."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.options import DATABASE, AsJson, Database
from harness.commands.output import print_json, print_table
from harness.garbage_collection import rarely_collected

if TYPE_CHECKING:
    from harness.claims.findings import Finding
    from harness.claims.register import Claim


@rarely_collected()
def claims(
    paper: Annotated[
        str | None, typer.Option(metavar="NAME", help="One paper: QR-LoRA, LoRA-XS, LoRA-SB or LoRA; else all.")
    ] = None,
    db: Database = DATABASE,
    json: AsJson = False,
) -> None:
    """Say what became of each claim of the papers: by arithmetic, or on the runs in the database."""
    from harness.built_in_suites import suite_names
    from harness.claims.evaluation import evaluate
    from harness.claims.evidence import load
    from harness.claims.register import load_claims, of_paper
    from harness.plugins import discover
    from harness.store import open_store

    chosen = load_claims(discover())
    if paper is not None:
        chosen = of_paper(chosen, paper)
    with open_store(db, create=False) as store:
        evidence = load(store, suite_names())
    findings = evaluate(chosen, evidence)
    if json:
        print_json([_as_dict(claim, finding) for claim, finding in zip(chosen, findings, strict=True)])
    else:
        _print(chosen, findings)


def _as_dict(claim: Claim, finding: Finding) -> dict[str, Any]:
    from harness.rows import finite

    described: dict[str, Any] = finite(dataclasses.asdict(claim))
    return {**described, **dataclasses.asdict(finding)}


def _print(claims: list[Claim], findings: list[Finding]) -> None:
    for paper in dict.fromkeys(claim.paper for claim in claims):
        pairs = [pair for pair in zip(claims, findings, strict=True) if pair[0].paper == paper]
        typer.echo(f"{paper}, {pairs[0][0].reference}\n")
        rows = [[finding.verdict, claim.id, claim.table, finding.why] for claim, finding in pairs]
        print_table(["verdict", "claim", "table", "why"], rows)
        typer.echo("")
    counts = Counter(finding.verdict for finding in findings)
    typer.echo(f"{len(findings)} claims: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))
