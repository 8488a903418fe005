"""Trained low-rank updates as a standard LoRA of the PEFT library: one rounding away from the method's own form.

A method that takes its start out of the frozen weight (PiSSA) is written against the untouched backbone with twice
its rank: W - B0 A0 + B A = W + [B, B0] [A; -A0].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.adapt import Attachment
from harness.backbones import quiet
from harness.errors import UserError
from harness.export.trained import Factors, Trained

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel


@dataclass(frozen=True)
class Update:
    """What one map adds to its input's image: B A x + bias."""

    B: Tensor
    """[m, k]"""
    A: Tensor
    """[k, n]"""
    bias: Tensor | None
    """[m]; None if the map's bias was not trained."""


def updates(trained: Trained) -> dict[str, Update]:
    """The update of every adapted map against the backbone's own weight. UserError if the method has no such form."""
    method, attachment = trained.bench.method, trained.attachment
    if not attachment.originals:
        raise UserError(f"{method.name} changes more than linear maps, or none: write it with --format merged.")
    now = attachment.low_rank()
    if not now:
        raise UserError(f"{method.name}'s update has no low-rank factors: write it with --format merged.")
    return {name: _update(name, attachment, now, trained.initial) for name in now}


def as_peft_model(trained: Trained) -> PeftModel:
    """The backbone with a LoRA that equals the trained method. The method is detached; the trained head stays."""
    from peft import get_peft_model

    found = updates(trained)
    model: Any = trained.stage.model
    head = trained.stage.loaded.head
    trained.attachment.detach()
    model.name_or_path = trained.wanted.trial.backbone.name  # a local folder's path means nothing elsewhere
    with quiet():
        wrapped: Any = get_peft_model(model, _config(found, head, trained))
    with torch.no_grad():
        for name, update in found.items():
            layer = wrapped.base_model.model.get_submodule(name)
            layer.lora_A["default"].weight.copy_(update.A)
            layer.lora_B["default"].weight.copy_(update.B)
            if update.bias is not None:
                layer.lora_B["default"].bias.copy_(update.bias)
    model_as_peft: PeftModel = wrapped.eval()
    return model_as_peft


def _update(name: str, attachment: Attachment, now: Factors, initial: Factors) -> Update:
    B, A = now[name]
    if name in initial:
        B0, A0 = initial[name]
        B, A = torch.cat([B, B0], dim=1), torch.cat([A, -A0], dim=0)
    before, after = attachment.originals[name].bias, attachment.adapted(name).base.bias
    moved = before is not None and not torch.equal(before, after)
    return Update(B.float(), A.float(), (after - before).detach() if moved else None)


def _config(found: dict[str, Update], head: tuple[str, ...], trained: Trained) -> LoraConfig:
    """Scaling is 1 everywhere (alpha = rank): the factors carry the method's own."""
    from peft import LoraConfig

    ranks = {name: update.A.shape[0] for name, update in found.items()}
    rank = max(ranks.values())
    others = {name: value for name, value in ranks.items() if value != rank}
    return LoraConfig(
        task_type="CAUSAL_LM" if trained.bench.task.kind == "generation" else "SEQ_CLS",
        base_model_name_or_path=trained.wanted.trial.backbone.name,
        r=rank,
        lora_alpha=rank,
        rank_pattern=dict(others),
        alpha_pattern=dict(others),
        target_modules=list(found),
        lora_bias=any(update.bias is not None for update in found.values()),
        modules_to_save=list(head) or None,
        inference_mode=True,
    )
