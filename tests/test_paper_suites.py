"""The suites of the papers' tables: all are there, plan without weights or network, count and train as printed."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from harness import results
from harness.built_in_suites import suite_names
from harness.cli import app
from harness.estimates import Estimator
from harness.overrides import parse_overrides
from harness.plugins import Plugins, discover
from harness.preflight import check_models, model_checks
from harness.records import Member, SuiteInfo
from harness.settings import Settings
from harness.suite import Filters, Selection, plan
from harness.suite_file import load_suite

PAPERS = {"QR-LoRA": "qrlora", "LoRA-XS": "loraxs", "LoRA-SB": "lorasb"}
TABLES = {"QR-LoRA": {1, 2, 3, 4}, "LoRA-XS": {1, 2, 3, 4, *range(10, 24)}, "LoRA-SB": {1, 2, 3, 4}}
SUITES = [name for name in suite_names() if name.startswith(tuple(PAPERS.values()))]
STARTERS = ("starter-encoder", "starter-decoder")
NEVER_PRINTED_SO = {"lora", "svd_lora", "svd_lora-residual"}
"""Rows of the QR-LoRA suites whose printed count no reading of q and v gives: methods.md of the papers, section 8."""
GLUE = {"SST-2": "sst2", "MRPC": "mrpc", "CoLA": "cola", "QNLI": "qnli", "RTE": "rte", "STS-B": "stsb"}


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return discover()


def planned(name: str, plugins: Plugins, settings: Settings, *sets: str, **filters: tuple[str, ...]) -> SuiteInfo:
    selection = Selection(Filters(**filters), parse_overrides(sets))  # type: ignore[arg-type]
    return plan(load_suite(name, plugins), selection, settings, plugins)


def members(info: SuiteInfo) -> dict[tuple[str, str], Member]:
    """The member of the first seed, by task and label."""
    found: dict[tuple[str, str], Member] = {}
    for member in info.members:
        found.setdefault((member.trial.task, member.label), member)
    return found


def tables(title: str) -> tuple[str, set[int]]:
    match = re.fullmatch(r"([\w-]+), Tables? ([\d, ]*\d).*", title)
    assert match, title
    return match.group(1), {int(number) for number in match.group(2).split(",")}


def test_list_suites_names_every_table() -> None:
    listed = json.loads(CliRunner().invoke(app, ["list", "suites", "--json"]).output)["suites"]
    found: dict[str, set[int]] = {paper: set() for paper in PAPERS}
    for item in listed:
        if item["name"] in SUITES:
            paper, numbers = tables(item["title"])
            assert item["name"].startswith(PAPERS[paper])
            found[paper] |= numbers
    assert found == TABLES


def test_list_suites_names_the_tables_that_are_analyses_by_command() -> None:
    listed = json.loads(CliRunner().invoke(app, ["list", "suites", "--json"]).output)["analyses"]
    found = {item["command"]: tables(item["title"]) for item in listed}
    assert found == {
        "analyse retention": ("LoRA-XS", {6, 7, 8}),
        "analyse subspaces": ("LoRA-XS", {9}),
        "analyse start-cost": ("LoRA-SB", {5}),
        "analyse inference": ("LoRA-SB", {6}),
    }
    for command in found:
        assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_plans_without_weights_and_says_where_it_deviates(
    name: str, plugins: Plugins, settings: Settings
) -> None:
    info = planned(name, plugins, settings)
    suite = load_suite(name, plugins)
    assert suite.description
    assert suite.rank_by == "selected"
    assert {len(item.trial.backbone.revision) for item in info.members} == {40}
    assert {item.label for item in info.members} == {entry.label for entry in suite.methods}
    labels = {item.label for item in info.members}
    assert labels & {"head_only", "majority"}
    starts = {item.trial.start.kind for item in info.members}
    assert "head_only" in labels or starts == {"pretrained"}
    assert "warmup_only" in labels or "warmup" not in starts
    adapters = {item.label: item.trial for item in info.members if item.trial.start.what == "adapter"}
    moved = {label for label, trial in adapters.items() if trial.method != "head_only" and trial.recipe.learning_rate}
    still = {label for label, trial in adapters.items() if not trial.recipe.learning_rate}
    assert still == {f"{label}-start" for label in moved}


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_fits_the_starter_backbones(name: str, plugins: Plugins, settings: Settings) -> None:
    kinds = {plugins.tasks[entry.name].kind == "generation" for entry in load_suite(name, plugins).tasks}
    backbones = tuple(starter for starter, generates in zip(STARTERS, (False, True), strict=True) if generates in kinds)
    info = planned(name, plugins, settings, "train_size=32", "epochs=1", "max_length=128", backbones=backbones)
    assert {item.trial.backbone.name for item in info.members} == set(backbones)
    assert {(item.trial.train_size, item.trial.recipe.epochs) for item in info.members} == {(32, 1)}
    assert {item.trial.start.train_size for item in info.members if item.trial.start.task} <= {32}
    check_models(model_checks(info.members, plugins), settings)


@pytest.mark.parametrize("name", SUITES)
def test_printed_counts_agree_where_the_papers_are_consistent(name: str, plugins: Plugins, settings: Settings) -> None:
    info = planned(name, plugins, settings)
    kept = [member for key, member in members(info).items() if key in info.printed]
    first = {member.label: member for member in reversed(kept)}  # on the suite's first task
    rows = list(Estimator(plugins, settings).rows(dataclasses.replace(info, members=tuple(first.values())), set()))
    assert {row.label for row in rows if row.printed_agrees is None} == {
        row.label for row in rows if row.method == "qr_lora"
    }
    expected = NEVER_PRINTED_SO & set(first) if name.startswith("qrlora") else set()
    assert {row.label for row in rows if row.printed_agrees is False} == expected


METHODS = {
    "FT": "ft",
    "LoRA": "lora",
    "rsLoRA": "rslora",
    "PiSSA": "pissa",
    "SVD-LoRA": "svd_lora",
    "QR-LoRA": "qr_lora",
    "LoRA-XS": "lora_xs",
    "LoRA-SB": "lora_sb",
    "VeRA": "vera",
}


def printed_counts(infos: Iterable[SuiteInfo]) -> set[tuple[str, float]]:
    return {
        (member.trial.method, info.printed[key].params)
        for info in infos
        for key, member in members(info).items()
        if key in info.printed
    }


@pytest.mark.parametrize(
    ("table", "names"),
    [
        *((f"qrlora_table{number}", (f"qrlora-table{number}",)) for number in (1, 2, 3, 4)),
        ("loraxs_table1", ("loraxs-table1",)),
        ("loraxs_table2", ("loraxs-table2-llama-2-7b", "loraxs-table2-llama-3-8b")),
        ("loraxs_table3", ("loraxs-table3-mistral-7b", "loraxs-table3-gemma-7b")),
        ("loraxs_table4", ("loraxs-tables10-13",)),
    ],
)
def test_printed_counts_are_those_of_the_transcribed_tables(
    table: str, names: tuple[str, ...], plugins: Plugins, settings: Settings, published_root: Path
) -> None:
    frame = pd.read_csv(published_root / f"{table}.csv")
    expected = {(METHODS[str(row.method)], row.trainable_params) for row in frame.itertuples()}
    assert printed_counts(planned(name, plugins, settings) for name in names) == expected


@pytest.mark.parametrize(
    ("table", "model", "name"),
    [
        ("lorasb_table1", "Mistral-7B", "lorasb-table1-mistral-7b"),
        ("lorasb_table1", "Gemma-2 9B", "lorasb-table1-gemma-2-9b"),
        ("lorasb_table2", "Llama-3.2 3B", "lorasb-table2"),
        ("lorasb_table3", "roberta-large", "lorasb-table3"),
    ],
)
def test_counts_of_lora_sb_are_those_of_the_transcribed_tables(
    table: str, model: str, name: str, plugins: Plugins, settings: Settings, published_root: Path
) -> None:
    frame = pd.read_csv(published_root / f"{table}.csv")
    frame = frame[(frame["model"] == model) & frame["trainable_params"].notna()]
    expected = {(METHODS[str(row.method)], row.config, row.trainable_params) for row in frame.itertuples()}
    assert len(expected) == 9
    info = planned(name, plugins, settings)
    first = {item.label: item for item in reversed(list(members(info).values())) if "r" in item.trial.parameters}
    estimator = Estimator(plugins, settings)
    assert {
        (trial.method, f"r={trial.parameters['r']}", estimator.counts(trial).adapter_params)
        for trial in (item.trial for item in first.values())
    } == expected


def test_rates_of_lora_xs_are_those_of_its_tables(plugins: Plugins, settings: Settings, published_root: Path) -> None:
    found = members(planned("loraxs-table1", plugins, settings))
    frame = pd.read_csv(published_root / "hparams_loraxs_table5.csv")
    assert len(frame) == 36
    for row in frame.itertuples():
        trial = found[GLUE[str(row.task)], f"lora_xs-r{row.rank}"].trial
        recipe = trial.recipe
        assert (recipe.learning_rate, recipe.head_learning_rate) == (row.adapter_lr, row.classifier_lr), row
        assert (recipe.epochs, recipe.batch_size, recipe.max_length) == (row.epochs, row.batch, row.seq_len), row
        assert (recipe.warmup_ratio, trial.parameters["alpha"], trial.parameters["r"]) == (
            row.warmup_ratio,
            row.alpha,
            row.rank,
        )
    found = members(planned("loraxs-tables14-15", plugins, settings))
    frame = pd.read_csv(published_root / "hparams_loraxs_table15.csv")
    suffixes = {"SVD of W": "svd", "random": "random"}
    for row in frame.itertuples():
        trial = found.pop((GLUE[str(row.task)], f"lora_xs-r{row.rank}-{suffixes[str(row.init)]}")).trial
        recipe = trial.recipe
        assert (recipe.learning_rate, recipe.head_learning_rate) == (row.adapter_lr, row.classifier_lr), row
        assert (recipe.epochs, trial.parameters["basis"]) == (row.epochs, suffixes[str(row.init)])
    assert {label for _, label in found} == {"head_only"}


VARIANTS: dict[str, dict[str, Any]] = {
    "random": {"basis": "random"},
    "SVD of random": {"basis": "svd_random"},
    "SVD of W": {"basis": "svd", "which": "top"},
    "svd on w top": {"which": "top"},
    "svd on w bottom": {"which": "bottom"},
    "A = U_r Sigma_r": {"sigma": True},
    "A = U_r": {"sigma": False},
}
CONFIG = re.compile(r"r=4; alpha=16; (?:init|frozen)=(?P<variant>[^;]+); lr=(?P<lr>[\d.]+); cls_lr=(?P<head>[\d.]+);.*")


@pytest.mark.parametrize(
    ("numbers", "name", "not_printed"),
    [
        (range(10, 14), "loraxs-tables10-13", 0),
        (range(16, 20), "loraxs-tables16-19", 0),
        (range(20, 24), "loraxs-tables20-23", 1),  # Table 23 lacks one cell of its grid
    ],
)
def test_ablations_of_lora_xs_have_exactly_the_printed_rows(
    numbers: range, name: str, not_printed: int, plugins: Plugins, settings: Settings, published_root: Path
) -> None:
    frame = pd.concat(pd.read_csv(published_root / f"loraxs_table{number}.csv") for number in numbers)
    trials = {key: item.trial for key, item in members(planned(name, plugins, settings)).items()}
    trials = {key: trial for key, trial in trials.items() if trial.method == "lora_xs"}
    for row in frame.itertuples():
        match = CONFIG.fullmatch(str(row.config))
        assert match, row.config
        variant = {"r": 4, "alpha": 16, **VARIANTS[match["variant"]]}
        fitting = [
            key
            for key, trial in trials.items()
            if trial.task == GLUE[str(row.task)]
            and (trial.recipe.learning_rate, trial.recipe.head_learning_rate)
            == (float(match["lr"]), float(match["head"]))
            and variant.items() <= trial.parameters.items()
        ]
        assert len(fitting) == 1, row.config
        del trials[fitting[0]]
    assert len(trials) == not_printed


@pytest.fixture(scope="module")
def short_rows(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror with a few short real rows of every data file that the suites read, and MetaMathQA's in its form."""
    folder = tmp_path_factory.mktemp("mirror")
    for path in [*data_root.glob("glue/*/*"), *data_root.glob("gsm8k/*"), *data_root.glob("math/*")]:
        _shorten(path, folder / path.relative_to(data_root), 40 if path.stem == "train" else 4)
    for path in data_root.glob("commonsense/**/*.parquet"):
        _shorten(path, folder / path.relative_to(data_root), 40 if path.stem == "train" else 2)
    (folder / "metamath").mkdir()
    rows = pd.read_parquet(folder / "gsm8k" / "train.parquet")
    answers = rows["answer"] + "\nThe answer is: " + rows["answer"].str.split("#### ").str[1]
    pd.DataFrame({"query": rows["question"], "response": answers}).to_parquet(folder / "metamath" / "train.parquet")
    return folder


