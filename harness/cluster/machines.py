"""Trials on a Ray cluster: how it is reached, what room it has, and whether its nodes can stand in for this machine.

Ray is loaded when a plan begins, not before: it is an optional part of the installation.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.cluster.node_check import Expected, expected
from harness.errors import UserError
from harness.executors import Executor, available_cores
from harness.settings import Settings

OBJECT_STORE_BYTES = 128 * 2**20
"""Of a Ray that is started here: only records pass through it. Ray's own default is a third of the memory."""
ANSWER_SECONDS = 5.0
"""How long the head of a cluster may take to answer."""
NODE_SECONDS = 120.0
"""How long a node may take to tell what it has."""


@dataclass(frozen=True)
class Cluster:
    """Which Ray cluster runs trials, and what each of them takes of it."""

    address: str = ""
    """host:port of its head, or auto; empty: RAY_ADDRESS, else Ray is started on this machine and ended again."""
    cpus: int = 1
    """Of each trial: reserved, and the threads that torch uses."""
    gpus: float | None = None
    """Of each trial; 0.5: two share one. None: one where the device is cuda, or auto and the cluster has any."""


def check_cluster(cluster: Cluster, settings: Settings) -> None:
    """Raise UserError for what makes no sense whatever the cluster is."""
    if cluster.cpus < 1:
        raise UserError(f"--cpus-per-trial {cluster.cpus}: give a number from 1 on.")
    if cluster.gpus is not None and not (
        0 <= cluster.gpus < math.inf and (cluster.gpus <= 1 or cluster.gpus == int(cluster.gpus))
    ):
        raise UserError(f"--gpus-per-trial {cluster.gpus:g}: give a number of GPUs, or a share of one such as 0.5.")
    if cluster.gpus and not settings.device.startswith(("auto", "cuda")):
        raise UserError(f"--gpus-per-trial {cluster.gpus:g} is of no use with --device {settings.device}.")
    if settings.device.startswith("cuda:"):
        raise UserError(f"--device {settings.device}: Ray chooses the GPU of a trial; say --device cuda.")


