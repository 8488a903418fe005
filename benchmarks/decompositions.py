"""Seconds per matrix for each factorisation that methods start from.

    python -m benchmarks.decompositions --size 768 --size 1024 --repeat 3

Square standard normal matrices, float32, on the CPU; the median of `--repeat` computations, caches not used. At 4096
LAPACK's routines take minutes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from harness.decompositions import CachedDecompositions, pivoted_qr_by_gram, pivoted_qr_by_lapack

RANK = 16
NOWHERE = Path("/dev/null")


def svd(routine: str) -> Callable[[Tensor], object]:
    """A computation of `RANK` leading singular triplets that finds nothing cached."""
    return lambda matrix: CachedDecompositions(NOWHERE).svd(matrix, RANK, routine)


ROUTINES: dict[str, Callable[[Tensor], object]] = {
    "svd exact": svd("exact"),
    "svd randomized": svd("randomized"),
    "svd niter_16": svd("niter_16"),
    "pivoted qr, LAPACK": pivoted_qr_by_lapack,
    "pivoted qr, Gram": pivoted_qr_by_gram,
    "qr": torch.linalg.qr,
}


def seconds(routine: Callable[[Tensor], object], matrix: Tensor) -> float:
    """Wall time of one computation."""
    began = time.perf_counter()
    routine(matrix)
    return time.perf_counter() - began


def main() -> None:
    """Print one line per routine and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, action="append", help="rows and columns; may be repeated")
    parser.add_argument("--routine", action="append", choices=list(ROUTINES), help="default: all")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for size in options.size or [768, 1024, 4096]:
        matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
        for name in options.routine or list(ROUTINES):
            median = statistics.median(seconds(ROUTINES[name], matrix) for _ in range(options.repeat))
            print(f"{size:>5}  {name:<20} {median:9.3f} s", flush=True)


if __name__ == "__main__":
    main()
