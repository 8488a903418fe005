"""Peak memory of LoRA-SB's gradient estimate against depth: hooks that take each gradient, and one plain backward.

    python -m benchmarks.gradient_memory --depth 2 --depth 8 --hidden 512

A random Llama-like decoder, one batch, every linear map targeted. "hooks" is `harness.gradients.estimate_gradients`;
"backward" keeps all gradients until the end, as `loss.backward()` does. Activations and the model itself grow with
depth for both and are left out: the figure is the peak of gradient bytes alive on the device at once. On CUDA the
device's own peak is printed beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.gradients import estimate_gradients
from harness.targets import select_modules
from methods.lora_sb import LoraSB

TARGETS = "q,k,v,o,up,down,gate"


@dataclass
class Alive:
    """Bytes of parameter gradients at their highest."""

    peak: int = 0


@contextmanager
def watched(model: nn.Module) -> Iterator[Alive]:
    """Looks at every gradient on the device whenever one has been accumulated, before other hooks take it."""
    alive = Alive()
    parameters = list(model.parameters())

    def look(_: Tensor) -> None:
        held = sum(p.grad.nbytes for p in parameters if p.grad is not None)
        alive.peak = max(alive.peak, held)

    for parameter in parameters:
        parameter.requires_grad_(True)
    handles = [parameter.register_post_accumulate_grad_hook(look) for parameter in parameters]
    try:
        yield alive
    finally:
        for handle in handles:
            handle.remove()


def decoder(depth: int, hidden: int, device: torch.device) -> nn.Module:
    """A Llama of random weights."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    heads = max(1, hidden // 64)
    sizes = {"hidden_size": hidden, "intermediate_size": 3 * hidden, "num_hidden_layers": depth}
    config = LlamaConfig(vocab_size=256, num_attention_heads=heads, num_key_value_heads=heads, **sizes)
    model: nn.Module = AutoModelForCausalLM.from_config(config).to(device)
    return model


def plain(model: nn.Module, batch: Mapping[str, Tensor]) -> None:
    """One backward that keeps the gradients of all targeted maps."""
    model.requires_grad_(False)
    for target in select_modules(model, TARGETS, "all"):
        model.get_parameter(f"{target.module}.weight").requires_grad_(True)
    model(**batch).loss.backward()


def main() -> None:
    """Print one line per depth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, action="append", help="layers; may be repeated")
    parser.add_argument("--hidden", type=int, default=512)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{device}, torch {torch.__version__}, hidden {options.hidden}")
    for depth in options.depth or [2, 4, 8, 16]:
        torch.manual_seed(0)
        model = decoder(depth, options.hidden, device)
        ids = torch.randint(256, (2, 64), device=device)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
        found = {}
        for name in ("hooks", "backward"):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            with watched(model) as alive:
                if name == "hooks":
                    estimate_gradients(model, LoraSB(targets=TARGETS), [batch], seed=0, dropout=False)
                else:
                    plain(model, batch)
            model.zero_grad()
            found[name] = f"{alive.peak / 2**20:8.1f} MiB"
            if device.type == "cuda":
                found[name] += f" (device peak {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB)"
        print(f"{depth:>4} layers   " + "   ".join(f"{name} {value}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
