"""Parameters, FLOPs, seconds, bytes: one function for each quantity; its docstring is the definition.

The site prints these docstrings through `DEFINITIONS`, so importing this module does not import torch.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from harness.flops import LengthCost as LengthCost
from harness.flops import flops_by_length as flops_by_length
from harness.memory import MemoryGrowth as MemoryGrowth
from harness.records import ParameterCounts

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from harness.forgetting import HeldOut

# --------------------------------------------------------------------------------------- parameters


def adapter_parameters(model: nn.Module, head: tuple[str, ...]) -> int:
    """Trainable scalars outside the head: what the method adds to the backbone, or unfreezes in it.

    A tensor that two modules share counts once. Frozen tensors of the method do not count.
    """
    inside = _identities(model, head)
    return sum(value.numel() for value in model.parameters() if value.requires_grad and id(value) not in inside)


def head_parameters(model: nn.Module, head: tuple[str, ...]) -> int:
    """Trainable scalars of the head, the freshly drawn layers that turn features into the task's answer.

    A generation task has no such layers; there it is the output embedding, if the method trains it.
    """
    inside = _identities(model, head)
    return sum(value.numel() for value in model.parameters() if value.requires_grad and id(value) in inside)


def trainable_parameters(model: nn.Module, head: tuple[str, ...]) -> int:
    """All trainable scalars: adapter_params + head_params."""
    return adapter_parameters(model, head) + head_parameters(model, head)


def total_parameters(model: nn.Module) -> int:
    """All scalars of the adapted model, backbone and head included, trainable or not; shared tensors count once.

    Left out are buffers: constants of the backbone, and frozen tensors that a method keeps beside its
    trainable ones (LoRA-XS's bases).
    """
    return sum(value.numel() for value in model.parameters())


def count_parameters(model: nn.Module, head: tuple[str, ...]) -> ParameterCounts:
    """The counts of an adapted model; `head` are the names of the modules that make up the head."""
    return ParameterCounts(
        adapter=adapter_parameters(model, head), head=head_parameters(model, head), total=total_parameters(model)
    )


def _identities(model: nn.Module, modules: tuple[str, ...]) -> set[int]:
    """Identities of the parameters below the named modules: names would miss a tied tensor's second name."""
    return {id(value) for name in modules for value in model.get_submodule(name).parameters()}


# -------------------------------------------------------------------------------------------- FLOPs


def train_flops(cost: LengthCost, shapes: Mapping[tuple[int, int], int]) -> float:
    """Floating-point operations of training: forward and backward of every step that was run, at its padded length.

    Counted by torch's dispatcher-level counter on real batches of the adapted model: matrix products only, two
    operations (multiply, add) per term, padding included, attention over all pairs of positions, and backward only
    as far as this method's gradients need it. Left out: element-wise work, the optimizer, evaluation,
    initialisation (SVD, QR, gradient estimate), the start (warm-up), and what gradient checkpointing computes again.
    A language model's logits count at every position, though they are computed only where a label is, and frozen
    lower layers in every step, though `cache_prefix` computes them once per row.

    shapes: number of micro-batches of each shape (rows, padded length).
    """
    return sum(times * cost.flops(rows, length) for (rows, length), times in shapes.items())


def inference_flops_per_example(cost: LengthCost, lengths: Sequence[int]) -> float:
    """Floating-point operations of one forward pass of the adapted, unmerged model; the mean over all test rows.

    Counted like train_flops, each row alone and without padding. For a generation task the row is the prompt with
    its reference answer: token by token with a key-value cache costs about as much.

    lengths: tokens of each test row.
    """
    return sum(cost.flops(1, length) for length in lengths) / len(lengths)


# ------------------------------------------------------------------------------------------ seconds


class Stopwatch:
    """Context manager; `seconds` of wall clock inside it, the device synchronized before each reading."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._start = self._now()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = self._now() - self._start

    def _now(self) -> float:
        import torch

        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()


def load_seconds(device: torch.device) -> Stopwatch:
    """Wall-clock seconds to bring backbone, tokenizer and encoded training rows into memory and onto the device."""
    return Stopwatch(device)


def init_seconds(device: torch.device) -> Stopwatch:
    """Wall-clock seconds to attach the method: SVD, QR, gradient estimate, drawing of tensors.

    A factorisation that an earlier trial computed and this one reuses counts with the seconds that it took then.
    """
    return Stopwatch(device)


def train_seconds(device: torch.device) -> Stopwatch:
    """Wall-clock seconds of the training steps: batches to the device, forward, backward, clipping, update.

    On a CPU the padding of each batch is inside; on a GPU a thread beside it has padded them.
    Evaluation between epochs and the start (warm-up) are left out. A run that shared its steps with others (see
    pack_trials) has no time of its own: steps of it alone were measured, of a small and of a large batch, three times
    in turn with other trials, and added up over the steps that it took, on a line between the two sizes. Where several
    processes hold the model (`shards`), all seconds are those of the first, which waits for the others in every step.
    """
    return Stopwatch(device)


def eval_seconds(device: torch.device) -> Stopwatch:
    """Wall-clock seconds of all evaluations, on `select` and the test sets after every epoch, metrics included.

    Epochs evaluated together with other runs count as in train_seconds: batches of it alone, without metrics.
    """
    return Stopwatch(device)


def start_seconds(device: torch.device) -> Stopwatch:
    """Training seconds of the start (warm-up) when it was computed; runs that share it all show them.

    Empty for the pretrained start.
    """
    return Stopwatch(device)


def step_seconds(train_seconds: float, steps: int) -> float | None:
    """Training seconds per optimizer step, alone on the device."""
    return train_seconds / steps if steps else None


def step_seconds_spread(rounds: Sequence[float], steps: int) -> float:
    """Standard deviation of step_seconds over the repeated measurements; empty for a run that ran alone, once."""
    return statistics.stdev(seconds / steps for seconds in rounds)


def pack_trials(trials: int) -> int:
    """The most trials that shared this run's steps, itself included; empty for a run that ran alone."""
    return trials


def pack_seconds(device: torch.device) -> Stopwatch:
    """Wall-clock seconds during which this run was in its pack, evaluations and all. Says nothing about the method."""
    return Stopwatch(device)


def pack_share_seconds(stretches: Sequence[tuple[float, int]]) -> float:
    """This run's share of its pack's training: the seconds of steps over the number of trials in them, summed.

    Steps are timed in stretches, each up to the end of an epoch of some trial; the device is synchronized at both ends
    of a stretch, not between its steps.
    """
    return sum(seconds / trials for seconds, trials in stretches)


# --------------------------------------------------------------------------------------- throughput


def examples_per_second(examples: int, seconds: float) -> float | None:
    """Training rows per training second; a row counts once in each epoch."""
    return examples / seconds if seconds > 0 else None


def tokens_per_second(tokens: int, seconds: float) -> float | None:
    """Training tokens per training second, special tokens included, padding left out."""
    return tokens / seconds if seconds > 0 else None


def padding_share(tokens: int, slots: int) -> float | None:
    """Share of padding among the token positions that training computed, 0 to 1."""
    return 1 - tokens / slots if slots > 0 else None


# -------------------------------------------------------------------------------------------- bytes


def peak_memory_bytes(resident: int, growth: int | None) -> int | None:
    """Bytes of the backbone, and by how much memory grew at most from the method's initialisation to the last score.

    CUDA: bytes that tensors held on the device; neither the allocator's reserve nor the driver. CPU: resident memory
    of the process beyond what it held before the initialisation, so libraries and data are left out. Empty where that
    cannot be read. Compare within one kind of device only. In a run that shared its steps with others the growth is
    that of the initialisation, or of its own tensors with a step and an evaluation of it alone on the largest batches.
    Where several processes hold the model (`shards`): of the one that took most; on CUDA all of it is growth.

    resident: bytes of the backbone's tensors. growth: None if unknown.
    """
    return None if growth is None else resident + growth


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes in memory; tensors that share theirs count once."""
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


def model_bytes(model: nn.Module, device: torch.device | None = None) -> int:
    """Bytes of a model's parameters and buffers; with `device`, of those that lie on this kind of device."""
    held = (*model.parameters(), *model.buffers())
    return tensor_bytes(tensor for tensor in held if device is None or tensor.device.type == device.type)


def adapter_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Size of a safetensors file with all that must be kept beside the backbone, header included.

    That is every trainable tensor, the head's among them, and frozen tensors of the method that backbone and seed
    alone do not give back (LoRA-SB's bases, which come from a gradient).
    """
    import torch
    from safetensors.torch import save

    # shapes and types alone set the size: fresh tensors have no shared or strided memory to object to
    return len(save({name: torch.empty(value.shape, dtype=value.dtype) for name, value in tensors.items()}))


# --------------------------------------------------------------------------------------- forgetting


def perplexity_before(model: nn.Module, text: HeldOut) -> float | None:
    """Perplexity of held-out general text under the pretrained backbone, before the start and before any training.

    exp of the mean negative log-likelihood per token of the backbone's own tokenizer: compare within one backbone, one
    text and one window length only. The text's first `forgetting_tokens` tokens are cut into consecutive windows of
    `max_length` tokens; each token is predicted once, from the tokens before it in its window and the one before the
    window (the begin or end token for the first). Empty if the recipe names no text (`forgetting`).
    """
    return text.perplexity(model)


def perplexity_after(model: nn.Module, text: HeldOut) -> float | None:
    """The same as perplexity_before, of the adapted model after the last epoch, whichever epoch was selected."""
    return text.perplexity(model)


DEFINITIONS: dict[str, Callable[..., Any]] = {
    "adapter_params": adapter_parameters,
    "head_params": head_parameters,
    "trainable_params": trainable_parameters,
    "total_params": total_parameters,
    "train_flops": train_flops,
    "inference_flops_per_example": inference_flops_per_example,
    "load_seconds": load_seconds,
    "init_seconds": init_seconds,
    "train_seconds": train_seconds,
    "eval_seconds": eval_seconds,
    "start_seconds": start_seconds,
    "step_seconds": step_seconds,
    "step_seconds_spread": step_seconds_spread,
    "pack_trials": pack_trials,
    "pack_seconds": pack_seconds,
    "pack_share_seconds": pack_share_seconds,
    "examples_per_second": examples_per_second,
    "tokens_per_second": tokens_per_second,
    "padding_share": padding_share,
    "peak_memory_bytes": peak_memory_bytes,
    "adapter_bytes": adapter_bytes,
    "perplexity_before": perplexity_before,
    "perplexity_after": perplexity_after,
}
"""Column of a run -> the function whose docstring says what the column holds."""
