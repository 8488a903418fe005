"""Seconds to tokenise, to read tokens back from disk, and to pad the batches of an epoch.

    HARNESS_DATA=... HARNESS_MODELS=... python benchmarks/collation.py --task mrpc --task rte

Real rows and the tokenizer of all-MiniLM-L6-v2, batches of 32. Padding in Python lists (`itertools.zip_longest`, what
the harness did before) and by NumPy are timed in turn; medians.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import AutoTokenizer

from harness import batching, data
from harness.api import DataRoot
from harness.backbones import find_folder
from harness.plugins import discover
from harness.settings import Settings

BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"


def in_lists(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """Padding as it was."""
    columns = list(itertools.zip_longest(*rows, fillvalue=filler))
    return torch.tensor(columns, dtype=torch.int64).T.contiguous()


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measured(name: str, repeat: int) -> str:
    """One line of the table."""
    settings = Settings()
    task = discover().tasks[name]
    frame = data.load_task(task, DataRoot(settings.data_root)).train
    tokenizer = AutoTokenizer.from_pretrained(find_folder(BACKBONE, settings) or BACKBONE)
    with tempfile.TemporaryDirectory() as folder:

        def encode() -> data.Encoded:
            batching._encoded.clear()
            return data.encode(task, frame, tokenizer, 128, cache_root=Path(folder))

        first, again = seconds(encode), seconds(encode)
        encoded = encode()
    generator = torch.Generator().manual_seed(0)
    batches = data.epoch_batches(encoded.lengths, 32, generator)
    ids, types = list(encoded.input_ids), list(encoded.token_type_ids or ())

    def before() -> None:
        for batch in batches:
            in_lists([ids[row] for row in batch], 0)
            in_lists([[1] * len(ids[row]) for row in batch], 0)
            if types:
                in_lists([types[row] for row in batch], 0)

    def now() -> None:
        for batch in batches:
            data.collate(encoded, batch, 0)

    pairs = [(seconds(before), seconds(now)) for _ in range(repeat)]
    old, new = (statistics.median(times) for times in zip(*pairs, strict=True))
    each = [f"{1e3 * value / len(batches):.3f}" for value in (old, new)]
    cells = [name, f"{len(frame):,}", f"{first:.2f}", f"{again:.3f}", *each, f"{old / new:.1f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", help="default: mrpc, rte")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print("| task | rows | tokenise, s | from disk, s | lists, ms a batch | NumPy, ms a batch | ratio |")
    print("|:---|---:|---:|---:|---:|---:|---:|")
    for name in options.task or ["mrpc", "rte"]:
        print(measured(name, options.repeat), flush=True)


if __name__ == "__main__":
    main()
