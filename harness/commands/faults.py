"""Options of `run` for what goes wrong: limits, further tries, checkpoints."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from harness.commands.times import seconds
from harness.errors import UserError, unknown
from harness.records import Status
from harness.settings import Settings

if TYPE_CHECKING:
    from harness.execution import Conduct


@dataclass(frozen=True)
class Faults:
    """What is done about trials that end badly."""

    timeout: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Stop a trial that takes longer (90m, 2h): its process is ended."),
    ] = None
    checkpoint_every: Annotated[
        str | None,
        typer.Option(
            metavar="N|TIME",
            help="Save trainings every N optimizer steps, or every 10m; what was cut short goes on from there. "
            "Trials then run alone, not in packs.",
        ),
    ] = None
    retry: Annotated[
        str | None,
        typer.Option(
            metavar="STATUS,...|none",
            help="Of trials that ended badly before, run only those with these statuses: failed, oom, diverged, "
            "timeout. [all]",
        ),
    ] = None
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast/--keep-going", help="Stop at the first trial that does not end well.")
    ] = False

    def applied(self, settings: Settings) -> Settings:
        """The settings with what was said here."""
        every = self.checkpoint_every or ""
        by_steps = every.isascii() and every.isdecimal()
        if by_steps and (len(every) > 9 or int(every) == 0):
            raise UserError(f"--checkpoint-every {every}: give a number of steps from 1 on, or a time such as 10m.")
        settings = dataclasses.replace(
            settings,
            timeout=0.0 if self.timeout is None else seconds("--timeout", self.timeout),
            checkpoint_steps=int(every) if by_steps else 0,
            checkpoint_seconds=0.0 if by_steps or not every else seconds("--checkpoint-every", every),
        )
        if settings.checkpointed and settings.pack not in ("auto", "off", "1"):
            raise UserError(
                f"--checkpoint-every saves trials that run alone, --pack {settings.pack} trains them together; "
                "leave one of the two out."
            )
        return settings

    def conduct(self) -> Conduct:
        """What becomes of bad ends."""
        from harness.execution import Conduct

        return Conduct(self._retried(), self.fail_fast)

    def _retried(self) -> frozenset[str] | None:
        if self.retry is None:
            return None
        known = [status for status in get_args(Status) if status != "ok"]
        names = [name.strip() for name in self.retry.split(",")]
        if names == ["none"]:
            return frozenset()
        for name in names:
            if name not in known:
                raise unknown("status", name, known, where="--retry")
        return frozenset(names)
