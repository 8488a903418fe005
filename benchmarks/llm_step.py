"""Tokens per second and peak memory of training steps: the harness's adapted model against the same one under PEFT.

    python benchmarks/llm_step.py --backbone llama-3.2-3b --rows 4 --length 512 --out llm_step.json       # one GPU
    python benchmarks/llm_step.py --backbone llama-3.2-3b --layers 2 --hidden 256 --rows 2 --length 64    # dry run, CPU

A decoder of random weights with the dimensions of a shipped configuration (harness/configs), one random batch, LoRA of
the same rank on the same maps, made twice: attached by the harness, and by `peft` to the `transformers` model. Both are
trained by the same step: forward, loss over all tokens, backward, fused AdamW. With --precision bf16 (the default on
CUDA) the backbone is bfloat16 and the step runs under bfloat16 autocast; else all is float32. Adapters are float32 in
both. Nothing is downloaded. The first losses must agree: LoRA starts as the backbone, and the weights are drawn from
one seed. Peak memory is comparable on CUDA; on a CPU it is the growth of the process, where the first row also pays for
what the libraries load.

--also adds rows that PEFT has no counterpart of: --also 'lora_xs r=64 basis=random' (an SVD of each map takes minutes
at these sizes, and does not change a step). --layers and --hidden cut the model down.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import platform
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness import adapt, backbones, loop, measure
from harness.decompositions import CachedDecompositions
from harness.devices import pick_device
from harness.overrides import parse_overrides
from harness.plugins import discover, make_method
from harness.settings import Settings, default_cache_root
from harness.targets import select_modules

SEED = 0
SETTINGS = Settings(data_root=None, models_root=None)


@dataclass(frozen=True)
class Measured:
    """One row: medians and peaks over the timed steps."""

    name: str
    trainable_params: int
    tokens_per_second: float
    step_seconds: float
    peak_memory_bytes: int | None
    """Device memory of tensors (CUDA), or growth of the process over what it held before the model (CPU)."""
    first_loss: float
    last_loss: float


def configuration(options: argparse.Namespace) -> Any:
    """The shipped configuration, cut down if asked; head sizes and the ratio of widths stay."""
    config = backbones.configuration(options.backbone, SETTINGS)
    if options.layers:
        config.num_hidden_layers = options.layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: options.layers]
    if options.hidden:
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        groups = config.num_attention_heads // config.num_key_value_heads
        config.intermediate_size = round(config.intermediate_size * options.hidden / config.hidden_size)
        config.hidden_size = options.hidden
        config.num_key_value_heads = max(1, options.hidden // head // groups)
        config.num_attention_heads = config.num_key_value_heads * groups
    return config


def decoder(options: argparse.Namespace, device: torch.device) -> nn.Module:
    """The model of random weights, made on the device in its final precision."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(SEED)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    with torch.device(device):
        model: nn.Module = AutoModelForCausalLM.from_config(configuration(options), dtype=dtype)
    return model


def by_harness(model: nn.Module, text: str, options: argparse.Namespace) -> nn.Module:
    """The model with a method of the harness attached: `NAME KEY=VALUE ...`."""
    name, *values = shlex.split(text)
    parameters = {"targets": options.targets} | {item.key: item.value for item in parse_overrides(values)}
    method = make_method(discover().methods[name], parameters)
    decompositions = CachedDecompositions(default_cache_root())
    support = adapt.Support(decompositions, lambda module: model.get_parameter(f"{module}.weight").detach())
    adapt.attach(model, method, (), SEED, support)
    return model


def by_peft(model: nn.Module, options: argparse.Namespace) -> nn.Module:
    """The model under PEFT's LoRA of the same rank and scale, on the same maps."""
    from peft import LoraConfig, get_peft_model

    names = [target.module for target in select_modules(model, options.targets, "all")]
    config = LoraConfig(r=options.rank, lora_alpha=options.rank, target_modules=names, lora_dropout=0.0)
    wrapped: Any = get_peft_model(model, config)
    return wrapped.base_model.model  # the same forward, without the wrapper's own bookkeeping