class RayMachines:
    """The nodes of a Ray cluster."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        check_cluster(cluster, settings)
        self._cluster = cluster
        self._settings = dataclasses.replace(
            settings,
            threads=settings.threads or cluster.cpus,
            data_root=settings.data_root and settings.data_root.absolute(),
            models_root=settings.models_root and settings.models_root.absolute(),
            cache_root=settings.cache_root.absolute(),
            plugin_files=tuple(file.absolute() for file in settings.plugin_files),
        )
        self._connected = self._mine = False

    def jobs(self, asked: int) -> int:
        """As many trials as the nodes that are there now have room for, unless told; then the others wait for room."""
        self._connect(asked)
        room = sum(self._room(node) for node in self._nodes())
        if asked or room:
            return asked or room
        takes = wanted(self._cluster.cpus, self._gpus())
        raise UserError(
            f"no node of the Ray cluster can carry a trial ({takes}): start such nodes, ask for less with "
            "--cpus-per-trial and --gpus-per-trial, or say --jobs N to wait until there are some."
        )

    def executor(self, jobs: int) -> Executor:
        from harness.cluster.ray_links import RayTransport
        from harness.workers import Workers

        self._connect(jobs)
        return Workers(jobs, self._settings, RayTransport(self._settings, self._cluster.cpus, self._gpus()))

    def close(self) -> None:
        """Leave the cluster; a Ray that was started here ends."""
        if self._mine:
            _ray().shutdown()
        self._connected = self._mine = False

    def _connect(self, jobs: int) -> None:
        """Reach the cluster, or start one, and check its nodes; once."""
        if self._connected:
            return
        ray = _ray()
        here = expected(self._settings)
        if not ray.is_initialized():  # else its owner is our caller
            address = self._cluster.address or os.environ.get("RAY_ADDRESS", "")
            if address:
                join(address)
            else:
                start(max(available_cores(), jobs * self._cluster.cpus))
            self._mine = True
        self._connected = True
        check_nodes([node["NodeID"] for node in self._nodes()], here)

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in _ray().nodes() if node["Alive"]]

    def _room(self, node: dict[str, Any]) -> int:
        """Trials at a time on one node, if nobody else is there."""
        resources, gpus = node["Resources"], self._gpus()
        room = int(resources.get("CPU", 0) / self._cluster.cpus)
        return min(room, int(resources.get("GPU", 0) / gpus + 1e-6)) if gpus else room

    def _gpus(self) -> float:
        """GPUs of a trial."""
        if self._cluster.gpus is not None:
            return self._cluster.gpus
        device = self._settings.device
        found = device == "auto" and any(node["Resources"].get("GPU", 0) for node in self._nodes())
        return 1.0 if device == "cuda" or found else 0.0


def wanted(cpus: int, gpus: float) -> str:
    """What a trial takes of its node, for people."""
    return f"{cpus} CPU{'s' if cpus > 1 else ''}" + (f" and {gpus:g} GPU{'s' if gpus > 1 else ''}" if gpus else "")


def start(cpus: int) -> None:
    """Start Ray on this machine, with so many CPUs to give away."""
    with _undisturbed():
        try:
            _ray().init(address="local", num_cpus=cpus, object_store_memory=OBJECT_STORE_BYTES, **_quietly())
        except Exception as error:
            raise UserError(f"Ray does not start on this machine: {_line(error)}.") from error


def join(address: str) -> None:
    """Reach the cluster at an address. Raises UserError at once if nobody answers there."""
    if address != "auto":
        _check_answer(address)
    with _undisturbed():
        try:
            _ray().init(address=address, **_quietly())
        except ConnectionError as error:
            if "AuthenticationError" in str(error.__cause__):
                raise UserError(
                    f"the Ray cluster at {address} wants its token: set RAY_AUTH_MODE=token, and put the token into "
                    "~/.ray/auth_token or the file that RAY_AUTH_TOKEN_PATH names; see docs/cluster.md."
                ) from error
            raise UserError(
                f"no Ray cluster answers at {address}: start one with `ray start --head`, correct --address, or "
                "leave it out to start Ray on this machine."
            ) from error
        except Exception as error:
            raise UserError(
                f"the Ray cluster at {address} cannot be used: {_line(error)}. The driver has to run on one of its "
                "nodes, with the same versions of Python and Ray; see docs/cluster.md."
            ) from error


def _check_answer(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"--address {address}: give host:port of the cluster's head, such as 10.0.0.1:6379, or auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise UserError(
            f"no Ray cluster answers at {address} ({why}): start one with `ray start --head`, correct --address, or "
            "leave it out to start Ray on this machine."
        ) from None


def check_nodes(node_ids: list[str], here: Expected) -> None:
    """Raise UserError if a node has another Python or harness than this machine, or lacks a file or folder."""
    ray = _ray()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = ray.remote(num_cpus=0, max_retries=1)(_probe())
    facts = {item.name: getattr(here, item.name) for item in dataclasses.fields(here)}
    places = [NodeAffinitySchedulingStrategy(node_id, soft=False) for node_id in node_ids]
    asked = [probe.options(scheduling_strategy=place).remote(facts) for place in places]
    for node_id, answer in zip(node_ids, asked, strict=True):
        try:
            name, problem = ray.get(answer, timeout=NODE_SECONDS)
        except ray.exceptions.TaskUnschedulableError:  # the node has just left
            continue
        except ray.exceptions.RayError as error:
            raise UserError(f"node {node_id} of the Ray cluster does not answer: {_line(error)}.") from error
        if problem is not None:
            raise UserError(f"node {name} {problem}.")


def _probe() -> Callable[[dict[str, Any]], tuple[str, str | None]]:
    """A function that Ray carries over by its code, not by its name: nodes without the harness can run it too."""

    def probe(facts: dict[str, Any]) -> tuple[str, str | None]:
        import platform
        import sys

        import ray

        name = f"{platform.node()} ({ray.util.get_node_ip_address()})"
        if sys.version_info[:2] != facts["python"]:
            return name, f"has Python {platform.python_version()}, the driver {'.'.join(map(str, facts['python']))}"
        try:
            from harness.cluster.node_check import Expected, problem
        except ImportError as error:
            return name, f"cannot load the harness ({error}); install the driver's version of it there"
        return name, problem(Expected(**facts))

    return probe


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # without a GPU of its own a trial sees none
    try:
        import ray
    except ImportError:
        raise UserError("--executor ray needs Ray: pip install 'peft-harness[ray]'.") from None
    return ray


def _quietly() -> dict[str, Any]:
    return {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}


def _line(error: BaseException) -> str:
    """What an error of Ray says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ray takes the signal SIGTERM for itself, and prints a line for each try to reach somebody; not in here."""
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # its compiled part writes past sys.stderr
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        for opened in (stderr, nowhere):
            os.close(opened)
        for number, handler in handlers.items():
            signal.signal(number, handler)
