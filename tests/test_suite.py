"""Suite files: what they mean, and that every fault in one is a single clear line."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path

import pytest

from harness.built_in_suites import suite_names
from harness.errors import UserError
from harness.overrides import parse_override, parse_overrides
from harness.plugins import Plugins, discover
from harness.records import Member
from harness.settings import Settings
from harness.suite import Filters, Selection, plan
from harness.suite_file import load_suite, read_suite
from harness.trial import Start, trial_from_json

SUITE = """
name = "small"
title = "A small suite"
seeds = [0, 1]

[recipe]
epochs = 2
learning_rate = 1

[[task]]
name = "rte"
backbone = "tiny"

[[task]]
name = "cola"
backbone = "tiny"
recipe = { epochs = 3, batch_size = 16 }

[[method]]
name = "lora"
parameters = { r = 4 }

[[method]]
name = "lora"
label = "lora-wide"
parameters = { r = 16 }
recipe = { batch_size = 8 }
task_recipes = { cola = { learning_rate = 2e-3 } }

[[method]]
name = "warmup_only"
"""
WARMUP_GRID = """
[[grid]]
name = "main"
[[grid]]
name = "warm"
methods = ["warmup_only", "lora"]
tasks = ["cola"]
seeds = [7]
start = { kind = "warmup", epochs = 1, learning_rate = 1e-4 }
recipe = { clip = 0 }
"""


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return discover()


@pytest.fixture
def places(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a models root that holds `tiny`: enough of a backbone to be planned with."""
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return dataclasses.replace(settings, models_root=tmp_path / "models")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(text)
    return path


def members(
    path: Path, plugins: Plugins, settings: Settings, *sets: str, **filters: tuple[object, ...]
) -> list[Member]:
    selection = Selection(Filters(**filters), parse_overrides(sets))  # type: ignore[arg-type]
    return list(plan(read_suite(path, plugins), selection, settings, plugins).members)


def test_a_suite_without_grids_is_one_main_grid_over_everything_that_may_start_so(
    tmp_path: Path, plugins: Plugins, places: Settings
) -> None:
    found = members(write(tmp_path, SUITE), plugins, places)
    keys = [(item.grid, item.trial.task, item.label, item.trial.seed) for item in found]
    expected = [
        ("main", task, label, seed) for task in ("rte", "cola") for label in ("lora", "lora-wide") for seed in (0, 1)
    ]
    assert keys == expected


def test_one_grid_of_several_can_be_chosen(tmp_path: Path, plugins: Plugins, places: Settings) -> None:
    path = write(tmp_path, SUITE + WARMUP_GRID)
    assert {item.grid for item in members(path, plugins, places)} == {"main", "warm"}
    whole = [item for item in members(path, plugins, places) if item.grid == "warm"]
    assert members(path, plugins, places, grids=("warm",)) == whole
    with pytest.raises(UserError, match="unknown grid 'warn' in suite 'small': did you mean 'warm'"):
        members(path, plugins, places, grids=("warn",))


def test_recipe_layers_override_each_other_from_suite_to_command_line(
    tmp_path: Path, plugins: Plugins, places: Settings
) -> None:
    path = write(tmp_path, SUITE + WARMUP_GRID)
    recipes = {(m.grid, m.trial.task, m.label): m.trial.recipe for m in members(path, plugins, places)}
    assert recipes["main", "rte", "lora"].epochs == 2
    assert recipes["main", "cola", "lora"].epochs == 3
    assert recipes["main", "cola", "lora"].batch_size == 16
    assert recipes["main", "cola", "lora-wide"].batch_size == 8
    assert recipes["main", "cola", "lora-wide"].learning_rate == 2e-3
    assert recipes["main", "rte", "lora-wide"].learning_rate == 1.0
    assert recipes["warm", "cola", "lora"].clip == 0
    changed = members(path, plugins, places, "epochs=9")
    assert {item.trial.recipe.epochs for item in changed} == {9}


def test_trials_hold_complete_parameters_and_the_weights_identity(
    tmp_path: Path, plugins: Plugins, places: Settings
) -> None:
    trial = members(write(tmp_path, SUITE), plugins, places)[0].trial
    assert trial.parameters["r"] == 4
    assert trial.parameters["targets"] == "q,v"
    assert trial.backbone.revision.startswith("sha256:")


