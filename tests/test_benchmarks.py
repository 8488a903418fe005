"""The benchmarks at toy size: both sides train the same thing, and what is written is what is reported."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from method_support import context
from scipy import stats
from transformers import AutoModelForCausalLM

from benchmarks import (
    _common,
    _rows,
    cluster,
    dropout_scores,
    llm_step,
    overhead,
    report,
    scaling,
    site,
    solo,
    starter_suite,
    twins,
    vs_peft,
)
from benchmarks._grid import GridRun
from harness.api import LinearMethod
from harness.plugins import discover, make_method
from harness.settings import Settings
from harness.suite_file import load_suite

TOY = ["--quick", "--device", "cpu"]
RESULT = _common.Result(
    "toy",
    "A toy",
    "python -m benchmarks.toy",
    quick=False,
    options={"rows": 3},
    tables=(_common.Table("Figures", ("side", "count", "ratio"), (("ours", 12_345, 2.0), ("theirs", 6_000, None))),),
    lines=(_common.Line("Rows", "rows", "seconds", ((0.0, 1.0), (1.0, 3.0), (2.0, 5.0))),),
    targets=(_common.Target("ratio", "at least 2", 2.0, True),),
)


@pytest.fixture(scope="module")
def result() -> _common.Result:
    return dataclasses.replace(
        RESULT, machine=_common.machine(Settings(data_root=None, models_root=None, device="cpu"))
    )


# ------------------------------------------------------------------------------------------ twins


def test_twins_differ_in_name_and_draws_alone(tmp_path: Path) -> None:
    plugin, suite = tmp_path / "lora_twin.py", tmp_path / "twins.toml"
    plugin.write_text(twins.PLUGIN)
    suite.write_text(twins.suite_text(seeds=2))
    plugins = discover((plugin,))
    found = load_suite(str(suite), plugins)
    assert [entry.label for entry in found.methods] == list(twins.ROWS)
    assert tuple(entry.name for entry in found.tasks) == twins.TASKS
    first, second = (make_method(plugins.methods[row], {}) for row in twins.ROWS)
    assert isinstance(first, LinearMethod)
    assert isinstance(second, LinearMethod)
    assert dataclasses.asdict(first) == dataclasses.asdict(second)
    ours, twin = (method.init(torch.ones(9, 8), context(torch.ones(9, 8))) for method in (first, second))
    assert torch.equal(ours["B"].tensor, twin["B"].tensor)
    assert not torch.equal(ours["A"].tensor, twin["A"].tensor)


# ------------------------------------------------------------------------------------------ steps


@pytest.mark.parametrize("extra", [["--gradient-checkpointing"], ["--precision", "bf16", "--answer-share", "0.5"]])
def test_both_sides_step_the_same_decoder(extra: list[str]) -> None:
    options = llm_step.parsed([*TOY, "--also", "lora_xs r=2 basis=random", *extra])
    (ours,), (theirs,), (other,) = llm_step.measure_all(options).values()
    assert ours.trainable_params == theirs.trainable_params > other.trainable_params == 7 * 2 * 2
    assert ours.first_loss == pytest.approx(theirs.first_loss, rel=1e-3)
    assert ours.last_loss < ours.first_loss


@pytest.mark.parametrize("name", ["llama-3.2-3b", "gemma-2-9b", "mistral-7b"])
def test_the_cut_keeps_the_architecture(name: str) -> None:
    whole = llm_step.configuration(llm_step.parsed(["--backbone", name]))
    cut = llm_step.configuration(llm_step.parsed(["--backbone", name, "--layers", "2", "--hidden", "512"]))
    assert (cut.num_hidden_layers, cut.hidden_size) == (2, 512)
    assert cut.num_attention_heads // cut.num_key_value_heads == whole.num_attention_heads // whole.num_key_value_heads
    with torch.device("meta"):
        assert len(AutoModelForCausalLM.from_config(cut).model.layers) == 2


# ---------------------------------------------------------------------------------- rows and peers


@pytest.mark.parametrize("task", list(_rows.SHAPES))
def test_made_up_rows_are_as_long_as_the_real_ones(task: str) -> None:
    shape = _rows.SHAPES[task]
    frame = _rows.synthetic(shape, 2000, seed=0)
    lengths = (frame["sentence1"] + " " + frame["sentence2"]).str.split().map(len) + _rows.SPECIAL
    for level, tokens in zip(_rows.LEVELS[1:-2], shape.quantiles[1:-2], strict=True):
        assert np.quantile(lengths, level) == pytest.approx(tokens, rel=0.1)
    assert (frame["sentence2"] != "").all()


def test_harness_and_peft_train_as_many_parameters_on_the_same_rows() -> None:
    found = vs_peft.benchmark(vs_peft.parsed([*TOY, "--methods", "vera", "--pack", "off"]))
    columns = found.tables[1].columns
    agree = [row[columns.index("same trained count")] for row in found.tables[1].rows]
    assert agree == ["yes"]
    ratios = [row[found.tables[0].columns.index("ratio")] for row in found.tables[0].rows]
    assert ratios[1] == 1.0
    assert found.targets[0].measured == pytest.approx(ratios[0])
    assert found.targets[0].reached is None


# --------------------------------------------------------------------------------------- statistics


def test_the_sign_flip_test_counts_all_flips() -> None:
    same_sign = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert dropout_scores.sign_flip(same_sign, np.zeros(5)) == pytest.approx(2 / 2**5)
    assert dropout_scores.sign_flip(same_sign, same_sign) == 1.0


def test_a_shift_is_told_from_noise() -> None:
    noise = np.random.default_rng(0).normal(size=(2, 20))
    assert min(dropout_scores.p_values(noise[0], noise[1] + 3)) < 1e-6
    low, high = dropout_scores.interval(noise[0], noise[1] + 3)
    assert low < -3 < high


def test_changes_of_scores_are_welchs_t() -> None:
    draw = np.random.default_rng(1).normal(size=(2, 6))
    place = {"grid": "main", "task": "rte", "label": "lora", "train_size": 0, "start": "{}"}
    before, after = (pd.DataFrame({**place, "seed": range(6), "score_last": values}) for values in draw)
    (ratio,) = starter_suite.score_changes(before, after)["ratio"]
    assert ratio == pytest.approx(stats.ttest_ind(draw[1], draw[0], equal_var=False).statistic)


def test_overhead_leaves_evaluation_out() -> None:
    parts = overhead.Parts(wall=15.0, steps=10.0, evaluation=3.0, load=1.0, init=0.5)
    assert (parts.ratio, parts.rest) == (1.2, 0.5)


def test_memory_that_grows_with_finished_trials_is_seen() -> None:
    flat = scaling.memory(GridRun(1.0, pd.DataFrame(), (50, 100, 101, 100, 101, 100, 101, 100)))
    grows = scaling.memory(GridRun(1.0, pd.DataFrame(), tuple(range(100, 180, 10))))
    assert flat[1].reached is True
    assert grows[1].reached is False


# ------------------------------------------------------------------------------- files and the page


def test_a_result_is_read_as_it_was_written(result: _common.Result, tmp_path: Path) -> None:
    _common.report(result, tmp_path)
    assert _common.read_result(tmp_path / "toy.json") == result
    assert result.lines[0].fit == pytest.approx((1.0, 2.0))
    assert result.lines[0].deviation == pytest.approx(0.0)


def test_figures_of_toy_size_never_replace_measured_ones(result: _common.Result) -> None:
    before = sorted(_common.RESULTS.glob("*"))
    _common.report(dataclasses.replace(result, quick=True), _common.RESULTS)
    assert sorted(_common.RESULTS.glob("*")) == before


def test_the_page_tells_machine_figures_and_what_is_missing(result: _common.Result, tmp_path: Path) -> None:
    _common.report(dataclasses.replace(result, name="overhead-starter-cpu"), tmp_path)
    _common.report(dataclasses.replace(result, name="dropout_scores-cpu", quick=True), tmp_path)
    page = report.page(tmp_path, plots=tmp_path / "plots")
    assert _common.machine_line(result.machine) in page
    assert "| ours | 12,345 | 2 |" in page
    assert "| theirs | 6,000 | – |" in page
    assert "**reached**" in page
    assert "Scores with dropout, CPU: not measured." in page
    assert (tmp_path / "plots" / "overhead-starter-cpu-0.svg").read_text().startswith("<svg")


def test_the_committed_page_is_what_the_committed_results_make() -> None:
    assert report.PAGE.read_text(encoding="utf-8") == report.page()


def test_sides_take_turns() -> None:
    order: list[str] = []
    _common.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert "".join(order) == "abbaab"


@pytest.mark.parametrize(
    "module", [vs_peft, solo, scaling, overhead, dropout_scores, llm_step, starter_suite, site, cluster]
)
def test_the_command_kept_repeats_the_run_and_names_no_folder(module: object, tmp_path: Path) -> None:
    options = module.parsed([*TOY, "--out", str(tmp_path)])  # type: ignore[attr-defined]
    words = shlex.split(options.command)
    assert words[1:] == ["-m", module.__name__, *TOY, "--out", "DIR"]  # type: ignore[attr-defined]
    assert str(tmp_path) not in str(_common.plain_options(options))
