"""Options of `run` for where trials run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import UserError, unknown
from harness.settings import Settings

if TYPE_CHECKING:
    from harness.cluster.machines import Cluster

EXECUTORS = ("local", "ray")


@dataclass(frozen=True)
class Where:
    """This machine, or a Ray cluster."""

    executor: Annotated[
        str,
        typer.Option(metavar="local|ray", help="ray: trials on the nodes of a Ray cluster; see docs/cluster.md."),
    ] = "local"
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT|auto",
            help="Head of the Ray cluster; else RAY_ADDRESS; without both Ray is started on this machine.",
        ),
    ] = None
    cpus_per_trial: Annotated[
        int | None, typer.Option(metavar="N", help="With ray: CPUs that a trial reserves, and its threads. [1]")
    ] = None
    gpus_per_trial: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="With ray: GPUs that a trial reserves; 0.5: two share one. [1 if there are any]"
        ),
    ] = None

    def cluster(self, settings: Settings) -> Cluster | None:
        """The Ray cluster that is meant, None for this machine; UserError for what makes no sense."""
        from harness.cluster.machines import Cluster, check_cluster

        if self.executor not in EXECUTORS:
            raise unknown("executor", self.executor, EXECUTORS, where="--executor")
        if self.executor == "local":
            for name in ("address", "cpus_per_trial", "gpus_per_trial"):
                if getattr(self, name) is not None:
                    raise UserError(f"--{name.replace('_', '-')} is for --executor ray; say that too, or leave it out.")
            return None
        cpus = 1 if self.cpus_per_trial is None else self.cpus_per_trial
        cluster = Cluster(self.address or "", cpus, self.gpus_per_trial)
        check_cluster(cluster, settings)
        return cluster
