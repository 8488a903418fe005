"""Tokens per second and peak memory of training steps: the harness's adapted model against the same one under PEFT.

    python -m benchmarks.llm_step --backbone llama-3.2-3b      # one GPU
    python -m benchmarks.llm_step --backbone mistral-7b
    python -m benchmarks.llm_step --quick                      # a dry run on a CPU

A decoder of random weights with the dimensions of a shipped configuration (harness/configs), one random batch, LoRA of
the same rank on the same maps, made twice: attached by the harness, and by `peft` to the `transformers` model. Both are
trained by the same step: forward, loss over the answers' tokens, backward, fused AdamW. With --precision bf16 (the
default on CUDA) the backbone is bfloat16 and the step runs under bfloat16 autocast; else all is float32. Adapters are
float32 in both. Nothing is downloaded. The first losses must agree: LoRA starts as the backbone, and the weights are
drawn from one seed. The sides take turns, --rounds times: each time the model is made anew, warmed up and timed; shown
are the medians of all steps. Peak memory is comparable on CUDA; on a CPU it is the growth of the process, where the
first row also pays for what the libraries load.

--also adds rows that PEFT has no counterpart of: --also 'lora_xs r=64 basis=random' (an SVD of each map takes minutes
at these sizes, and does not change a step). --layers and --hidden cut the model down.
"""

from __future__ import annotations

import argparse
import gc
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import _common as common
from harness import activations, adapt, backbones, loop, measure
from harness.decompositions import CachedDecompositions
from harness.devices import pick_device
from harness.encoded import IGNORED
from harness.overrides import parse_overrides
from harness.plugins import discover, make_method
from harness.settings import Settings, default_cache_root
from harness.shipped import config_names
from harness.targets import select_modules

SEED = 0
SETTINGS = Settings(data_root=None, models_root=None)


@dataclass(frozen=True)
class Measured:
    """One side in one round."""

    trainable_params: int
    step_seconds: float
    """Median of the timed steps."""
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
    adapted: nn.Module = wrapped.base_model.model  # the same forward, without the wrapper's own bookkeeping
    return adapted


def measured(build: Callable[[nn.Module], nn.Module], options: argparse.Namespace) -> Measured:
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
        with activations.checkpointing(model, options.gradient_checkpointing):
            for _ in range(options.warmup + options.steps):
                with measure.Stopwatch(device) as watch:
                    losses.append(step(model, optimizer, batch, options.precision))
                seconds.append(watch.seconds)
    median = statistics.median(seconds[options.warmup :])
    count = sum(parameter.numel() for parameter in trained)
    return Measured(count, median, memory.bytes, float(losses[0]), float(losses[-1]))


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
    """[rows, length] random tokens without padding; the last --answer-share of each row is its answer."""
    config: Any = model.config
    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(config.vocab_size, (options.rows, options.length), generator=generator).to(device)
    prompt = round(options.length * (1 - options.answer_share))
    labels = ids.clone()
    labels[:, :prompt] = IGNORED
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def measure_all(options: argparse.Namespace) -> dict[str, list[Measured]]:
    """Every side in turn, by name."""
    lora = f"lora r={options.rank} alpha={options.rank}"
    builders: dict[str, Callable[[nn.Module], nn.Module]] = {
        f"harness: {lora}": partial(by_harness, text=lora, options=options),
        f"peft: {lora}": partial(by_peft, options=options),
    }
    for text in options.also:
        builders[f"harness: {text}"] = partial(by_harness, text=text, options=options)
    sides = {name: partial(measured, build, options) for name, build in builders.items()}
    return common.interleaved(sides, options.rounds)


COLUMNS = ("side", "trained", "tokens/s", "over peft", "s/step", "peak MiB", "over peft", "first loss")