def test_whole_numbers_and_fractions_of_one_value_make_the_same_trial(
    tmp_path: Path, plugins: Plugins, places: Settings
) -> None:
    whole = members(write(tmp_path, SUITE), plugins, places)[0].trial.id
    fraction = members(write(tmp_path, SUITE.replace("learning_rate = 1\n", "learning_rate = 1.0\n")), plugins, places)
    assert fraction[0].trial.id == whole


def test_a_grid_has_its_own_tasks_methods_seeds_and_start(tmp_path: Path, plugins: Plugins, places: Settings) -> None:
    warm = [item for item in members(write(tmp_path, SUITE + WARMUP_GRID), plugins, places) if item.grid == "warm"]
    assert [(item.label, item.trial.task, item.trial.seed) for item in warm] == [
        ("lora", "cola", 7),
        ("warmup_only", "cola", 7),
    ]
    assert {item.trial.start for item in warm} == {Start("warmup", 1, 1e-4)}


def test_a_tasks_train_size_stands_for_zero_in_a_grid(tmp_path: Path, plugins: Plugins, places: Settings) -> None:
    text = SUITE.replace('name = "rte"', 'name = "rte"\ntrain_size = 100')
    grid = '[[grid]]\nname = "main"\ntrain_sizes = [0, 50]\n'
    found = members(write(tmp_path, text + grid), plugins, places)
    sizes = {(item.trial.task, item.trial.train_size) for item in found}
    assert sizes == {("rte", 100), ("rte", 50), ("cola", 0), ("cola", 50)}


def test_filters_narrow_by_label_name_task_and_seed(tmp_path: Path, plugins: Plugins, places: Settings) -> None:
    path = write(tmp_path, SUITE)
    assert {item.label for item in members(path, plugins, places, methods=("lora-wide",))} == {"lora-wide"}
    both = members(path, plugins, places, methods=("lora",), tasks=("cola",), seeds=(1,))
    assert [(item.label, item.trial.task, item.trial.seed) for item in both] == [
        ("lora", "cola", 1),
        ("lora-wide", "cola", 1),
    ]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"methods": ("lorra",)}, "unknown method 'lorra' in suite 'small': did you mean 'lora'?"),
        ({"tasks": ("colla",)}, "unknown task 'colla' in suite 'small': did you mean 'cola'?"),
        ({"backbones": ("tinny",)}, "unknown backbone 'tinny' in suite 'small': did you mean 'tiny'?"),
        ({"seeds": (5,)}, "suite 'small' has no seed 5; it has: 0, 1."),
        ({"train_sizes": (64,)}, "suite 'small' has no train size 64; it has: 0."),
        ({"methods": ("warmup_only",)}, "no trial of suite 'small' fits all the filters at once"),
    ],
)
def test_a_filter_that_fits_nothing_is_an_error(
    filters: dict[str, tuple[object, ...]], message: str, tmp_path: Path, plugins: Plugins, places: Settings
) -> None:
    with pytest.raises(UserError) as error:
        members(write(tmp_path, SUITE), plugins, places, **filters)
    assert message in str(error.value)


def test_a_method_that_the_suite_lacks_joins_its_first_grid(tmp_path: Path, plugins: Plugins, places: Settings) -> None:
    path = write(tmp_path, SUITE)
    usual = members(path, plugins, places)
    found = members(path, plugins, places, methods=("olora", "lora"))
    assert {item.label for item in found} == {"olora", "lora", "lora-wide"}
    guests = [item for item in found if item.label == "olora"]
    assert {item.grid for item in guests} == {usual[0].grid}
    lora = next(item.trial for item in usual if item.label == "lora")
    assert guests[0].trial.recipe == lora.recipe
    without = write(tmp_path, SUITE.replace('name = "warmup_only"', 'name = "head_only"'))
    with pytest.raises(UserError, match="method 'warmup_only' requires the start 'warmup'"):
        members(without, plugins, places, methods=("warmup_only",))


def test_a_member_of_a_family_can_be_named_and_configured(tmp_path: Path, plugins: Plugins, places: Settings) -> None:
    found = members(write(tmp_path, SUITE), plugins, places, "init_r=3", "total_step=9", methods=("peft:ADALORA",))
    assert {item.label for item in found} == {"peft:ADALORA"}
    parameters = found[0].trial.parameters
    assert (parameters["init_r"], parameters["total_step"], parameters["targets"]) == (3, 9, "q,v")


