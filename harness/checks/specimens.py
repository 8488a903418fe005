"""What method plugins are tried on: an encoder and a decoder of a few thousand weights, made from a seed."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import torch
from torch import Tensor, nn

from harness import adapt
from harness.api import Common, InitContext, LinearMethod, Method, Trainable
from harness.checks.verdicts import NotApplicable
from harness.decompositions import CachedDecompositions
from harness.errors import UserError
from harness.gradients import estimate_gradients

Backbone = Literal["encoder", "decoder"]
BACKBONES: tuple[Backbone, ...] = ("encoder", "decoder")
SHAPES = ((32, 32), (48, 24), (24, 48))
"""[m, n] of single maps: square, tall and wide."""
FIRST_STEP = 1e-3
_HIDDEN, _WORDS, _ROWS, _LENGTH = 32, 60, 6, 9


@dataclass(frozen=True)
class Rig:
    """A method attached to a small backbone."""

    backbone: Backbone
    model: nn.Module
    attachment: adapt.Attachment
    head: tuple[str, ...]

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """What the method and the head train, by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def logits(self) -> Tensor:
        """Outputs on the batch in evaluation mode."""
        return logits(self.model, self.backbone)

    def steps(self, count: int) -> None:
        """Optimizer steps without epsilon: on so small a model gradients are tiny, and all must be seen to act."""
        optimizer = torch.optim.Adam(self.trainable.values(), lr=1e-2, eps=1e-30)
        for _ in range(count):
            self.model(**batch(self.backbone)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def new_model(backbone: Backbone) -> nn.Module:
    """A fresh copy of the small backbone, always with the same weights, in evaluation mode."""
    return copy.deepcopy(_model(backbone))


@functools.cache
def _model(backbone: Backbone) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaForSequenceClassification

    size = {"vocab_size": _WORDS, "hidden_size": _HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2}
    size |= {"intermediate_size": 48, "max_position_embeddings": 40}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module
        if backbone == "decoder":
            model = LlamaForCausalLM(LlamaConfig(**size))
        else:
            quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
            model = RobertaForSequenceClassification(RobertaConfig(**size, **quiet))
    return model.eval()


def batch(backbone: Backbone) -> dict[str, Tensor]:
    """Six rows of nine tokens, with labels."""
    ids = torch.randint(3, _WORDS, (_ROWS, _LENGTH), generator=torch.Generator().manual_seed(1))
    labels = ids if backbone == "decoder" else torch.arange(_ROWS) % 2
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def logits(model: nn.Module, backbone: Backbone) -> Tensor:
    """Outputs of a model on the batch, in evaluation mode; the mode is put back."""
    mode = model.training
    with torch.no_grad():
        found: Tensor = model.eval()(**batch(backbone)).logits
    model.train(mode)
    return found


def attach(method: Method, backbone: Backbone, seed: int = 0, model: nn.Module | None = None) -> Rig:
    """Attach as the harness does, gradient estimate included."""
    model = new_model(backbone) if model is None else model
    head = ("classifier",) if backbone == "encoder" else ()
    pretrained = {name: value.detach().clone() for name, value in model.named_parameters()}
    request = method.gradient_request(1000)
    gradients: dict[str, Tensor] = {}
    if request is not None and isinstance(method, LinearMethod):
        gradients = estimate_gradients(model, method, [batch(backbone)], seed, request.dropout)
    support = adapt.Support(_nothing_cached(), lambda name: pretrained[f"{name}.weight"], gradients, FIRST_STEP)
    return Rig(backbone, model, adapt.attach(model, method, head, seed, support), head)


def rigs(method: Method) -> Iterator[Rig]:
    """The method attached to each backbone that it accepts; NotApplicable, in the end, if that is none."""
    attached = False
    for backbone in BACKBONES:
        try:
            rig = attach(method, backbone)
        except UserError:
            continue  # what the checks `works_on_...` are for
        attached = True
        yield rig
    if not attached:
        raise NotApplicable("not tried: it attaches to no backbone here")


def require_formula(method: Method) -> LinearMethod:
    """The method as a formula per map; NotApplicable if it is none."""
    if not isinstance(method, LinearMethod):
        raise NotApplicable("it is no formula per map")
    return method


@dataclass(frozen=True)
class OneMap:
    """The tensors that a method's `init` made for one random weight [m, n]."""

    weight: Tensor
    tensors: dict[str, Tensor]
    trainable: frozenset[str]
    drew: bool
    """Whether it took random numbers from its generator."""

    @property
    def parameters(self) -> SimpleNamespace:
        """As `forward` wants them."""
        return SimpleNamespace(**self.tensors)


def one_map(method: LinearMethod, shape: tuple[int, int], seed: int = 0) -> OneMap:
    """`init` on a standard normal weight, which does not depend on `seed`."""
    source = torch.Generator().manual_seed(7)
    weight, gradient = torch.randn(shape, generator=source), torch.randn(shape, generator=source)
    generator = torch.Generator().manual_seed(seed)
    before = generator.get_state()
    context = InitContext("map", generator, _nothing_cached(), weight, gradient, FIRST_STEP, Common(shape))
    marked = method.init(weight, context)
    return OneMap(
        weight,
        {name: value.tensor.detach().clone() for name, value in marked.items()},
        frozenset(name for name, value in marked.items() if isinstance(value, Trainable)),
        not torch.equal(before, generator.get_state()),
    )


def _nothing_cached() -> CachedDecompositions:
    return CachedDecompositions(Path(os.devnull))  # no folder can be made there
