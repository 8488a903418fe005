"""What each method promises to the harness: counts, defaults, refusals, and what the methods without a map train."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from harness.api import AttachContext, LinearMethod, Method
from harness.errors import UserError
from methods.ft import FT
from methods.head_only import HeadOnly
from methods.lora import LoRA
from methods.lora_sb import LoraSB
from methods.lora_xs import LoraXS
from methods.majority import Majority
from methods.pissa import PiSSA
from methods.qr_lora import QrLoRA
from methods.rslora import RsLoRA
from methods.svd_lora import SvdLoRA
from methods.warmup_only import WarmupOnly


@pytest.mark.parametrize(
    ("method", "printed"),
    [
        (LoRA(), 294_912 // 24),  # RoBERTa-base, q and v of 12 layers
        (LoRA(r=2), 73_728 // 24),
        (RsLoRA(), 294_912 // 24),
        (PiSSA(), 294_912 // 24),
        (SvdLoRA(), 73_728 // 24),
        (LoraXS(), 256),
        (LoraSB(r=24), 55_296 // 96),
        (QrLoRA(), None),  # known only when the weight is
    ],
)
def test_counts_per_map_add_up_to_the_published_ones(method: LinearMethod, printed: int | None) -> None:
    assert method.count(768, 768) == printed


def test_defaults_are_the_harness_rules() -> None:
    def chosen(method: LinearMethod) -> tuple[str, str, float, float, float]:
        alpha = getattr(method, "alpha", math.nan)
        return method.targets, method.layers, getattr(method, "r", 0), alpha, method.dropout

    assert chosen(LoRA()) == ("q,v", "all", 8, 16, 0)
    assert chosen(RsLoRA()) == ("q,v", "all", 8, 16, 0)
    assert chosen(PiSSA()) == ("q,v", "all", 8, 8, 0)
    assert chosen(SvdLoRA()) == ("q,v", "all", 2, 2, 0)
    assert chosen(LoraXS()) == ("q,v,o,down", "all", 16, 16, 0)
    assert chosen(LoraSB())[:3] == ("q,v,o,down", "all", 16)
    assert chosen(QrLoRA())[:2] == ("q,v", "last:4")


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (LoRA(r=0), "lora: r = 0"),
        (LoRA(alpha=0), "lora: alpha = 0"),
        (LoRA(dropout=1.0), "lora: dropout = 1.0"),
        (LoRA(a_init="zeros"), "kaiming, gaussian"),
        (RsLoRA(r=-1), "rslora: r = -1"),
        (PiSSA(svd="fast"), "niter_K"),
        (PiSSA(dropout=0.1), "pissa: dropout must be 0"),
        (SvdLoRA(r=2, k=3), "svd_lora: r = 2 must be at least 3"),
        (SvdLoRA(k=0), "svd_lora: k = 0"),
        (SvdLoRA(split="half"), "sqrt, B, A"),
        (SvdLoRA(residual=True, dropout=0.1), "svd_lora: dropout must be 0"),
        (LoraXS(which="last"), "top, middle, bottom"),
        (LoraXS(basis="qr"), "svd, svd_random, random"),
        (LoraXS(svd="randomized", which="bottom"), "which = 'top'"),
        (LoraXS(basis="random", sigma=False), "basis = 'random'"),
        (LoraXS(std=-1.0), "lora_xs: std"),
        (LoraSB(n_init=-1), "lora_sb: n_init"),
        (LoraSB(grad_mode="mean"), "sign, raw"),
        (LoraSB(split="A"), "R, B"),
        (QrLoRA(tau=0.0), "qr_lora: tau = 0"),
        (QrLoRA(tau=1.5), "qr_lora: tau = 1.5"),
        (QrLoRA(rank_rule="count"), "energy, absolute, relative"),
        (QrLoRA(basis_from="start"), "pretrained, warmup"),
    ],
)
def test_values_that_can_never_work_are_refused_in_one_line(method: Method, words: str) -> None:
    with pytest.raises(UserError) as caught:
        method.validate()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cls", [LoRA, RsLoRA, PiSSA, SvdLoRA, LoraXS, LoraSB])
def test_a_rank_above_the_smaller_side_names_method_rank_map_and_shape(cls: Callable[..., LinearMethod]) -> None:
    method = cls(r=7)
    with pytest.raises(UserError) as caught:
        method.check_map("layer.0.query", (9, 6))
    assert str(caught.value) == (
        f"{method.name}: r = 7 exceeds the smaller side of layer.0.query [9, 6]; choose at most 6."
    )


# ------------------------------------------------------------------------------ methods without a map


class Classifier(nn.Module):
    """A backbone with a fresh head, or, as a decoder, with an output embedding only."""

    def __init__(self, embedding: bool) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.classifier = nn.Linear(4, 2)
        self.embedding = embedding
        self.requires_grad_(False)

    def get_output_embeddings(self) -> nn.Linear | None:
        return self.classifier if self.embedding else None

    @property
    def trained(self) -> set[str]:
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}


def attached(method: Method, head: tuple[str, ...], embedding: bool = False) -> set[str]:
    model = Classifier(embedding)
    method.attach(model, AttachContext(torch.Generator(), head))
    return model.trained


def test_ft_trains_everything() -> None:
    assert attached(FT(), ("classifier",)) == {
        *("encoder.weight", "encoder.bias", "classifier.weight", "classifier.bias")
    }


def test_head_only_trains_nothing_beside_a_fresh_head_and_a_decoders_output_embedding() -> None:
    assert HeadOnly.trains_head
    assert attached(HeadOnly(), ("classifier",), embedding=True) == set()
    assert attached(HeadOnly(), (), embedding=True) == {"classifier.weight", "classifier.bias"}
    with pytest.raises(UserError, match="neither a head nor an output embedding"):
        attached(HeadOnly(), ())


def test_warmup_only_trains_nothing_and_needs_the_warmup() -> None:
    assert attached(WarmupOnly(), ("classifier",)) == set()
    assert not WarmupOnly.trains_head
    assert WarmupOnly.requires_start == "warmup"


@pytest.mark.parametrize(
    ("labels", "kind", "answer"),
    [
        ([0, 1, 1, 2], "classification", 1),
        ([2, 2, 0, 0], "classification", 0),
        ([1.0, 2.0, 4.5], "regression", 2.5),
        (["7", "12", "12"], "generation", "12"),
    ],
)
def test_majority_predicts_one_plain_value_from_the_training_labels(labels: list[Any], kind: Any, answer: Any) -> None:
    predictions = Majority().predict(pd.Series(labels), 3, kind)
    assert predictions == [answer] * 3
    assert type(predictions[0]) is type(answer)


# ------------------------------------------------------------------------------------------ the folder


def test_importing_every_method_does_not_import_torch() -> None:
    root = Path(__file__).parents[1]
    names = [path.stem for path in sorted((root / "methods").glob("[a-z]*.py"))]
    imports = "; ".join(f"import methods.{name}" for name in names)
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}; import sys; print('torch' in sys.modules, 'pandas' in sys.modules)"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "False"]