def test_overrides_reach_parameters_recipes_and_single_rows(tmp_path: Path, plugins: Plugins, places: Settings) -> None:
    path = write(tmp_path, SUITE)
    found = members(path, plugins, places, "r=2", "lora-wide.alpha=3", "lora-wide.clip=0.5", "targets=q,k")
    rows = {item.label: item.trial for item in found}
    assert {trial.parameters["r"] for trial in rows.values()} == {2}
    assert {trial.parameters["targets"] for trial in rows.values()} == {"q,k"}
    assert (rows["lora"].parameters["alpha"], rows["lora-wide"].parameters["alpha"]) == (16.0, 3.0)
    assert (rows["lora"].recipe.clip, rows["lora-wide"].recipe.clip) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=1", "unknown key 'epoch' in --set epoch=1: did you mean 'epochs'?"),
        ("rr=1", "unknown key 'rr' in --set rr=1: did you mean 'r'?"),
        ("lorra.r=1", "unknown method 'lorra' in --set: did you mean 'lora'?"),
        ("r=abc", "method 'lora': r = 'abc'"),
        ("epochs=1.5", "epochs = 1.5 must be a whole number."),
        ("epochs=0", "epochs = 0 must be at least 1."),
        ("r=0", "r = 0 must be at least 1"),
        ("epochs", "--set epochs: write key=value"),
    ],
)
def test_a_wrong_override_is_an_error(
    override: str, message: str, tmp_path: Path, plugins: Plugins, places: Settings
) -> None:
    with pytest.raises(UserError) as error:
        members(write(tmp_path, SUITE), plugins, places, override)
    assert message in str(error.value)


def test_override_values_are_toml_or_else_text() -> None:
    texts = ("a=5", "b=1e-3", "c=true", "d=q,v,o", "e=re:.*query", 'f="5"')
    assert [parse_override(text).value for text in texts] == [5, 1e-3, True, "q,v,o", "re:.*query", "5"]


def test_a_changed_suite_is_recorded_under_another_name(tmp_path: Path, plugins: Plugins, places: Settings) -> None:
    suite = read_suite(write(tmp_path, SUITE), plugins)
    info = plan(suite, Selection(overrides=parse_overrides(["r=2", "epochs=1"])), places, plugins)
    assert info.name == "small[epochs=1,r=2]"
    assert info.title.endswith(" [epochs=1, r=2]")
    assert plan(suite, Selection(), places, plugins).name == "small"


def test_a_plan_that_a_filter_narrows_is_not_whole(tmp_path: Path, plugins: Plugins, places: Settings) -> None:
    suite = read_suite(write(tmp_path, SUITE), plugins)
    assert plan(suite, Selection(), places, plugins).whole
    assert not plan(suite, Selection(Filters(seeds=(0,))), places, plugins).whole


FAULTS = [
    ('name = "lora"\nlabel', 'name = "lorra"\nlabel', "[[method]] 'lora-wide': did you mean 'lora'?"),
    ('name = "rte"', 'name = "rtee"', "unknown task 'rtee' in {path}, [[task]] 'rtee': did you mean 'rte'?"),
    ("title =", "titel =", "unknown key 'titel' in {path}: did you mean 'title'?"),
    ("title =", "sedes = [1]\ntitle =", "unknown key 'sedes' in {path}: did you mean 'seeds'?"),
    ("epochs = 2", "epoch = 2", "unknown key 'epoch' in {path}, recipe: did you mean 'epochs'?"),
    ("epochs = 2", 'epochs = "2"', "{path}, recipe: epochs = '2' must be a whole number."),
    ("epochs = 2", "epochs = true", "{path}, recipe: epochs = True must be a whole number."),
    ("batch_size = 16", "batch_size = 0", "recipe of 'lora' on 'cola': batch_size = 0 must be at least 1."),
    ("r = 4", "rank = 4", "method 'lora' has no parameter 'rank' in {path}, [[method]] 'lora'"),
    ('label = "lora-wide"', "", "{path}: two [[method]] entries are named 'lora'; give one of them a `label`."),
    ('name = "cola"', 'name = "rte"', "{path}: two [[task]] entries are named 'rte'."),
    ('backbone = "tiny"\n\n', "\n", "{path}, [[task]] 'rte': the key 'backbone' is missing."),
    ("seeds = [0, 1]", "seeds = [0, 0]", "{path}: seeds names 0 twice."),
    ("seeds = [0, 1]", "seeds = []", "{path}: seeds is empty"),
    ("seeds = [0, 1]", 'seeds = ["0"]', "{path}: seeds = ['0'] must be a list, each item a whole number."),
    ("seeds = [0, 1]", "seeds = [-1]", "{path}: seeds holds -1; it must be at least 0."),
    ("seeds = [0, 1]", 'rank_by = "best"', "unknown rank_by 'best' in {path}"),
    ('name = "small"', 'name = "a/b"', "{path}: name = 'a/b' may hold letters"),
    ("cola = {", "colla = {", "unknown task 'colla' in {path}, [[method]] 'lora-wide', task_recipes"),
    ("seeds = [0, 1]", "seeds = [0, 1", "suite file {path} is not valid TOML: Unclosed array (at line 6, column 1)"),
]


