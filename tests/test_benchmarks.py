"""The step benchmark on a decoder cut down to seconds: both sides are the same model, and --out says what was run."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

FILE = Path(__file__).resolve().parent.parent / "benchmarks" / "llm_step.py"
CUT = shlex.split("--layers 1 --hidden 64 --rows 2 --length 8 --rank 2 --steps 2 --warmup 1 --device cpu")


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("llm_step", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["llm_step"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("extra", [["--gradient-checkpointing"], ["--precision", "bf16"]])
def test_both_sides_train_the_same_model(benchmark: Any, extra: list[str], tmp_path: Path) -> None:
    also = ["--also", "lora_xs r=2 basis=random"]
    benchmark.main(["--backbone", "llama-3.2-3b", *CUT, *extra, *also, "--out", str(tmp_path / "out.json")])
    written = json.loads((tmp_path / "out.json").read_text())
    ours, theirs, other = written["rows"]
    assert ours["trainable_params"] == theirs["trainable_params"] > other["trainable_params"] == 7 * 2 * 2
    assert ours["first_loss"] == pytest.approx(theirs["first_loss"], rel=1e-3)
    assert ours["last_loss"] < ours["first_loss"]
    assert all(row["tokens_per_second"] == pytest.approx(16 / row["step_seconds"]) for row in written["rows"])
    assert written["options"]["gradient_checkpointing"] == ("--gradient-checkpointing" in extra)


@pytest.mark.parametrize("name", ["llama-3.2-3b", "gemma-2-9b", "mistral-7b"])
def test_the_cut_keeps_the_architecture(benchmark: Any, name: str) -> None:
    options = benchmark.parsed(["--backbone", name, "--layers", "2", "--hidden", "512"])
    whole = benchmark.configuration(benchmark.parsed(["--backbone", name]))
    cut = benchmark.configuration(options)
    assert (cut.num_hidden_layers, cut.hidden_size) == (2, 512)
    assert cut.num_attention_heads // cut.num_key_value_heads == whole.num_attention_heads // whole.num_key_value_heads
    with torch.device("meta"):
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_config(cut)
    assert len(model.model.layers) == 2
