"""Small mirrors of the language-model tasks, cut from real rows, and a tiny trial on the bundled decoder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd

from harness.api import parameters_of
from harness.backbones import resolve
from harness.plugins import discover, make_method
from harness.settings import Settings
from harness.trial import Recipe, Trial


def cut_mirror(data_root: Path, folder: Path, files: dict[str, int], column: str, longest: int) -> Path:
    """Copy the first rows of each file whose `column` has at most `longest` characters. Returns the new data root."""
    for name, count in files.items():
        frame = pd.read_parquet(data_root / f"{name}.parquet")
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame[frame[column].str.len() <= longest].head(count).to_parquet(path)
    return folder


def tiny_trial(task: str, settings: Settings, **recipe: object) -> Trial:
    """LoRA for one epoch on the bundled decoder, all of the task's rows."""
    plugins = discover()
    plain = Recipe(epochs=1, batch_size=8, learning_rate=2e-3, max_length=256)
    return Trial(
        backbone=resolve("starter-decoder", settings),
        task=task,
        task_version=plugins.tasks[task].version,
        method="lora",
        parameters=parameters_of(make_method(plugins.methods["lora"], {})),
        recipe=dataclasses.replace(plain, **recipe),  # type: ignore[arg-type]
        seed=0,
    )
