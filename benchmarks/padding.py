"""Padding share and seconds per step: random batches, batches from pools of similar length, and batches in parts.

    HARNESS_DATA=... HARNESS_MODELS=... python benchmarks/padding.py --task mrpc --task rte --task mnli --steps 6

Batches of 32 of real rows, tokens of all-MiniLM-L6-v2. `--steps N` also times N training steps of LoRA on it (forward,
backward), whole batches and parts in turn, on the CPU, in processor seconds of all threads: other work on the machine
does not count. Shares are of the first 20,000 training rows.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch

from harness import adapt, backbones, data
from harness.api import DataRoot
from harness.decompositions import CachedDecompositions
from harness.plugins import discover, make_method
from harness.settings import Settings
from harness.splitting import by_length, overhead_for

BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
POOLS = (1, 4, 8, 50)
SETTINGS = Settings(device="cpu")


def seconds(model: torch.nn.Module, encoded: data.Encoded, parts: Sequence[Sequence[int]]) -> float:
    """Forward and backward of one batch."""
    began = time.process_time()
    rows = sum(len(part) for part in parts)
    for part in parts:
        (model(**data.collate(encoded, part, 0)).loss * (len(part) / rows)).backward()
    took = time.process_time() - began
    model.zero_grad()
    return took


def with_lora(name: str) -> tuple[torch.nn.Module, Any]:
    """The backbone for this task, adapted and in training mode, and its tokenizer."""
    plugins = discover()
    loaded = backbones.load(backbones.resolve(BACKBONE, SETTINGS), plugins.tasks[name], 0, SETTINGS)
    model = loaded.model
    support = adapt.Support(
        CachedDecompositions(SETTINGS.cache_root), lambda module: model.get_parameter(f"{module}.weight").detach()
    )
    adapt.attach(model, make_method(plugins.methods["lora"], {}), loaded.head, 0, support)
    return model.train(), loaded.tokenizer


def main() -> None:
    """Print a row per task and pool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", help="default: mrpc, rte, mnli")
    parser.add_argument("--steps", type=int, default=0, help="steps to time; 0: shares only")
    options = parser.parse_args()
    plugins = discover()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(
        "| task | length_pool | padding, whole | padding, in parts | parts a batch | s/step, whole | in parts | ratio |"
    )
    print("|:---|---:|---:|---:|---:|---:|---:|---:|")
    for name in options.task or ["mrpc", "rte", "mnli"]:
        task = plugins.tasks[name]
        train = data.load_task(task, DataRoot(SETTINGS.data_root)).train
        frame = data.subset(train, min(20_000, len(train)), 0, name)
        model, tokenizer = with_lora(name)
        encoded = data.encode(task, frame, tokenizer, 128)
        lengths = encoded.lengths
        overhead = overhead_for(model)
        for pool in POOLS:
            whole = data.epoch_batches(lengths, 32, torch.Generator().manual_seed(0), pool)
            cut = [by_length(batch, lengths, overhead) for batch in whole]
            parts = [part for batch in cut for part in batch]
            cells = [name, str(pool), f"{data.padding_share(lengths, whole):.1%}"]
            cells += [f"{data.padding_share(lengths, parts):.1%}", f"{len(parts) / len(whole):.1f}"]
            times = [
                (seconds(model, encoded, [whole[step]]), seconds(model, encoded, cut[step]))
                for step in range(options.steps)
            ]
            if times:
                one, other = (statistics.mean(column) for column in zip(*times, strict=True))
                cells += [f"{one:.2f}", f"{other:.2f}", f"{one / other:.2f}"]
            print("| " + " | ".join([*cells, "", "", ""][:8]) + " |", flush=True)


if __name__ == "__main__":
    main()
