"""Trials on Ray: as without it, on whichever node; what is lost with a node is run elsewhere.

A cluster of Ray's own test kit: a head without CPUs and two nodes with one each, all on this machine.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from cli_support import SUITE
from pack_support import Heard, make_trial, together
from typer.testing import CliRunner

from harness import workers as worker_processes
from harness.cli import app
from harness.clusters import Cluster, RayMachines, check_nodes
from harness.errors import UserError
from harness.executors import Executor
from harness.node_check import expected
from harness.records import RunRecord
from harness.runner import run_trial
from harness.settings import Settings
from harness.trial import Start, Trial
from harness.workers import Workers

TESTS = Path(__file__).resolve().parent.parent
PLUGINS = (TESTS / "cli_support.py", TESTS / "faults" / "faulty.py", Path(__file__).parent / "waits.py")
QUICK_HEALTH = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}
SMALL = {"object_store_memory": 80 * 2**20}
PATIENCE = 90.0
"""Seconds that anything in here may take."""


class Nodes:
    """The cluster, and which of its nodes a process belongs to."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as TestCluster

        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": QUICK_HEALTH, **SMALL}
        self.cluster: Any = TestCluster(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []
        self.address: str = self.cluster.address

    def fill(self) -> None:
        """Two nodes, whatever became of the ones before."""
        while len(self.nodes) < 2:
            self.nodes.append(self.cluster.add_node(num_cpus=1, **SMALL))

    def of(self, pid: int) -> Any:
        """The node on which a process runs."""
        above = {parent.pid for parent in psutil.Process(pid).parents()}
        (found,) = (node for node in self.nodes if above & {raylet(node)})
        return found

    def kill(self, node: Any) -> None:
        """Take a node away without a word."""
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)


def raylet(node: Any) -> int:
    """The process that stands for a node."""
    (info,) = node.all_processes["raylet"]
    return int(info.process.pid)


@pytest.fixture(scope="module")
def kept_nodes() -> Iterator[Nodes]:
    folder = tempfile.mkdtemp(prefix="ray")  # short: it holds sockets
    before, os.environ["RAY_TMPDIR"] = os.environ.get("RAY_TMPDIR"), folder
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    nodes = Nodes()
    try:
        yield nodes
    finally:
        nodes.cluster.shutdown()
        del os.environ["RAY_TMPDIR"]
        if before is not None:
            os.environ["RAY_TMPDIR"] = before
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def nodes(kept_nodes: Nodes) -> Nodes:
    kept_nodes.fill()
    return kept_nodes


@pytest.fixture
def toys(toys: Settings) -> Settings:
    return dataclasses.replace(toys, plugin_files=PLUGINS)


@pytest.fixture
def executor(nodes: Nodes) -> Iterator[Callable[..., Executor]]:
    """Makes an executor on the cluster."""
    made: list[Any] = []

    def make(settings: Settings, jobs: int = 2) -> Executor:
        machines = RayMachines(Cluster(nodes.address), settings)
        made.append(machines)
        made.append(machines.executor(jobs))
        return made[-1]

    yield make
    for one in reversed(made):
        one.close()


def waiting(settings: Settings, file: Path, **changes: Any) -> Trial:
    """A trial that waits until its process, or its node, is killed."""
    return make_trial(settings, "waits", parameters={"file": str(file)}, epochs=1, **changes)


def appears(file: Path) -> int:
    """The number that a file holds as soon as there is one."""
    end = time.monotonic() + PATIENCE
    while not file.exists():
        assert time.monotonic() < end, f"no {file}"
        time.sleep(0.05)
    return int(file.read_text())


def ended(pids: Sequence[int]) -> bool:
    """Whether the processes end."""
    return psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=PATIENCE)[1] == []