@pytest.mark.parametrize(("good", "bad", "message"), FAULTS)
def test_a_faulty_suite_file_is_an_error_that_names_the_place(
    good: str, bad: str, message: str, tmp_path: Path, plugins: Plugins, places: Settings
) -> None:
    assert good in SUITE
    path = write(tmp_path, SUITE.replace(good, bad, 1))
    with pytest.raises(UserError) as error:
        members(path, plugins, places)
    assert message.format(path=path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ('[[grid]]\nname = "a"\n[[grid]]\nname = "a"\n', "two [[grid]] entries are named 'a'."),
        ('[[grid]]\nname = "a"\nmethods = ["lorra"]\n', "unknown method 'lorra' in {path}, [[grid]] 'a', methods"),
        ('[[grid]]\nname = "a"\nmethods = ["warmup_only"]\n', "method 'warmup_only' requires the start 'warmup'"),
        ('[[grid]]\nname = "a"\nstart = { kind = "warm" }\n', "kind = 'warm' must be one of pretrained, warmup"),
        ('[[grid]]\nname = "a"\nstart = { kind = "warmup" }\n', "a warmup start needs epochs >= 1"),
        ('[[grid]]\nname = "a"\nstart = { epochs = 1 }\n', "a pretrained start takes no epochs"),
        ('[grid]\nname = "a"\n', "'grid' must be written as [[grid]]."),
    ],
)
def test_a_faulty_grid_is_an_error(grid: str, message: str, tmp_path: Path, plugins: Plugins) -> None:
    path = write(tmp_path, SUITE + grid)
    with pytest.raises(UserError) as error:
        read_suite(path, plugins)
    assert message.format(path=path) in str(error.value)


def test_an_unknown_suite_names_the_nearest_and_a_missing_file_is_named(tmp_path: Path, plugins: Plugins) -> None:
    with pytest.raises(UserError, match="unknown suite 'glue-minilm-smal': did you mean 'glue-minilm-small'"):
        load_suite("glue-minilm-smal", plugins)
    with pytest.raises(UserError, match="does not exist"):
        load_suite(str(tmp_path / "none.toml"), plugins)


def test_a_file_may_not_take_the_name_of_a_built_in_suite(tmp_path: Path, plugins: Plugins) -> None:
    path = write(tmp_path, SUITE.replace('"small"', '"glue-minilm"', 1))
    with pytest.raises(UserError, match="belongs to a built-in suite"):
        load_suite(str(path), plugins)


@pytest.mark.parametrize("name", suite_names())
def test_built_in_suites_are_sound_and_named_like_their_files(name: str, plugins: Plugins) -> None:
    assert load_suite(name, plugins).name == name


def test_a_later_setting_at_its_default_leaves_a_trial_s_id_as_it_was() -> None:
    from harness.api import later, settings_of

    @dataclasses.dataclass(frozen=True)
    class Before:
        rank: int = 4

    @dataclasses.dataclass(frozen=True)
    class After:
        rank: int = 4
        noise: float = later(0.0)

    assert settings_of(After()) == settings_of(Before()) == {"rank": 4}
    assert settings_of(After(noise=0.5)) == {"rank": 4, "noise": 0.5}


def test_the_committed_results_belong_to_trials_that_can_still_be_asked_for() -> None:
    database = Path(__file__).parent.parent / "leaderboard.db"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT id, canonical FROM trials").fetchall()
    assert len(rows) > 80
    for trial_id, canonical in rows:
        trial = trial_from_json(canonical)
        assert (trial.id, trial.canonical) == (trial_id, canonical)
