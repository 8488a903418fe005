"""The files of docs/cluster: Ray takes them, and the Slurm script runs, with stand-ins for the programs of Slurm."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from cli_support import SUITE
from typer.testing import CliRunner

from harness.cli import app

TESTS = Path(__file__).resolve().parent.parent
FILES = TESTS.parent / "docs" / "cluster"
PATIENCE = 120.0
RAY = ("--device", "cpu", "--executor", "ray", "--address")


def test_the_file_of_ray_up_is_one_that_ray_takes() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((FILES / "cluster.yaml").read_text()))
    validate_config(config)
    assert config["max_workers"] == len(config["provider"]["worker_ips"]) == 2


def test_every_option_of_ray_start_exists() -> None:
    from ray.scripts.scripts import start

    known = {name for parameter in start.params for name in parameter.opts}
    lines = [line for file in FILES.iterdir() for line in re.findall(r"ray start .*", file.read_text())]
    used = {word for line in lines for word in re.findall(r"--[a-z-]+", line)}
    assert {"--head", "--address", "--block"} <= used <= known
    parameters = yaml.safe_load((FILES / "rayjob.yaml").read_text())["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert {f"--{name}" for name in parameters["rayStartParams"]} <= known


def test_the_job_of_kubernetes_runs_the_pinned_ray_on_one_image_and_one_volume() -> None:
    pinned = re.search(r"^ray==(.+)$", (TESTS.parent / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    cluster = yaml.safe_load((FILES / "rayjob.yaml").read_text())["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == pinned[1]
    assert f"rayproject/ray:{pinned[1]}-" in (FILES / "Dockerfile").read_text()
    pods = [cluster["headGroupSpec"]["template"]["spec"], cluster["workerGroupSpecs"][0]["template"]["spec"]]
    for key in ("image", "env", "volumeMounts"):
        assert pods[0]["containers"][0][key] == pods[1]["containers"][0][key]
    assert pods[0]["volumes"] == pods[1]["volumes"]


STAND_INS = {
    "scontrol": 'echo "$SLURM_JOB_NODELIST"',
    "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
    "ray": f'exec {sys.executable} -c "from ray.scripts.scripts import main; main()" "$@"',
    "python": f'exec {sys.executable} "$@"',
}


@pytest.fixture
def slurm(tmp_path: Path, toy_models: Path) -> Iterator[Any]:
    """Starts the script on two nodes, both of them this machine."""
    suite = tmp_path / "toys.toml"
    waits = f'\n[[method]]\nname = "waits"\nparameters = {{ file = "{tmp_path}/pid" }}\n'
    suite.write_text(SUITE.replace("seeds = [0, 1]", "seeds = [0]") + waits)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, line in STAND_INS.items():
        (programs / name).write_text(f"#!/bin/bash\n{line}\n")
        (programs / name).chmod(0o755)
    import ray

    variables = {"SLURM_JOB_NODELIST": ray.util.get_node_ip_address(), "SLURM_JOB_ID": str(os.getpid())}
    variables |= {"SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "1", "PEFT_HARNESS": str(tmp_path)}
    variables |= {"PYTHONPATH": str(TESTS.parent), "HOME": str(tmp_path)}
    plugins = [word for file in ("cli_support.py", "services/waits.py") for word in ("--plugin", TESTS / file)]
    options = ["--suite", suite, "--models-root", toy_models, "--device", "cpu", *plugins]

    jobs: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        jobs.append(
            subprocess.Popen(
                ["bash", FILES / "harness.sbatch", *options],
                env={**os.environ, **variables},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        )
        return jobs[-1]

    yield start
    for job in jobs:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            job.communicate()


def stored(folder: Path) -> list[tuple[str, str]]:
    if not (folder / "leaderboard.db").exists():
        return []
    with sqlite3.connect(folder / "leaderboard.db") as connection:
        query = "SELECT t.method, r.status FROM runs r JOIN trials t ON t.id = r.trial_id ORDER BY 1, 2"
        return connection.execute(query).fetchall()


def address(pid: int) -> str:
    """Where the Ray of a script listens."""
    words = [word for child in psutil.Process(pid).children() for word in child.cmdline()]
    return words[words.index("--address") + 1]


def test_the_script_of_slurm_runs_is_cut_short_by_the_signal_and_goes_on(slurm: Any, tmp_path: Path) -> None:
    job = slurm()
    end = time.monotonic() + PATIENCE
    while not (tmp_path / "pid").exists() or len(stored(tmp_path)) < 2:
        assert time.monotonic() < end
        assert job.poll() is None, job.communicate()
        time.sleep(0.2)
    stranger = CliRunner().invoke(app, ["run", "--all", "--db", str(tmp_path / "b.db"), *RAY, address(job.pid)])
    assert (stranger.exit_code, stranger.stderr.count("\n")) == (2, 1)
    assert f"the Ray cluster at {address(job.pid)} wants its token: set RAY_AUTH_MODE=token" in stranger.stderr
    children = psutil.Process(job.pid).children(recursive=True)
    job.send_signal(signal.SIGTERM)
    _, said = job.communicate(timeout=PATIENCE)
    assert job.returncode == 1, said
    assert stored(tmp_path) == [("lora", "ok"), ("majority", "ok"), ("waits", "interrupted")]
    assert psutil.wait_procs(children, timeout=60)[1] == []
    again = slurm()
    _, said = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, said
    assert ("waits", "ok") in stored(tmp_path)
    assert "1 trial ended well, 0 did not, 2 were done before." in said