def _shorten(source: Path, target: Path, count: int) -> None:
    frame = pd.read_parquet(source)
    texts = frame.select_dtypes(["object", "string"]).astype(str)
    target.parent.mkdir(parents=True, exist_ok=True)
    frame.loc[texts.map(len).sum(axis=1).sort_values(kind="stable").index[:count]].to_parquet(target)


OWN = ("qr_lora", "lora_sb", "lora_xs")
"""The methods of the papers."""


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_runs_small_on_a_starter_backbone(
    name: str, plugins: Plugins, short_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of the paper's own method on the first task of the last grid that does not start with epochs of MNLI."""
    suite = load_suite(name, plugins)
    grid = suite.grids[-1] if suite.grids[-1].start.kind != "transfer" else suite.grids[0]
    task, label = grid.tasks[0], next(e.label for method in OWN for e in suite.methods if e.name == method)
    generates = plugins.tasks[task].kind == "generation"
    if generates:
        monkeypatch.setattr(type(plugins.tasks[task]), "max_new_tokens", 4)
    length = 256 if generates else 64
    sets = ("accumulation=1", "batch_size=8", "epochs=1", f"max_length={length}", "precision=fp32", "train_size=16")
    options = [word for change in sets for word in ("--set", change)]
    options += ["--backbone", STARTERS[generates], "--jobs", "1", "--db", str(tmp_path / "board.db"), "--quiet"]
    options += ["--grid", grid.name, "--task", task, "--method", label, "--seed", str(grid.seeds[0])]
    places = ["--data-root", str(short_rows), "--cache-root", str(tmp_path / "cache"), "--device", "cpu"]
    result = CliRunner().invoke(app, ["run", "--suite", name, *options, *places])
    assert result.exit_code == 0, result.output
    frame = results(
        f"{name}[{','.join(sorted([f'backbone={STARTERS[generates]}', *sets]))}]", db=str(tmp_path / "board.db")
    )
    assert set(frame["label"]) == {label}
    assert set(frame["status"]) == {"ok"}
    assert frame["score_selected"].between(-1, 1).all()