def measured(name: str, build: Callable[[nn.Module], nn.Module], options: argparse.Namespace) -> Measured:
    """Build the model, warm up, time the steps."""
    device = pick_device(options.device)
    gc.collect()
    memory = measure.MemoryGrowth(device)
    with memory:
        model = build(decoder(options, device)).train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
        batch = random_batch(model, options, device)
        losses, seconds = [], []
        with loop.checkpointing(model, options.gradient_checkpointing):
            for _ in range(options.warmup + options.steps):
                with measure.Stopwatch(device) as watch:
                    losses.append(step(model, optimizer, batch, options.precision))
                seconds.append(watch.seconds)
    median = statistics.median(seconds[options.warmup :])
    count = sum(parameter.numel() for parameter in trained)
    tokens = options.rows * options.length
    return Measured(name, count, tokens / median, median, memory.bytes, float(losses[0]), float(losses[-1]))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Mapping[str, Tensor], precision: str) -> Tensor:
    """One training step; the loss stays on the device."""
    with loop.autocast(batch["input_ids"].device, precision):
        loss = model(**batch, use_cache=False).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    detached: Tensor = loss.detach()
    return detached


def random_batch(model: nn.Module, options: argparse.Namespace, device: torch.device) -> dict[str, Tensor]:
    """[rows, length] random tokens without padding; every token is an answer."""
    config: Any = model.config
    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(config.vocab_size, (options.rows, options.length), generator=generator).to(device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="llama-3.2-3b", choices=backbones.config_names())
    parser.add_argument("--layers", type=int, default=0, help="layers to keep; 0: all")
    parser.add_argument("--hidden", type=int, default=0, help="width; 0: the real one")
    parser.add_argument("--rank", type=int, default=32, help="of LoRA, with alpha = rank")
    parser.add_argument("--targets", default="q,k,v,o,up,down,gate")
    parser.add_argument("--also", action="append", default=[], help="another row: 'NAME KEY=VALUE ...'")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=10, help="timed steps")
    parser.add_argument("--warmup", type=int, default=2, help="steps before")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--precision", choices=("bf16", "fp32"), help="default: bf16 on CUDA, fp32 elsewhere")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    options.precision = options.precision or ("bf16" if pick_device(options.device).type == "cuda" else "fp32")
    return options


def main(arguments: list[str]) -> None:
    """Print the table, and write it with --out."""
    options = parsed(arguments)
    lora = f"lora r={options.rank} alpha={options.rank}"
    builders: dict[str, Callable[[nn.Module], nn.Module]] = {
        f"harness: {lora}": lambda model: by_harness(model, lora, options),
        f"peft: {lora}": lambda model: by_peft(model, options),
    }
    for text in options.also:
        builders[f"harness: {text}"] = lambda model, text=text: by_harness(model, text, options)  # type: ignore[misc]
    device = pick_device(options.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    batch = f"{options.rows} x {options.length} tokens, {options.precision}"
    print(f"{options.backbone}, {batch}, {device} ({where}), torch {torch.__version__}")
    print(f"{'':<44}{'trained':>14}{'tokens/s':>12}{'s/step':>10}{'peak MiB':>12}{'first loss':>12}", flush=True)
    rows = []
    for name, build in builders.items():
        row = measured(name, build, options)
        peak = "–" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 2**20:,.0f}"
        numbers = f"{row.trainable_params:>14,}{row.tokens_per_second:>12,.0f}{row.step_seconds:>10.4f}{peak:>12}"
        print(f"{name:<44}{numbers}{row.first_loss:>12.5f}", flush=True)
        rows.append(row)
    if options.out:
        facts = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
        versions = {"device": str(device), "where": where, "torch": torch.__version__}
        text = json.dumps({"options": facts, **versions, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1)
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
