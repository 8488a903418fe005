"""Analyses by shape and by stored runs: against formulas, real weights and the papers' own arithmetic."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from factories import PROVENANCE, fill, make_record
from typer.testing import CliRunner

from harness import adapt, backbones
from harness.analyses.inference import forward_flops, inference_costs
from harness.analyses.stacks import stack_times
from harness.analyses.start_cost import start_costs
from harness.api import LinearMethod, Method
from harness.cli import app
from harness.counts import Shape, count
from harness.decompositions import CachedDecompositions
from harness.errors import UserError
from harness.plugins import discover, make_method
from harness.records import Costs
from harness.settings import Settings
from harness.store import open_store
from harness.trial import Recipe

SETTINGS = Settings(data_root=None, models_root=None, device="cpu")
ENCODER = "q,v,o,down"
LENGTH = 128


def method(name: str, **parameters: Any) -> Method:
    return make_method(discover().methods[name], parameters)


def per_token(name: str, r: int, m: int, n: int) -> int:
    """Terms that an unmerged map adds per token: down, between, up."""
    return {"lora": r * (m + n), "lora_xs": r * (m + n) + r * r, "lora_sb": r * (m + n) + r * r, "ft": 0}[name]


@pytest.mark.parametrize(
    ("backbone", "kind", "name", "r"),
    [
        ("roberta-base", "classification", "lora", 8),
        ("roberta-base", "classification", "lora_xs", 25),
        ("llama-3.2-3b", "generation", "lora_sb", 96),
    ],
)
def test_an_unmerged_adapter_adds_what_its_formula_multiplies(backbone: str, kind: Any, name: str, r: int) -> None:
    adapted = method(name, r=r, targets=ENCODER)
    shape = Shape(backbone, kind)
    plain, cost = inference_costs(shape, {"row": adapted}, LENGTH, SETTINGS)
    maps = count(adapted, shape, SETTINGS).maps
    added = sum(2 * LENGTH * per_token(name, r, *item.shape) for item in maps)
    assert plain.flops is not None
    assert cost.flops == plain.flops + added
    assert cost.macs == cost.flops / 2
    assert cost.overhead == pytest.approx(added / plain.flops, rel=1e-9)
    assert cost.adapter_params == sum(item.adapter_params or 0 for item in maps)


def test_the_plain_encoder_costs_its_maps_attention_and_head() -> None:
    (plain,) = inference_costs(Shape("roberta-large", "classification"), {}, LENGTH, SETTINGS)
    layers, width, inner = 24, 1024, 4096
    maps = layers * (4 * width * width + 2 * width * inner) * LENGTH
    attention = layers * 2 * LENGTH * LENGTH * width
    assert plain.macs == maps + attention + width * width + 2 * width


@pytest.mark.parametrize(
    ("backbone", "kind"), [("starter-encoder", "classification"), ("starter-decoder", "generation")]
)
@pytest.mark.parametrize("name", ["dora", "lora_xs", "head_only"])
def test_shapes_alone_cost_what_real_weights_cost(backbone: str, kind: Any, name: str, tmp_path: Path) -> None:
    adapted = method(name)
    _, cost = inference_costs(Shape(backbone, kind), {"row": adapted}, 24, SETTINGS)
    shapes, head = backbones.meta_model(backbone, kind, 2, SETTINGS)
    model: Any = type(shapes)(shapes.config)
    support = adapt.Support(CachedDecompositions(tmp_path), lambda name: model.get_parameter(f"{name}.weight"))
    adapt.attach(model, adapted, head, 0, support)
    assert cost.flops == forward_flops(model, 24)


def test_a_rank_that_only_the_weights_know_makes_the_cost_unknown() -> None:
    _, cost = inference_costs(Shape("roberta-base", "classification"), {"row": method("qr_lora")}, LENGTH, SETTINGS)
    assert (cost.flops, cost.macs, cost.overhead, cost.adapter_params) == (None, None, None, None)


def test_full_fine_tuning_costs_nothing_more() -> None:
    plain, cost = inference_costs(Shape("roberta-base", "classification"), {"row": method("ft")}, LENGTH, SETTINGS)
    assert (cost.flops, cost.overhead) == (plain.flops, 0)


@pytest.mark.parametrize(("length", "name", "fault"), [(0, "lora", "from 1 to 512"), (128, "majority", "has no model")])
def test_what_cannot_be_counted_is_refused(length: int, name: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        inference_costs(Shape("roberta-base", "classification"), {"row": method(name)}, length, SETTINGS)


def timed(seed: int, init: float | None, train: float, epochs: int = 2, **changes: Any) -> Any:
    costs = Costs(init_seconds=init, train_seconds=train)
    return make_record(seed=seed, recipe=Recipe(epochs=epochs), costs=costs, **changes)


def test_a_start_costs_the_share_of_an_epoch_that_the_paper_prints(tmp_path: Path) -> None:
    """LoRA-SB table 5, Mistral-7B: 121 s against 11,037 s an epoch are 1.10 %; Gemma-2 9B: 226 and 15,204, 1.49 %."""
    records = [timed(0, 121, 2 * 11_037), timed(1, 226, 3 * 15_204, epochs=3), timed(2, None, 5), timed(3, 1, 0)]
    failed = dataclasses.replace(timed(4, 50, 100), status="failed", scores=[], predictions=[])
    with open_store(str(tmp_path / "a.db")) as store:
        fill(store, [*records, failed])
        (cost,) = start_costs(store, "glue-tiny")
        with pytest.raises(UserError, match="did you mean 'glue-tiny'"):
            start_costs(store, "glue-tin")
    assert (cost.label, cost.task, cost.runs) == ("lora", "mrpc", 2)
    assert (round(100 * cost.lowest, 2), round(100 * cost.highest, 2)) == (1.10, 1.49)
    assert cost.share == pytest.approx((121 / 11_037 + 226 / 15_204) / 2)
    assert (cost.init_seconds, cost.epoch_seconds) == ((121 + 226) / 2, (11_037 + 15_204) / 2)


def test_the_commands_print_both(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    with open_store(path) as store:
        fill(store, [timed(0, 1, 20)])
    run = CliRunner().invoke
    listed = json.loads(run(app, ["analyse", "start-cost", "--db", path, "--json"]).stdout)
    assert [(row["label"], row["share"]) for row in listed] == [("lora", 0.1)]
    assert "10.000 %" in run(app, ["analyse", "start-cost", "--db", path]).stdout
    rows = ["--method", "lora r=8", "--method", "lora_sb r=24", "--set", f"targets={ENCODER}"]
    counted = run(app, ["analyse", "inference", "--backbone", "starter-encoder", *rows])
    assert [line.split("  ")[0] for line in counted.stdout.splitlines()[2:]] == [
        "starter-encoder",
        "lora r=8",
        "lora_sb r=24",
    ]
    wrong = run(app, ["analyse", "inference", "--backbone", "roberta-large", "--method", "lara r=8"])
    assert (wrong.exit_code, "did you mean 'lora'?" in wrong.output) == (2, True)


def test_every_linear_method_can_be_attached_to_shapes() -> None:
    methods = discover().methods
    linear = {name: make_method(cls, {}) for name, cls in methods.items() if issubclass(cls, LinearMethod)}
    _, *costs = inference_costs(Shape("starter-encoder", "classification"), linear, 8, SETTINGS)
    assert {cost.label for cost in costs if cost.flops is None} == {"qr_lora"}
    assert all(cost.overhead > 0 for cost in costs if cost.overhead is not None)


def test_times_across_stacks_are_ratios_to_the_canary_there(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "x.db")) as store:
        fill(store, [])
        for stack, factor in (("slow", 4.0), ("fast", 1.0), ("unmarked", 9.0)):
            made = {**PROVENANCE, "stack": {"device": stack, "threads": 3}}
            timed = [
                make_record(seed=seed, provenance=made, costs=Costs(train_seconds=factor * (10 + seed)))
                for seed in range(2)
            ]
            fill(store, timed)
            if stack != "unmarked":
                canary = make_record(seed=99, provenance=made, costs=Costs(train_seconds=factor * 2.0))
                fill(store, [canary], name="canary")
        times = stack_times(store, "glue-tiny")
    told = CliRunner().invoke(app, ["analyse", "stacks", "--db", str(tmp_path / "x.db")]).output
    [unmarked] = {time.stack for time in times if time.ratio is None}
    command = "OMP_NUM_THREADS=3 python -m harness run --suite canary --pack off --db canary.db"
    assert f"not run on stack {unmarked}; `{command}` does" in told
    assert told.count("the canary was not run") == 1
    assert sorted(time.ratio for time in times if time.ratio is not None) == [5.25, 5.25]
    assert [(time.runs, time.seconds) for time in times if time.ratio is None] == [(2, 94.5)]
    assert {time.label for time in times} == {"lora"}
