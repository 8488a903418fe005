"""`export`: a run's trained model, to take away."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import DATABASE, AsJson, Database, Places, expanded
from harness.commands.output import print_json

if TYPE_CHECKING:
    from harness.export.folder import Exported


class Form(StrEnum):
    """What to write."""

    PEFT = "peft"
    MERGED = "merged"


class Epoch(StrEnum):
    """Which epoch's weights."""

    SELECTED = "selected"
    LAST = "last"


@expanded
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The first digits of a run's id.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    places: Places,
    format: Annotated[Form, typer.Option(help="A PEFT adapter, or a whole transformers checkpoint.")] = Form.PEFT,
    epoch: Annotated[Epoch, typer.Option(help="The epoch that was best on `select`, or the last.")] = Epoch.SELECTED,
    with_base: Annotated[bool, typer.Option("--with-base", help="Put the backbone beside a PEFT adapter.")] = False,
    db: Database = DATABASE,
    json: AsJson = False,
) -> None:
    """Write the trained model of a run: from tensors that `run --keep-adapters` kept, else by training it again."""
    from harness.export.folder import check_target, write
    from harness.export.trained import rebuild, stored_state
    from harness.store import open_store
    from reports.card import export_card

    check_target(folder)
    with open_store(db, create=False) as store:
        details = store.run(run)
        wanted = stored_state(store, details, epoch.value)
        title = {info.name: info for info in store.methods()}[details.record.trial.method]
    typer.echo(f"run {wanted.run_id}, epoch {wanted.epoch}: {wanted.trial.method} on {wanted.trial.task}", err=True)
    card = partial(export_card, details, title)
    exported = write(rebuild(wanted, places.settings()), folder, format.value, card, with_base)
    _report(exported, json)


def _report(exported: Exported, json: bool) -> None:
    record = exported.record
    if record["agreement"] < 1:
        typer.echo(
            f"warning: trained again on this machine, {record['agreement']:.2%} of the run's test predictions came out "
            "the same; the card says so.",
            err=True,
        )
    if json:
        print_json({"folder": str(exported.folder), "difference": exported.difference, **record})
        return
    typer.echo(
        f"{exported.folder}: loaded again, its logits differ from the trained model's by at most "
        f"{exported.difference:.1e} (largest logit {exported.largest:.3g})"
    )