def meanwhile(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def content(record: RunRecord) -> list[Any]:
    """What may not depend on where a trial ran."""
    assert record.status == "ok", record.traceback
    made = [record.losses, record.scores, record.predictions, record.parameters, record.costs.train_flops]
    return [*made, record.provenance["stack"], record.provenance["commit"]]


# ------------------------------------------------------------------------------------ as without Ray


def test_runs_are_bit_for_bit_those_of_this_machine_and_steps_are_heard(
    toys: Settings, executor: Callable[..., Executor]
) -> None:
    class Steps(Heard):
        def progress(self, trial: Trial, done: int, total: int) -> None:
            steps.append((trial.id, done, total))

    steps: list[tuple[str, int, int]] = []
    heard = Steps()
    alone = [make_trial(toys, method, backbone_dropout=0.1) for method in ("lora", "ft")]
    pack = [make_trial(toys, "lora", seed=seed) for seed in (1, 2)]
    executor(dataclasses.replace(toys, pack="2")).run([*((trial,) for trial in alone), tuple(pack)], heard)
    expected_records = {trial.id: run_trial(trial, toys) for trial in alone} | together(pack, toys)
    assert heard.records.keys() == expected_records.keys()
    for trial_id, record in heard.records.items():
        assert content(record) == content(expected_records[trial_id])
        assert record.provenance["environment"]["OMP_NUM_THREADS"] == "1"
    assert {trial_id for trial_id, _, _ in steps} == expected_records.keys()
    assert all(total == 2 * 5 for _, _, total in steps)


def test_a_start_is_made_once_for_all_nodes(toys: Settings, executor: Callable[..., Executor]) -> None:
    start = Start("warmup", epochs=2, learning_rate=1e-3)
    trials = [make_trial(toys, method, start=start) for method in ("lora", "ft")]
    heard = Heard()
    executor(toys).run([(trial,) for trial in trials], heard)
    first, second = heard.records.values()
    assert (first.status, second.status) == ("ok", "ok"), first.traceback + second.traceback
    assert first.costs.start_seconds == second.costs.start_seconds is not None
    assert first.provenance["start_sha256"] == second.provenance["start_sha256"]
    assert len(list((toys.cache_root / "starts").glob("*.safetensors"))) == 1


def test_errors_of_a_plan_are_raised_here(toys: Settings, executor: Callable[..., Executor]) -> None:
    from harness.plugins import discover
    from harness.preflight import check_models, model_checks
    from harness.records import Member

    trial = make_trial(toys, "lora", parameters={"r": 99})
    checks = model_checks([Member("main", "lora", trial)], discover(toys.plugin_files))
    with pytest.raises(UserError, match="method 'lora' on backbone 'tiny': lora: r = 99"):
        executor(toys, 1).call(check_models, checks)


# --------------------------------------------------------------------------------------- what is lost


def test_what_runs_on_a_node_that_is_lost_runs_again_on_another(
    toys: Settings, nodes: Nodes, executor: Callable[..., Executor], tmp_path: Path
) -> None:
    heard, others = Heard(), [make_trial(toys, "lora", seed=seed) for seed in range(3)]

    def kill() -> None:
        nodes.kill(nodes.of(appears(tmp_path / "pid")))

    killing = meanwhile(kill)
    waits = waiting(toys, tmp_path / "pid")
    executor(toys).run([(trial,) for trial in (waits, *others)], heard)
    killing.join()
    assert len(nodes.nodes) == 1
    assert sorted(record.status for record in heard.records.values()) == ["ok"] * 4
    assert len(heard.begun) == 4  # nothing is announced twice


@pytest.mark.parametrize("victim", ["process", "keeper"])
def test_a_trial_whose_process_or_keeper_is_killed_is_tried_again(
    victim: str, toys: Settings, executor: Callable[..., Executor], tmp_path: Path
) -> None:
    def kill() -> None:
        process = psutil.Process(appears(tmp_path / "pid"))
        (process if victim == "process" else process.parent()).kill()

    heard, killing = Heard(), meanwhile(kill)
    waits = waiting(toys, tmp_path / "pid")
    executor(toys, 1).run([(waits,), (make_trial(toys, "lora"),)], heard)
    killing.join()
    assert [record.status for record in heard.records.values()] == ["ok", "ok"]


def test_a_trial_that_ends_its_process_has_failed_and_ends_no_other(
    toys: Settings, executor: Callable[..., Executor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "AGAIN", (0.0,))
    heard = Heard()
    trials = [make_trial(toys, method) for method in ("exits", "dies", "lora")]
    executor(toys, 1).run([(trial,) for trial in trials], heard)
    exits, dies, lora = (heard.records[trial.id] for trial in trials)
    assert (exits.status, exits.reason) == ("failed", "SystemExit: that is all")
    assert (dies.status, lora.status) == ("failed", "ok")
    assert "killed by SIGKILL" in dies.reason
    assert "tried 2 times" in dies.reason


def test_what_hangs_runs_out_of_time_and_ends_no_other(toys: Settings, executor: Callable[..., Executor]) -> None:
    heard = Heard()
    trials = [make_trial(toys, method) for method in ("hangs", "majority")]
    executor(dataclasses.replace(toys, timeout=20.0), 1).run([(trials[0],)], heard)
    (record,) = heard.records.values()
    assert (record.status, record.reason) == ("timeout", "it took longer than 20 s, the limit that was set")


# ------------------------------------------------------------------------------------ from end to end


@pytest.fixture
def command(toys: Settings, nodes: Nodes, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """`run` of toys, among them what waits; by itself in a session of its own, as if in a terminal."""
    suite = tmp_path / "toys.toml"
    waits = f'\n[[method]]\nname = "waits"\nparameters = {{ file = "{tmp_path}/pid" }}\n'
    suite.write_text(SUITE.replace("seeds = [0, 1]", "seeds = [0]") + waits)

    def start(*options: str) -> subprocess.Popen[str]:
        named: dict[str, Any] = {"--suite": suite, "--db": tmp_path / "leaderboard.db", "--device": "cpu"}
        named |= {"--models-root": toys.models_root, "--cache-root": toys.cache_root}
        words = [str(word) for pair in named.items() for word in pair]
        words += [word for plugin in PLUGINS for word in ("--plugin", str(plugin))]
        return subprocess.Popen(
            [sys.executable, "-m", "harness", "run", *words, "--executor", "ray", *options],
            cwd=TESTS.parent,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    return start


def stored(folder: Path) -> list[tuple[str, str]]:
    """Method and status of each run."""
    with sqlite3.connect(folder / "leaderboard.db") as connection:
        query = "SELECT t.method, r.status FROM runs r JOIN trials t ON t.id = r.trial_id ORDER BY 1, 2"
        return connection.execute(query).fetchall()


def settled(folder: Path, runs: int) -> None:
    """Waits until so many runs are stored."""
    end = time.monotonic() + PATIENCE
    while len(stored(folder)) < runs:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_driver_that_is_killed_takes_its_processes_along_and_the_same_command_goes_on(
    command: Callable[..., subprocess.Popen[str]], nodes: Nodes, tmp_path: Path
) -> None:
    driver = command("--address", nodes.address)
    process = appears(tmp_path / "pid")
    settled(tmp_path, 2)
    before = stored(tmp_path)
    keeper = psutil.Process(process).ppid()
    driver.kill()
    driver.communicate()
    assert before == [("lora", "ok"), ("majority", "ok")]
    assert ended([process, keeper])
    again = command("--address", nodes.address)
    output, said = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, said
    assert "1 trials ended well, 0 did not, 2 were done before." in said
    assert "LoRA" in output
    assert stored(tmp_path) == [*before, ("waits", "ok")]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_what_is_under_way_is_recorded_as_interrupted_and_a_ray_of_ours_leaves_no_process(
    end: signal.Signals, command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    driver = command("--jobs", "2")  # no address: Ray is started
    process = appears(tmp_path / "pid")
    settled(tmp_path, 2)
    started = [child.pid for child in psutil.Process(driver.pid).children(recursive=True)]
    assert process in started
    os.killpg(driver.pid, end) if end == signal.SIGINT else driver.send_signal(end)
    _, said = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 1, said
    assert "interrupted: 2 trials ended well, 0 did not, 0 were done before, 1 are left" in said
    assert stored(tmp_path) == [("lora", "ok"), ("majority", "ok"), ("waits", "interrupted")]
    assert ended(started)


# ------------------------------------------------------------------------------------------ wrong use


@pytest.mark.parametrize(
    ("address", "line"),
    [
        (
            "127.0.0.1:9",
            "no Ray cluster answers at 127.0.0.1:9 (Connection refused): start one with",
        ),
        ("ray://head:10001", "--address ray://head:10001: give host:port of the cluster's head, such as"),
    ],
)
def test_an_address_where_no_cluster_answers_is_one_line_before_anything_is_written(
    address: str, line: str, tmp_path: Path
) -> None:
    db = tmp_path / "leaderboard.db"
    result = CliRunner().invoke(
        app, ["run", "--all", "--db", str(db), "--executor", "ray", "--address", address, "--device", "cpu"]
    )
    assert result.exit_code == 2
    assert line in result.stderr
    assert result.stderr.count("\n") == 1
    assert not db.exists()


def test_nodes_that_cannot_stand_in_for_this_machine_are_named_before_training(
    toys: Settings, nodes: Nodes, executor: Callable[..., Executor]
) -> None:
    import ray

    executor(toys)
    here = expected(toys)
    ids = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    check_nodes(ids, here)
    for changes, line in (
        ({"python": (3, 1)}, r"node .+ \(.+\) has Python 3\.\d+\.\d+, the driver 3\.1\."),
        ({"sources": "0"}, r"node .+ has another harness in .+; bring it to the driver's version\."),
        ({"plugins": ((Path("/nowhere/mine.py"), "0"),)}, r"node .+ has no plugin file /nowhere/mine\.py; put it into"),
        ({"models_root": Path("/nowhere")}, r"node .+ has no folder /nowhere \(--models-root\); name one that all"),
    ):
        with pytest.raises(UserError, match=line):
            check_nodes(ids, dataclasses.replace(here, **changes))  # type: ignore[arg-type]


def test_room_is_counted_by_node_and_none_at_all_is_said(toys: Settings, nodes: Nodes) -> None:
    machines = RayMachines(Cluster(nodes.address), toys)
    assert (machines.jobs(0), machines.jobs(7)) == (2, 7)
    for more, wanted in (({"cpus": 2}, "2 CPUs"), ({"gpus": 0.5}, "1 CPU and 0.5 GPU")):
        other = RayMachines(Cluster(nodes.address, **more), dataclasses.replace(toys, device="auto"))  # type: ignore[arg-type]
        with pytest.raises(UserError, match=f"no node of the Ray cluster can carry a trial .{wanted}.: start such"):
            other.jobs(0)
    machines.close()


def test_trials_wait_for_a_node_that_is_still_to_come(
    toys: Settings, nodes: Nodes, executor: Callable[..., Executor], capfd: pytest.CaptureFixture[str]
) -> None:
    from harness import ray_links

    for node in list(nodes.nodes):
        nodes.kill(node)
    workers = executor(toys, 1)
    assert isinstance(workers, Workers)
    before, ray_links.PATIENCE_SECONDS = ray_links.PATIENCE_SECONDS, 1.0
    heard, coming = Heard(), meanwhile(lambda: (time.sleep(3), nodes.fill())[0])
    try:
        workers.run([(make_trial(toys, "majority"),)], heard)
    finally:
        ray_links.PATIENCE_SECONDS = before
        coming.join()
    assert [record.status for record in heard.records.values()] == ["ok"]
    assert capfd.readouterr().err.count("waiting for a node with 1 CPU to spare") == 1
