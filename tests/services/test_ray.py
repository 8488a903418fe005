"""Trials on Ray: as without it, on whichever node; what is lost with a node is run elsewhere.

A cluster of Ray's own test kit: a head without CPUs and two nodes, all on this machine. Most tests share two workers.
"""

from __future__ import annotations

import contextlib
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
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from cli_support import SUITE
from factories import METHODS, TASKS
from factories import make_trial as planned_trial
from pack_support import Heard, make_trial, together

from benchmarks._no_op import run_nothing
from harness import workers as worker_processes
from harness.cluster.machines import Cluster, RayMachines, check_nodes
from harness.cluster.node_check import expected
from harness.errors import UserError
from harness.execution import one_by_one, run_members
from harness.pack.plan import Pack, make_packs
from harness.plugins import discover
from harness.preflight import check_models, model_checks
from harness.progress import Silent
from harness.records import Member, RunRecord
from harness.runner import run_trial
from harness.settings import Settings
from harness.store import open_store
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
PATIENCE = 240.0
"""Seconds that anything in here may take; on a busy machine a node takes half a minute to begin."""
pytestmark = pytest.mark.timeout(900)


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
            self.nodes.append(self.cluster.add_node(num_cpus=2, **SMALL))

    def of(self, pid: int) -> Any:
        """The node on which a process runs."""
        above = {parent.pid for parent in psutil.Process(pid).parents()}
        (found,) = (node for node in self.nodes if above & {raylet(node)})
        return found

    def kill(self, node: Any) -> None:
        """Take a node away without a word, and all that runs on it: Ray would leave its workers a moment more."""
        self.nodes.remove(node)
        on_it = psutil.Process(raylet(node)).children(recursive=True)
        self.cluster.remove_node(node, allow_graceful=False)
        for process in on_it:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(on_it)


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


