"""A benchmark harness for parameter-efficient fine-tuning.

    import harness
    harness.run(suite="starter", methods=["lora"], tasks=["paraphrase"], seeds=[0])
    frame = harness.results(suite="starter")
    model = harness.load_adapter("exported_folder")

All are loaded on first use: importing the package stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.python import load_adapter, results, run

__version__ = "0.1.0"
__all__ = ["__version__", "load_adapter", "results", "run"]


def __getattr__(name: str) -> Any:
    if name in ("load_adapter", "run", "results"):
        from harness import python

        return getattr(python, name)
    raise AttributeError(f"module 'harness' has no attribute '{name}'")
