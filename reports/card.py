"""The model card of an exported run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from reports.commands import run_cell

if TYPE_CHECKING:
    from harness.records import MethodInfo
    from harness.store import RunDetails

_TEMPLATES = Path(__file__).parent / "templates"


def export_card(details: RunDetails, method: MethodInfo, export: dict[str, Any]) -> str:
    """Markdown with scores of the exported epoch, provenance, how to load it, and the command that repeats it.

    export: what the export says of itself, its `run.json`.
    """
    record, trial = details.record, details.record.trial
    scores = [score for score in record.scores if score.epoch == export["epoch"]]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    commands = [run_cell(*place, trial.task, trial.seed, trial.train_size) for place in details.members]
    return environment.get_template("card.md").render(
        details=details,
        trial=trial,
        method=method,
        export=export,
        scores=scores,
        counts=record.parameters,
        provenance=record.provenance,
        commands=list(dict.fromkeys(commands)),
    )
