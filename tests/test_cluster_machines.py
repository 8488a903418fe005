"""What a trial takes of a Ray cluster, and where it is looked for: what can be known without one."""

from __future__ import annotations

import dataclasses
import socket
from typing import Any

import pytest

from harness.campaign import Request
from harness.cluster import machines
from harness.cluster.machines import Cluster, RayMachines, check_cluster
from harness.commands.machines import Where
from harness.errors import UserError
from harness.executors import ThisMachine
from harness.settings import Settings


@pytest.mark.parametrize("gpus", [1.5, -1.0, float("nan"), float("inf")])
def test_gpus_are_whole_ones_or_a_share_of_one(gpus: float) -> None:
    with pytest.raises(UserError, match=r"give a number of GPUs, or a share of one such as 0\.5"):
        check_cluster(Cluster(gpus=gpus), Settings(device="cuda"))
    for sound in (0.0, 0.25, 1.0, 2.0, None):
        check_cluster(Cluster(gpus=sound), Settings(device="cuda"))


def test_options_become_a_cluster_and_local_is_this_machine() -> None:
    assert Where().cluster(Settings()) is None
    assert isinstance(Request("starter", cluster=None).machines(), ThisMachine)
    where = Where("ray", "head:6379", 2, 0.5)
    cluster = where.cluster(Settings())
    assert cluster == Cluster("head:6379", 2, 0.5)
    assert isinstance(Request("starter", cluster=cluster).machines(), RayMachines)


class Told:
    """Stands in for ray: nodes with the resources that it was made with."""

    def __init__(self, *resources: dict[str, float]) -> None:
        self._nodes = [{"Alive": True, "NodeID": "x", "Resources": found} for found in resources]
        self._nodes.append({"Alive": False, "NodeID": "y", "Resources": {"CPU": 100.0, "GPU": 100.0}})

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> list[dict[str, Any]]:
        return self._nodes


@pytest.mark.parametrize(
    ("cluster", "device", "room"),
    [
        (Cluster(), "cpu", 8 + 3),
        (Cluster(cpus=2), "cpu", 4 + 1),
        (Cluster(), "cuda", 2),
        (Cluster(), "auto", 2),  # the cluster has GPUs
        (Cluster(gpus=0.5), "cuda", 4),
        (Cluster(gpus=2.0), "auto", 1),
        (Cluster(gpus=0.0), "auto", 8 + 3),
        (Cluster(cpus=3, gpus=0.1), "auto", 2),
    ],
)
def test_room_is_what_each_node_has_by_itself(
    cluster: Cluster, device: str, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Told({"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0}, {"memory": 1e9})
    monkeypatch.setattr(machines, "_ray", lambda: ray)
    monkeypatch.setattr(machines, "check_nodes", lambda ids, here: asked.append(ids))
    asked: list[list[str]] = []
    found = RayMachines(cluster, Settings(device=device))
    assert found.jobs(0) == room
    assert found.jobs(99) == 99
    assert asked == [["x", "x", "x"]]  # nodes that are there, once


def test_paths_are_absolute_and_threads_are_those_that_are_reserved() -> None:
    relative = dataclasses.replace(Settings(), cache_root=Settings().cache_root.relative_to("/"), models_root=None)
    settings = RayMachines(Cluster(cpus=3), relative)._settings
    assert settings.cache_root.is_absolute()
    assert (settings.models_root, settings.threads) == (None, 3)


def test_an_address_is_a_host_and_a_port_at_which_somebody_answers() -> None:
    for address in ("head", "head:", "head:port", "head:0", "head:65536", "ray://head:10001"):
        with pytest.raises(UserError, match=r"give host:port of the cluster's head"):
            machines._check_answer(address)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        machines._check_answer(address)
    with pytest.raises(UserError, match=rf"no Ray cluster answers at {address} \(Connection refused\)"):
        machines._check_answer(address)
