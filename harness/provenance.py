"""Where a run comes from: commit, dirty flag, versions, device, and the stack that times may be compared within."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from harness import __version__
from harness.errors import UserError
from harness.settings import Settings
from harness.source_hashes import files_sha256, source_file

LIBRARIES = (
    "accelerate",
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "evaluate",
    "lm-eval",
    "peft",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "safetensors",
    "sqlalchemy",
)
"""Whose versions are kept."""
COMPUTING = ("torch", "transformers", "numpy", "scipy", "peft")
"""Libraries that compute inside a clock: their versions belong to the stack."""
VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_VISIBLE_DEVICES",
    "HF_DATASETS_OFFLINE",
    "HF_HUB_OFFLINE",
    "NVIDIA_TF32_OVERRIDE",
    "PYTHONHASHSEED",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TOKENIZERS_PARALLELISM",
)
"""Environment variables that are kept if set. An allow-list: tokens and folders never get into a database.

Not those of thread counts, which the harness sets for its workers: the stack has the number that torch was given.
"""
SOURCES = ("harness", "methods", "tasks")
"""Folders of a checkout that decide what a run computes; a change elsewhere does not make it dirty."""
PROJECT = Path(__file__).resolve().parent.parent


def provenance(settings: Settings) -> dict[str, Any]:
    """What is known of the making of a run in this process, as JSON-ready values; None where unknown. Never raises.

    `commit` and `dirty` describe the project's checkout (None if it is installed without one), `dirty_sha256` is a hash
    of what differs, `stack` the hardware and software that times depend on, `environment` the set variables of an
    allow-list, `switches` what torch was told about precision and threads.
    """
    commit, dirty, changes = _checkout(PROJECT)
    return {
        "harness": __version__,
        "commit": commit,
        "dirty": dirty,
        "dirty_sha256": changes,
        "os": platform.platform(),
        "versions": dict(library_versions()),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "switches": _switches(),
        "stack": stack(settings),
    }


def stack(settings: Settings) -> dict[str, Any]:
    """Hardware and software that seconds and throughput depend on. Equal dictionaries: times can be compared."""
    import torch

    device = _device_name(settings)
    return {
        "device": device,
        "processor": _processor(),
        "cores": _cores(),
        "threads": settings.threads or torch.get_num_threads(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "gpu": _gpu(device) if device.startswith("cuda") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: library_versions()[name] for name in COMPUTING},
    }


def _switches() -> dict[str, Any]:
    """Torch's switches that may change a number or a time beyond what the stack names."""
    import torch

    return {
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "default_dtype": str(torch.get_default_dtype()),
        "interop_threads": torch.get_num_interop_threads(),
    }


def _device_name(settings: Settings) -> str:
    from harness.devices import pick_device

    try:
        return str(pick_device(settings.device))
    except UserError:  # a run that failed for this very reason still gets its row
        return settings.device


@functools.cache
def _gpu(device: str) -> dict[str, Any] | None:
    """Name, memory, driver and CUDA version of one CUDA device; None if it cannot be asked."""
    import torch

    try:
        properties = torch.cuda.get_device_properties(device)
    except (RuntimeError, AssertionError, ValueError):
        return None
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _driver() -> str | None:
    """Version of the NVIDIA kernel driver, as Linux tells it."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    found = re.search(r"\b\d{3}\.\d+(?:\.\d+)?\b", text)
    return found[0] if found else None


@functools.cache
def _processor() -> str | None:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or None


def _cores() -> int | None:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def sources_sha256() -> str:
    """Hash of the Python files of the harness, the methods and the tasks that this process would import."""
    return files_sha256((file for room in SOURCES for file in (PROJECT / room).rglob("*.py")), PROJECT)


def sources_have(cls: type[Any]) -> bool:
    """Whether a plugin's file is one of those: `sources_sha256` tells when it changes."""
    file = source_file(cls)
    return file is not None and any(file.resolve().is_relative_to(PROJECT / room) for room in SOURCES)


@functools.cache
def library_versions() -> dict[str, str | None]:
    """Versions of `LIBRARIES`; None for one that is not installed."""
    return {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _checkout(folder: Path) -> tuple[str | None, bool | None, str | None]:
    """Commit of the git checkout at `folder`, whether its `SOURCES` differ from it, and a hash of what differs.

    All None if `folder` is not the top of a checkout: a package installed inside somebody's repository must
    not take that repository's commit for its own.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != folder:
        return None, None, None
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "diff", "--name-only", "-z", "HEAD", "--", *SOURCES)
    new = _git(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", *SOURCES)
    if changed is None or new is None:
        return commit, None, None
    files = [folder / name for name in (changed + "\0" + new).split("\0") if name]
    return commit, bool(files), files_sha256(files, folder) if files else None


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command, None if it fails or there is no git."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
