"""One model in several processes: each holds its share of every weight, and computes its rows of each batch.

For a model larger than a GPU, by the recipe's `shards`. The sharding is FSDP2's, through accelerate: a layer's weights
are gathered when the layer is computed and given up after it, its gradients summed and cut into shares again; frozen
and trained tensors may lie in one layer. Buffers are not sharded: every process has all of a method's frozen tensors
(the bases of LoRA-XS, the whole weights that DoRA keeps).

Every process makes the very same batches in the same order and takes its rows of each micro-batch. Losses are means
over rows or labels of the whole step, so that losses and gradients are those of one process, to rounding; dropout alone
is drawn by each process for itself. The norm that gradients are clipped by is that of all shares.

The processes take turns to load the model in main memory, bring it to its start and attach the method there, before it
is sharded: main memory holds one whole model in float32 at a time, and what its initialisation takes; a GPU never more
than its share and the layers that are gathered. Each draws, or reads from the cache, the very same tensors.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from harness.api import Kind
from harness.compiling import Way
from harness.devices import pick_device
from harness.language_loss import LossFunction
from harness.placement import Placement
from harness.settings import Settings
from harness.sharding.checks import check_tensors, layer_classes
from harness.sharding.launch import Place

if TYPE_CHECKING:
    from harness.adapt import Attachment
    from harness.bench import Stage

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others, which may load a large model meanwhile; one that died is noticed at once."""


class Sharded(Placement):
    """This process among those that share a model."""

    def __init__(self, place: Place, settings: Settings) -> None:
        self._place = place
        self._device = _device(settings, place.rank)
        _meet(place, self._device)
        self._mesh = init_device_mesh(self._device.type, (place.ranks,), mesh_dim_names=("shards",))
        self.way = Way(self._backward, _own_loss, lambda batch: batch)
        self.salt = () if place.rank == 0 else (f"process {place.rank}",)
        self.leads = place.rank == 0

    def device(self, settings: Settings) -> torch.device:
        return self._device

    def take_turn(self) -> None:
        for _ in range(self._place.rank):
            self._wait()

    def loads_on(self, device: torch.device) -> torch.device:
        return torch.device("cpu")

    def placed(self, stage: Stage, attachment: Attachment, device: torch.device) -> Stage:
        from accelerate.utils import fsdp2_prepare_model

        model: Any = stage.model
        check_tensors(model)
        fsdp2_prepare_model(_accelerator(model, self._mesh), model)
        model.set_reshard_after_forward(True)  # of the outermost weights too: a model's parameters are always shares
        model._is_fsdp_managed_module = True  # transformers then generates in step with the other processes
        attachment.let_go()
        for _ in range(self._place.ranks - self._place.rank):
            self._wait()
        placed = dataclasses.replace(stage, device=device)
        _call_once(placed)
        return placed

    def answering(self, model: nn.Module, kind: Kind) -> nn.Module:
        return model if kind == "generation" else _Together(model, self._place)

    def whole(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        from torch.distributed.tensor import DTensor

        return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in tensors.items()}

    def largest(self, count: int | None) -> int | None:
        said = torch.tensor([-1 if count is None else count, 0 if count is None else 1], dtype=torch.int64)
        low = said.clone()
        dist.all_reduce(said, dist.ReduceOp.MAX)
        dist.all_reduce(low, dist.ReduceOp.MIN)
        return int(said[0]) if low[1] else None

    def close(self) -> None:
        """Leave the others; to be called when all have come to their end."""
        dist.destroy_process_group()

    def _wait(self) -> None:
        """Until all processes are here; in main memory, so that no device has to be asked."""
        dist.all_reduce(torch.zeros(1))

    def _backward(self, loss: LossFunction, batch: Mapping[str, Tensor], weight: float) -> Tensor:
        """As `compiling.backward`, of the rows that are this process's; what it gives is of all rows."""
        own, there = _share(batch, self._place)
        part = loss(own) * (weight * there * _items(own) / _items(batch))
        (part * self._place.ranks).backward()  # gradients are means over the processes
        total = part.detach()
        dist.all_reduce(total)
        return total


class _Together(nn.Module):
    """Each process answers its rows, and all get the answers to all rows."""

    def __init__(self, model: nn.Module, place: Place) -> None:
        super().__init__()
        self.model, self._place = model, place

    def forward(self, **inputs: Tensor) -> SimpleNamespace:
        """Logits [rows, classes] of all rows."""
        rows, most = len(inputs["input_ids"]), -(-len(inputs["input_ids"]) // self._place.ranks)
        own, _ = _share(inputs, self._place)
        logits = self.model(**own).logits
        padded = logits.new_zeros(most, *logits.shape[1:])
        padded[: len(logits)] = logits
        parts = [torch.empty_like(padded) for _ in range(self._place.ranks)]
        dist.all_gather(parts, padded)
        sizes = [len(part) for part in torch.arange(rows).tensor_split(self._place.ranks)]
        return SimpleNamespace(logits=torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]))


def _share(batch: Mapping[str, Tensor], place: Place) -> tuple[dict[str, Tensor], bool]:
    """The rows of a process in their order, nearly as many as those of any other, and whether there are any.

    If not, one row, not to be counted: all processes have to compute the same layers at the same time.
    """
    own = {name: value.tensor_split(place.ranks)[place.rank] for name, value in batch.items()}
    if len(own["input_ids"]):
        return own, True
    return {name: value[:1] for name, value in batch.items()}, False


def _items(batch: Mapping[str, Tensor]) -> Tensor | int:
    """As `loop.loss_items`, without waiting for the device."""
    labels = batch["labels"]
    return (labels[:, 1:] != -100).sum() if labels.ndim == 2 else len(labels)


def _own_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> LossFunction:
    """The model's own loss: its parts cannot be called by themselves, their weights are gathered within its forward."""
    return lambda batch: model(**batch).loss


def _call_once(stage: Stage) -> None:
    """One row through the model, in the usual mode: the memory that weights are gathered in is made here, and where it
    is made in inference mode (for an evaluation, say) no gradient can be taken through it later."""
    mode = stage.model.training
    stage.model.eval()
    with torch.no_grad():
        stage.model(**{name: value.to(stage.device) for name, value in stage.batch([0]).items()})
    stage.model.train(mode)


def _device(settings: Settings, rank: int) -> torch.device:
    device = pick_device(settings.device)
    if device.type != "cuda":
        return device
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


def _meet(place: Place, device: torch.device) -> None:
    """Find the other processes. Collectives of tensors in main memory go through gloo, those on GPUs through nccl."""
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine, whose name need not be known to anybody
    dist.init_process_group(
        "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl",
        init_method=place.meeting.as_uri(),
        rank=place.rank,
        world_size=place.ranks,
        timeout=PATIENCE,
    )


def _accelerator(model: nn.Module, mesh: DeviceMesh) -> Any:
    """What accelerate's sharding asks of an Accelerator, which itself knows no FSDP on a CPU."""
    from accelerate.utils import FullyShardedDataParallelPlugin

    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=layer_classes(model),
        reshard_after_forward=True,
        cpu_ram_efficient_loading=False,
    )
    return SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        torch_device_mesh=mesh,
        parallelism_config=SimpleNamespace(fsdp_dim_names=mesh.mesh_dim_names),
        mixed_precision="no",  # what is computed in bfloat16 is the loop's to say; weights are gathered in float32
    )