@pytest.fixture(scope="module")
def toys(toy_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    cache = tmp_path_factory.mktemp("cache")
    return Settings(None, toy_models, cache, device="cpu", threads=1, plugin_files=PLUGINS, pack="2")


@pytest.fixture(scope="module")
def kept_workers(kept_nodes: Nodes, toys: Settings) -> Iterator[Workers]:
    kept_nodes.fill()
    machines = RayMachines(Cluster(kept_nodes.address), toys)
    workers = machines.executor(2)
    assert isinstance(workers, Workers)
    yield workers
    workers.close()
    machines.close()


@pytest.fixture
def workers(kept_workers: Workers, nodes: Nodes) -> Workers:
    return kept_workers


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
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def content(record: RunRecord) -> list[Any]:
    """What may not depend on where a trial ran."""
    assert record.status == "ok", record.traceback
    made = [record.losses, record.scores, record.predictions, record.parameters, record.costs.train_flops]
    return [*made, record.provenance["stack"], record.provenance["commit"]]


def run(workers: Workers, *packs: Trial | Pack) -> Heard:
    """What is heard when trials, alone or in packs, have run."""
    heard = Heard()
    workers.run([(pack,) if isinstance(pack, Trial) else pack for pack in packs], heard)
    return heard


# ------------------------------------------------------------------------------------ as without Ray


def test_runs_are_bit_for_bit_those_of_this_machine_and_steps_are_heard(toys: Settings, workers: Workers) -> None:
    class Steps(Heard):
        def progress(self, trial: Trial, done: int, total: int) -> None:
            steps.append((trial.id, done, total))

    steps: list[tuple[str, int, int]] = []
    heard = Steps()
    alone = [make_trial(toys, method, backbone_dropout=0.1) for method in ("lora", "ft")]
    pack = [make_trial(toys, "lora", seed=seed) for seed in (1, 2)]
    workers.run([*((trial,) for trial in alone), tuple(pack)], heard)
    here = {trial.id: run_trial(trial, toys) for trial in alone} | together(pack, toys)
    assert heard.records.keys() == here.keys()
    for trial_id, record in heard.records.items():
        assert content(record) == content(here[trial_id])
        assert record.provenance["stack"]["threads"] == 1
    assert {trial_id for trial_id, _, _ in steps} == here.keys()
    assert all(total == 2 * 5 for _, _, total in steps)


def test_a_start_is_made_once_for_all_nodes(toys: Settings, workers: Workers) -> None:
    start = Start("warmup", epochs=2, learning_rate=1e-3)
    heard = run(workers, *(make_trial(toys, method, start=start) for method in ("lora", "ft")))
    first, second = heard.records.values()
    assert (first.status, second.status) == ("ok", "ok"), first.traceback + second.traceback
    assert first.costs.start_seconds == second.costs.start_seconds is not None
    assert first.provenance["start_sha256"] == second.provenance["start_sha256"]
    assert len(list((toys.cache_root / "starts").glob("*.safetensors"))) == 1


def test_errors_of_a_plan_are_raised_here(toys: Settings, workers: Workers) -> None:
    trial = make_trial(toys, "lora", parameters={"r": 99})
    checks = model_checks([Member("main", "lora", trial)], discover(toys.plugin_files))
    with pytest.raises(UserError, match="method 'lora' on backbone 'tiny': lora: r = 99"):
        workers.call(check_models, checks)


def test_many_trials_are_stored_once_each(
    toys: Settings, workers: Workers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(workers, "runner", run_nothing)
    members = [Member("main", "lora", planned_trial(seed=seed)) for seed in range(300)]
    packer = partial(make_packs, plugins=discover(), pack="auto", jobs=2)
    with open_store(str(tmp_path / "leaderboard.db")) as store:
        store.describe(METHODS, TASKS)
        for share, cut in ((members[:100], one_by_one), (members, packer)):
            outcome = run_members(share, store, workers, Silent(), cut)
        assert (outcome.ok, outcome.skipped, outcome.left) == (200, 100, 0)
        with store.reading() as connection:
            counts = "SELECT count(*), count(DISTINCT trial_id) FROM runs"
            assert tuple(connection.exec_driver_sql(counts).one()) == (300, 300)


# --------------------------------------------------------------------------------------- what is lost


def test_what_runs_on_a_node_that_is_lost_runs_again_on_another(
    toys: Settings, nodes: Nodes, workers: Workers, tmp_path: Path
) -> None:
    killing = meanwhile(lambda: nodes.kill(nodes.of(appears(tmp_path / "pid"))))
    others = [make_trial(toys, "lora", seed=seed) for seed in range(10, 13)]
    heard = run(workers, waiting(toys, tmp_path / "pid"), *others)
    killing.join(PATIENCE)
    assert not killing.is_alive()
    assert len(nodes.nodes) == 1
    assert [record.status for record in heard.records.values()] == ["ok"] * 4
    assert len(heard.begun) == 4  # nothing is announced twice


@pytest.mark.parametrize("victim", ["process", "keeper"])
def test_a_trial_whose_process_or_keeper_is_killed_is_tried_again(
    victim: str, toys: Settings, workers: Workers, tmp_path: Path
) -> None:
    def kill() -> None:
        process = psutil.Process(appears(tmp_path / "pid"))
        (process if victim == "process" else process.parent()).kill()

    killing = meanwhile(kill)
    heard = run(workers, waiting(toys, tmp_path / "pid"), make_trial(toys, "lora"))
    killing.join(PATIENCE)
    assert not killing.is_alive()
    assert [record.status for record in heard.records.values()] == ["ok", "ok"]


def test_a_trial_that_ends_its_process_has_failed_and_ends_no_other(
    toys: Settings, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "AGAIN", (0.0,))
    trials = [make_trial(toys, method) for method in ("exits", "dies", "lora")]
    records = run(workers, *trials).records
    exits, dies, lora = (records[trial.id] for trial in trials)
    assert (exits.status, exits.reason) == ("failed", "SystemExit: that is all")
    assert (dies.status, lora.status) == ("failed", "ok")
    assert "killed by SIGKILL" in dies.reason
    assert "tried 2 times" in dies.reason


def test_what_hangs_runs_out_of_time_and_its_place_is_taken_by_another(toys: Settings, workers: Workers) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "_settings", dataclasses.replace(toys, timeout=5.0))
        (record,) = run(workers, make_trial(toys, "hangs")).records.values()
    assert (record.status, record.reason) == ("timeout", "it took longer than 5 s, the limit that was set")
    others = [make_trial(toys, "majority", seed=seed) for seed in range(2)]
    assert [record.status for record in run(workers, *others).records.values()] == ["ok", "ok"]


def test_trials_wait_for_a_node_that_is_still_to_come(
    toys: Settings,
    nodes: Nodes,
    workers: Workers,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(worker_processes, "PATIENCE_SECONDS", 1.0)

    for node in list(nodes.nodes):
        nodes.kill(node)
    heard, trial = Heard(), make_trial(toys, "majority")
    running = meanwhile(lambda: workers.run([(trial,)], heard))
    said, end = "", time.monotonic() + PATIENCE
    while "waiting for a node with 1 CPU to spare" not in said:
        assert running.is_alive(), [record.status for record in heard.records.values()]
        assert time.monotonic() < end
        said += capfd.readouterr().err
        time.sleep(0.1)
    nodes.fill()  # here: only the main thread may start one
    running.join(PATIENCE)
    assert not running.is_alive()
    assert [record.status for record in heard.records.values()] == ["ok"]
    assert (said + capfd.readouterr().err).count("waiting for a node") == 1


def test_nodes_that_cannot_stand_in_for_this_machine_are_named(toys: Settings, workers: Workers) -> None:
    import ray

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
            check_nodes(ids, dataclasses.replace(here, **changes))


def test_room_is_counted_by_node_and_none_at_all_is_said(toys: Settings, nodes: Nodes, workers: Workers) -> None:
    machines = RayMachines(Cluster(nodes.address), toys)
    assert (machines.jobs(0), machines.jobs(7)) == (4, 7)
    for more, takes in (({"cpus": 3}, "3 CPUs"), ({"gpus": 0.5}, "1 CPU and 0.5 GPU")):
        other = RayMachines(Cluster(nodes.address, **more), dataclasses.replace(toys, device="auto"))
        with pytest.raises(UserError, match=f"no node of the Ray cluster can carry a trial .{takes}.: start such"):
            other.jobs(0)


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
            env={**os.environ, "HOME": str(tmp_path)},  # where a Ray of its own puts a token
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
    assert "1 trial ended well, 0 did not, 2 were done before." in said
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