def table(found: Mapping[str, Sequence[Measured]], tokens: int) -> common.Table:
    """Medians over rounds, largest peaks, and ratios to PEFT's."""
    seconds = {name: statistics.median(run.step_seconds for run in runs) for name, runs in found.items()}
    peaks = {name: peak(runs) for name, runs in found.items()}
    peer = next(name for name in found if name.startswith("peft"))
    rows: list[tuple[common.Cell, ...]] = []
    for name, runs in found.items():
        mine, other = peaks[name], peaks[peer]
        memory = (None, None) if mine is None else (mine / 2**20, mine / other if other else None)
        speed = (tokens / seconds[name], seconds[peer] / seconds[name], seconds[name])
        rows.append((name, runs[0].trainable_params, *speed, *memory, runs[0].first_loss))
    return common.Table("Steps; medians", COLUMNS, tuple(rows))


def peak(runs: Sequence[Measured]) -> int | None:
    """The largest peak of the rounds."""
    return max((run.peak_memory_bytes for run in runs if run.peak_memory_bytes is not None), default=None)


def benchmark(options: argparse.Namespace) -> common.Result:
    """Measure all sides."""
    facts = common.machine(Settings(data_root=None, models_root=None, device=options.device))
    shown = table(measure_all(options), options.rows * options.length)
    whole = common.is_cuda(facts) and not (options.quick or options.layers or options.hidden)
    speed, memory = (shown.rows[0][COLUMNS.index("tokens/s") + 1], shown.rows[0][COLUMNS.index("peak MiB") + 1])
    assert isinstance(speed, float)
    assert isinstance(memory, float | None)
    lean = None if memory is None or not whole else memory <= 0.85
    return common.Result(
        name=f"llm_step-{options.backbone}-{pick_device(options.device).type}",
        title=f"Training steps: {options.backbone}, random weights",
        command=options.command,
        quick=options.quick,
        options=common.plain_options(options),
        notes=(
            f"{options.rows} x {options.length} tokens, {options.answer_share:.0%} answers; {options.precision}; "
            f"gradient checkpointing {'on' if options.gradient_checkpointing else 'off'}",
            f"{options.rounds} rounds of {options.steps} steps each",
        ),
        tables=(shown,),
        targets=(
            common.Target("tokens per second over peft", "at least 1.15", speed, speed >= 1.15 if whole else None),
            common.Target("peak memory over peft", "at most 0.85", memory, lean),
        ),
        machine=facts,
    )


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    made = common.parser(__doc__)
    made.add_argument("--backbone", default="llama-3.2-3b", choices=config_names())
    made.add_argument("--layers", type=int, default=0, help="layers to keep; 0: all")
    made.add_argument("--hidden", type=int, default=0, help="width; 0: the real one")
    made.add_argument("--rank", type=int, default=32, help="of LoRA, with alpha = rank")
    made.add_argument("--targets", default="q,k,v,o,up,down,gate")
    made.add_argument("--also", action="append", default=[], help="another row: 'NAME KEY=VALUE ...'")
    made.add_argument("--rows", type=int, default=4)
    made.add_argument("--length", type=int, default=768)
    made.add_argument("--answer-share", type=float, default=1.0, help="share of each row that carries the loss")
    made.add_argument("--rounds", type=int, default=2)
    made.add_argument("--steps", type=int, default=10, help="timed steps of a round")
    made.add_argument("--warmup", type=int, default=2, help="steps before")
    made.add_argument("--gradient-checkpointing", action="store_true")
    made.add_argument("--precision", choices=("bf16", "fp32"), help="default: bf16 on CUDA, fp32 elsewhere")
    toy = {"layers": 1, "hidden": 64, "rank": 2, "rows": 2, "length": 8, "rounds": 1, "steps": 2, "warmup": 1}
    options = common.parse(made, "llm_step", arguments, **toy)
    options.precision = options.precision or ("bf16" if pick_device(options.device).type == "cuda" else "fp32")
    return options


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write."""
    options = parsed(arguments)
    common.report(benchmark(options), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
