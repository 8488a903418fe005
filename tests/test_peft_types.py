"""`peft:TYPE`: the types of the installed PEFT library, run and counted on the starter backbones."""

from __future__ import annotations

import copy
import functools
from typing import Any

import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils import PeftType
from test_runner import make
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from harness import bench as stages
from harness.adapt import Support, attach
from harness.api import parameters_of
from harness.backbones import BUNDLED
from harness.checks import check_method
from harness.errors import UserError
from harness.loop import Hooks
from harness.measure import count_parameters
from harness.plugins import discover, make_method
from harness.settings import Settings
from harness.targets import select_modules

METHODS = discover().methods

RUN: dict[str, dict[str, Any]] = {
    "LORA": {"r": 4},
    "ADALORA": {"init_r": 4, "target_r": 2, "total_step": 100},
    "ADAMSS": {},
    "BEFT": {},
    "BOFT": {},
    "C3A": {"block_size": 16},
    "DEFT": {},
    "DELORA": {},
    "FOURIERFT": {},
    "FROD": {},
    "GLORA": {},
    "GRALORA": {},
    "HIRA": {},
    "HRA": {},
    "IA3": {"targets": "v,down", "feedforward_modules": "down"},
    "LILY": {},
    "LOHA": {},
    "LOKR": {},
    "MISS": {"r": 8},
    "OFT": {},
    "OSF": {},
    "PEANUT": {},
    "PSOFT": {},
    "PVERA": {},
    "RANDLORA": {},
    "ROAD": {},
    "SHIRA": {"r": 4},
    "SUPERTUNING": {},
    "TINYLORA": {},
    "UNILORA": {},
    "VBLORA": {"vector_length": 64, "num_vectors": 16},
    "VERA": {"r": 16},
    "WAVEFT": {"n_frequency": 200},
}
"""Types that run, with what differs from their defaults."""

REFUSED = {
    *("ADAPTION_PROMPT", "CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "P_TUNING", "POLY", "PREFIX_TUNING"),
    *("PROMPT_TUNING", "SHADOW", "TRAINABLE_TOKENS", "XLORA"),
}
"""Types that cannot run; the error says why."""

OTHER = {"LN_TUNING"}
"""It adapts layer norms, which canonical names do not name."""

ANSWER_IN_TEXT = {"LORA", "ADALORA", "VERA", "OFT", "LOHA"}
"""Tried on the decoder too."""


def test_every_type_of_the_installed_library_is_accounted_for() -> None:
    assert {kind.value for kind in PEFT_TYPE_TO_TUNER_MAPPING} == set(RUN) | REFUSED | OTHER
    assert len(RUN) >= 25


@functools.cache
def backbone(name: str) -> nn.Module:
    torch.manual_seed(0)
    auto = AutoModelForCausalLM if name == "starter-decoder" else AutoModelForSequenceClassification
    return auto.from_pretrained(BUNDLED / name)


def attached(kind: str, name: str) -> tuple[nn.Module, tuple[str, ...]]:
    model = copy.deepcopy(backbone(name))
    head = (HEAD,) if name == "starter-encoder" else ()
    method = make_method(METHODS[f"peft:{kind}"], RUN[kind])
    attach(model, method, head, 0, Support(decompositions=None, pretrained=None))  # type: ignore[arg-type]
    return model, head


HEAD = "classifier"
CASES = [(kind, "starter-encoder") for kind in RUN] + [(kind, "starter-decoder") for kind in sorted(ANSWER_IN_TEXT)]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_type_trains_and_what_peft_marks_is_what_is_counted(kind: str, name: str) -> None:
    model, head = attached(kind, name)
    assert count_parameters(model, head or ("lm_head",)).adapter == marked_by_peft(kind, name)
    trainable = {key: value for key, value in model.named_parameters() if value.requires_grad}
    before = {key: value.detach().clone() for key, value in trainable.items()}
    optimizer = torch.optim.Adam(trainable.values(), lr=1e-2)
    ids = torch.randint(5, 200, (4, 8), generator=torch.Generator().manual_seed(1))
    for _ in range(2):
        loss = model(input_ids=ids, labels=torch.tensor([0, 1, 0, 1]) if head else ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.isfinite(loss)
    assert any(not torch.equal(value, before[key]) for key, value in trainable.items() if not key.startswith(HEAD))


def marked_by_peft(kind: str, name: str) -> int:
    """Trainable scalars by PEFT's own count, of the same config on the same backbone."""
    model = copy.deepcopy(backbone(name))
    method = make_method(METHODS[f"peft:{kind}"], RUN[kind])
    values = dict(RUN[kind])
    values["target_modules"] = modules(model, values.pop("targets", method.targets))  # type: ignore[attr-defined]
    if "feedforward_modules" in values:
        values["feedforward_modules"] = modules(model, values["feedforward_modules"])
    config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)](**values)
    return int(peft.get_peft_model(model, config).get_nb_trainable_parameters()[0])


def modules(model: nn.Module, targets: str) -> list[str]:
    return [target.module for target in select_modules(model, targets, "all")]


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_a_type_that_cannot_run_says_why(kind: str) -> None:
    with pytest.raises(UserError, match=rf"^'peft:{kind}' cannot be benchmarked here: it(s| ).*\.$"):
        METHODS[f"peft:{kind}"]


def test_the_nearest_type_is_named() -> None:
    with pytest.raises(UserError, match=r"unknown method 'peft:ADALRA': did you mean 'peft:ADALORA'\?"):
        METHODS["peft:ADALRA"]


def test_what_peft_refuses_is_one_line() -> None:
    model = copy.deepcopy(backbone("starter-encoder"))
    with pytest.raises(UserError, match=r"^peft:ADALORA: PEFT refuses this: ValueError: AdaLoRA does not work"):
        attach(model, make_method(METHODS["peft:ADALORA"], {}), (), 0, Support(None, None))  # type: ignore[arg-type]


def test_a_bridged_method_conforms() -> None:
    verdicts = {verdict.check: verdict.status for verdict in check_method(METHODS["peft:LORA"], {"r": 4})}
    assert "failed" not in verdicts.values(), verdicts
    assert verdicts["starts_as_backbone"] == verdicts["leaves_global_randomness"] == "passed"


def test_adalora_moves_its_budget_while_it_trains(settings: Settings) -> None:
    budget = {"init_r": 4, "target_r": 1, "total_step": 8, "tinit": 0, "tfinal": 2, "deltaT": 1}
    trial = make("peft:ADALORA", settings, parameters=parameters_of(make_method(METHODS["peft:ADALORA"], budget)))
    prepared = stages.prepare(trial, settings)
    stage = stages.load(prepared, torch.device("cpu"))
    stages.attach(prepared, stage, stages.Started())
    phase = stages.Phase("train", trial.recipe, prepared.method)
    stages.train(prepared, stage, phase, Hooks(lambda epoch: None))
    kept = [value for name, value in stage.model.named_parameters() if "lora_E" in name]
    assert sum(value.numel() for value in kept) == 4 * len(kept)
    assert sum(int((value != 0).sum()) for value in kept) == len(kept)  # the whole budget, shared out between the maps
