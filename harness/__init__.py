"""A benchmark harness for parameter-efficient fine-tuning.

    import harness
    harness.run(suite="starter", methods=["lora"], tasks=["paraphrase"], seeds=[0])
    frame = harness.results(suite="starter")

Both are loaded on first use: importing the package stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.python import results, run

__version__ = "0.1.0"
__all__ = ["__version__", "results", "run"]


def __getattr__(name: str) -> Any:
    if name in ("run", "results"):
        from harness import python

        return getattr(python, name)
    raise AttributeError(f"module 'harness' has no attribute '{name}'")
