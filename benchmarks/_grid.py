"""Grids of trials through the harness's public ways in: a suite file, places for its data and weights, one call."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch

import harness
from benchmarks import _common as common
from harness import backbones
from harness.campaign import Request, execute
from harness.progress import Silent
from harness.records import RunRecord
from harness.settings import Settings

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
BACKBONES = {
    "starter": "starter-encoder",
    "minilm": MINILM,
    "roberta-base": "roberta-base",
    "roberta-large": "roberta-large",
}
"""Names on the command line -> names in a suite."""
STARTER = "starter-encoder"


@dataclass(frozen=True)
class Row:
    """A row of a grid: a method with parameters at one learning rate."""

    method: str
    rate: float
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What its results are found under; rows that differ in a parameter are told apart by it."""
        values = "".join(f"-{key}-{value}" for key, value in self.parameters.items())
        return f"{self.method}{values}-{self.rate:g}"


@dataclass(frozen=True)
class Grid:
    """What a generated suite holds: rows x tasks x seeds at one recipe."""

    rows: Sequence[Row]
    tasks: Sequence[str]
    seeds: Sequence[int]
    backbone: str
    """As the suite names it."""
    recipe: Mapping[str, Any]
    train_size: int = 0

    @property
    def trials(self) -> int:
        """How many trials it spells."""
        return len(self.rows) * len(self.tasks) * len(self.seeds)

    def toml(self) -> str:
        """The suite file."""
        lines = ['name = "benchmark"', f"seeds = {list(self.seeds)}", "[recipe]", *_keys(self.recipe)]
        for task in self.tasks:
            lines += ["[[task]]", *_keys({"name": task, "backbone": self.backbone, "train_size": self.train_size})]
        for row in self.rows:
            lines += ["[[method]]", *_keys({"name": row.method, "label": row.label})]
            lines += ["[method.parameters]", *_keys(row.parameters)]
            lines += ["[method.recipe]", *_keys({"learning_rate": row.rate, "head_learning_rate": row.rate})]
        return "\n".join(lines) + "\n"


def _keys(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {json.dumps(value)}" for key, value in values.items()]  # for plain values JSON is TOML


@dataclass(frozen=True)
class GridRun:
    """A grid that was run."""

    seconds: float
    """Wall time from the request to the stored results: planning, checks, training, evaluation, database."""
    frame: pd.DataFrame
    """`harness.results`: a row for each trial."""
    memory: tuple[int, ...] = ()
    """Resident bytes of this process each time a trial had finished."""

    def rows_of(self, label: str, task: str = "") -> pd.DataFrame:
        """The trials of one row, of one task or of all."""
        return self.frame[(self.frame["label"] == label) & ((self.frame["task"] == task) | (not task))]


class _Watcher(Silent):
    """Looks at the process's memory whenever a trial has finished."""

    def __init__(self) -> None:
        self.memory: list[int] = []
        self._process = psutil.Process()

    def finished(self, record: RunRecord) -> None:
        self.memory.append(self._process.memory_info().rss)
        if record.status != "ok":
            raise RuntimeError(f"a trial of the benchmark did not end well: {record.reason}\n{record.traceback}")


def run_grid(suite: Path, pack: str, settings: Settings, jobs: int = 1) -> GridRun:
    """Run all trials of a suite file, in this process or in `jobs`, with an empty database.

    pack: "auto", "off" or a number; jobs: 0 chooses by the machine, as `run` does.
    """
    settings = dataclasses.replace(settings, pack=pack)
    with tempfile.TemporaryDirectory() as folder:
        watcher = _Watcher()
        db = str(Path(folder) / "benchmark.db")
        began = time.perf_counter()
        info, _ = execute(Request(str(suite), settings=settings, db=db, jobs=jobs), lambda tasks: watcher)
        seconds = time.perf_counter() - began
        return GridRun(seconds, harness.results(info.name, db=db), tuple(watcher.memory))


@dataclass(frozen=True)
class Workplace:
    """A folder that a benchmark throws away, and what the harness is to be called with there."""

    folder: Path
    settings: Settings

    def suite(self, grid: Grid) -> Path:
        """The grid's suite file."""
        file = self.folder / "suite.toml"
        file.write_text(grid.toml())
        return file

    def run(self, grid: Grid, pack: str, jobs: int = 1) -> GridRun:
        """`run_grid` of the grid."""
        return run_grid(self.suite(grid), pack, self.settings, jobs)

    def fresh_cache(self) -> Workplace:
        """The same with an empty cache of decompositions, tokens and starts."""
        cache = Path(tempfile.mkdtemp(dir=self.folder))
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, cache_root=cache))


@contextlib.contextmanager
def workplace(device: str, threads: int = 0, models_root: Path | None = None) -> Iterator[Workplace]:
    """A temporary folder with the mirror of rows (`folder`/data), the models root and the cache in it."""
    if threads:
        torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for inner in ("data", "models", "cache"):
            (folder / inner).mkdir()
        if models_root is not None:
            for found in models_root.iterdir():
                (folder / "models" / found.name).symlink_to(found.resolve())
        settings = Settings(folder / "data", folder / "models", folder / "cache", device=device, threads=threads)
        yield Workplace(folder, settings)


def grid_parser(description: str | None) -> argparse.ArgumentParser:
    """The shared parser with what names a backbone, its weights and its precision."""
    made = common.parser(description)
    made.add_argument("--backbone", choices=list(BACKBONES), default="starter")
    made.add_argument("--models-root", type=Path, default=Settings().models_root, help="where MiniLM's weights are")
    made.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    return made


def place_backbone(name: str, work: Workplace, layers: int = 0) -> tuple[str, str]:
    """(the suite's name for a backbone, what it is in words), its weights at hand in the workplace.

    What is neither bundled nor below the models root gets random weights of its dimensions, and the starter's
    tokenizer: a step takes as long. layers: how many it is to have, with random weights; 0 for its own number.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    real = BACKBONES[name]
    if not layers and backbones.find_folder(real, work.settings) is not None:
        return real, name
    config = _minilm_dimensions() if name == "minilm" else backbones.configuration(real, work.settings)
    config.num_hidden_layers = layers or config.num_hidden_layers
    tokenizer = AutoTokenizer.from_pretrained(str(backbones.BUNDLED / STARTER))
    config.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(0)
    made = f"{name}-{layers}-layers" if layers else real
    folder = work.folder / "models" / made
    if folder.parent.is_symlink():
        raise RuntimeError(f"{made} would be written into the models root; give another one")
    with backbones.quiet():
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = f"{config.num_hidden_layers} layers, width {config.hidden_size}"
    return made, f"{name} dimensions ({size}), random weights"


def _minilm_dimensions() -> Any:
    from transformers import BertConfig

    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    return BertConfig(vocab_size=30522, **sizes)


def peak_matmul_rate(device: torch.device, precision: str, sizes: Sequence[int] = (512, 1024, 2048)) -> float:
    """The largest FLOP/s of a square matrix product, median of five for each size, after a warm-up.

    On CUDA 8192 is tried too. In bfloat16, or in float32 under torch's current matmul precision.
    """
    from harness.measure import Stopwatch

    best = 0.0
    for size in [*sizes, 8192] if device.type == "cuda" else sizes:
        matrix = torch.randn(size, size, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
        seconds = []
        with torch.inference_mode():
            for _ in range(7):
                with Stopwatch(device) as watch:
                    matrix @ matrix
                seconds.append(watch.seconds)
        best = max(best, 2 * size**3 / statistics.median(seconds[2:]))
    return best
