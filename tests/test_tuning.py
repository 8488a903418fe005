"""Equal budgets: what is searched, that `select` alone chooses, and that fresh seeds tell the score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import UserError
from harness.plugins import Plugins, discover
from harness.settings import Settings
from harness.suite import Filters, Selection, Suite, plan
from harness.suite_file import read_suite
from harness.tuning import chosen, configurations, search_selection, search_suite, tuned_suite

SUITE = """
name = "tune"
seeds = [0, 1]
[recipe]
epochs = 1
batch_size = 16
select_rows = 20
[tuning]
budget = 4
seeds = [900]
[tuning.space]
learning_rate = { low = 1e-4, high = 1e-2 }
alpha = [8.0, 16.0]
[[task]]
name = "paraphrase"
backbone = "starter-encoder"
train_size = 32
[[method]]
name = "lora"
space = { r = [2, 4] }
[[method]]
name = "ft"
task_recipes = { paraphrase = { learning_rate = 3e-4, weight_decay = 0.1 } }
[[method]]
name = "majority"
"""


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return discover()


def suite_of(text: str, folder: Path, plugins: Plugins) -> Suite:
    file = folder / "tune.toml"
    file.write_text(text)
    return read_suite(file, plugins)


def search_of(suite: Suite, plugins: Plugins) -> Suite:
    found = search_suite(suite, plugins)
    assert found is not None
    return found


def test_every_row_that_trains_gets_the_budget_from_its_own_and_the_shared_space(
    tmp_path: Path, plugins: Plugins, settings: Settings
) -> None:
    suite = suite_of(SUITE, tmp_path, plugins)
    lora, ft, majority = (configurations(suite, entry, plugins) for entry in suite.methods)
    assert (len(lora), len(ft), majority) == (4, 4, [])
    assert all(set(point) == {"learning_rate", "alpha", "r"} for point in lora)
    assert all(set(point) == {"learning_rate"} for point in ft)  # full fine-tuning has no alpha
    assert all(1e-4 <= point["learning_rate"] <= 1e-2 and point["r"] in (2, 4) for point in lora)
    assert len({point["learning_rate"] for point in lora}) == 4
    assert configurations(suite, suite.methods[0], plugins) == lora  # the same again
    trials = [member.trial for member in plan(search_of(suite, plugins), Selection(), settings, plugins).members]
    assert len(trials) == 8
    assert {trial.seed for trial in trials} == {900}
    rates = {trial.recipe.learning_rate for trial in trials if trial.method == "ft"}
    assert rates == {point["learning_rate"] for point in ft}  # over what the task's recipe says
    assert {trial.recipe.weight_decay for trial in trials if trial.method == "ft"} == {0.1}


def test_a_grid_search_is_the_product_of_its_lists(tmp_path: Path, plugins: Plugins) -> None:
    text = SUITE.replace("{ low = 1e-4, high = 1e-2 }", "[1e-3]").replace("budget = 4", 'how = "grid"\nbudget = 4')
    suite = suite_of(text, tmp_path, plugins)
    points = configurations(suite, suite.methods[0], plugins)
    assert [(point["alpha"], point["r"]) for point in points] == [(8.0, 2), (8.0, 4), (16.0, 2), (16.0, 4)]


def results(scores: dict[str, float], status: str = "ok") -> pd.DataFrame:
    rows = [(label, "paraphrase", status, score) for label, score in scores.items()]
    return pd.DataFrame(rows, columns=["label", "task", "status", "select_selected"])


def test_the_best_on_select_is_chosen_and_the_earliest_of_equals(tmp_path: Path, plugins: Plugins) -> None:
    suite = suite_of(SUITE, tmp_path, plugins)
    tried = configurations(suite, suite.methods[0], plugins)
    found = chosen(suite, results({"lora#1": 0.5, "lora#2": 0.8, "lora#3": 0.8, "lora#4": float("nan")}), plugins)
    assert found == {("lora", "paraphrase"): tried[1]}
    assert chosen(suite, results({"lora#2": 0.8}, status="failed"), plugins) == {}


def test_a_configuration_that_failed_under_one_seed_is_not_chosen(tmp_path: Path, plugins: Plugins) -> None:
    suite = suite_of(SUITE, tmp_path, plugins)
    sound = [results({"lora#1": 0.5}), results({"lora#1": 0.6})]
    lucky = [results({"lora#2": 0.9}), results({"lora#2": float("nan")}, status="diverged")]
    assert chosen(suite, pd.concat([*sound, *lucky]), plugins) == {
        ("lora", "paraphrase"): configurations(suite, suite.methods[0], plugins)[0]
    }


def test_a_tuned_row_stands_beside_the_default_one_under_the_suite_s_seeds(
    tmp_path: Path, plugins: Plugins, settings: Settings
) -> None:
    suite = suite_of(SUITE, tmp_path, plugins)
    best = configurations(suite, suite.methods[0], plugins)[2]
    tuned = tuned_suite(suite, {("lora", "paraphrase"): best}, plugins)
    members = plan(tuned, Selection(), settings, plugins).members
    assert {member.label for member in members} == {"lora", "ft", "majority", "lora-tuned"}
    trials = [member.trial for member in members if member.label == "lora-tuned"]
    assert [trial.seed for trial in trials] == [0, 1]
    assert {trial.recipe.learning_rate for trial in trials} == {best["learning_rate"]}
    assert {(trial.parameters["r"], trial.parameters["alpha"]) for trial in trials} == {(best["r"], best["alpha"])}


def test_a_filter_by_row_reaches_its_search(tmp_path: Path, plugins: Plugins) -> None:
    search = search_of(suite_of(SUITE, tmp_path, plugins), plugins)
    found = search_selection(Selection(Filters(methods=("lora",), seeds=(1,))), search)
    assert found is not None
    assert found.filters.methods == ("lora#1", "lora#2", "lora#3", "lora#4")
    assert found.filters.seeds == ()
    assert search_selection(Selection(Filters(methods=("majority",))), search) is None


def test_a_grid_that_tunes_nothing_has_no_search(tmp_path: Path, plugins: Plugins) -> None:
    text = (
        SUITE.replace("[tuning]\n", '[tuning]\ngrids = ["main"]\n')
        + '[[grid]]\nname = "main"\n[[grid]]\nname = "other"\n'
    )
    search = search_of(suite_of(text, tmp_path, plugins), plugins)
    found = search_selection(Selection(Filters(grids=("main", "other"))), search)
    assert found is not None
    assert found.filters.grids == ("main",)
    assert search_selection(Selection(Filters(grids=("other",))), search) is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("budget = 4", "budget = 0", "budget = 0 must be at least 1 trial"),
        ("seeds = [900]", "seeds = [1]", "seed 1 is grid 'main's own; search under other seeds"),
        ("alpha = [8.0, 16.0]", "alpa = [8.0]", r"unknown parameter 'alpa' .*\[tuning.space\]: did you mean 'alpha'"),
        ("space = { r = [2, 4] }", "space = { rr = [2] }", "unknown parameter 'rr' .*did you mean 'r'"),
        ("space = { r = [2, 4] }", "space = { r = 2 }", "must be a list of values, or"),
        ("{ low = 1e-4, high = 1e-2 }", "{ low = 0, high = 1 }", "must be numbers with 0 < low < high"),
        ("budget = 4", 'budget = 4\nhow = "bayes"', "unknown how 'bayes'"),
        ("budget = 4", 'budget = 4\nhow = "grid"', "a grid needs a list for 'learning_rate', not a range"),
        ("budget = 4", "budget = 4\ngrids = ['mian']", "unknown grid 'mian'.*did you mean 'main'"),
    ],
)
def test_a_faulty_tuning_section_is_an_error(
    old: str, new: str, message: str, tmp_path: Path, plugins: Plugins
) -> None:
    assert old in SUITE
    with pytest.raises(UserError, match=message):
        suite_of(SUITE.replace(old, new), tmp_path, plugins)


def test_a_grid_beyond_the_budget_is_an_error(tmp_path: Path, plugins: Plugins) -> None:
    text = SUITE.replace("{ low = 1e-4, high = 1e-2 }", "[1e-3, 2e-3]").replace(
        "budget = 4", 'how = "grid"\nbudget = 4'
    )
    with pytest.raises(UserError, match="its grid has 8 points, the budget is 4"):
        suite_of(text, tmp_path, plugins)


def test_nothing_is_searched_for_a_suite_that_cannot_be_run_afterwards(tmp_path: Path) -> None:
    file, db = tmp_path / "tune.toml", tmp_path / "tune.db"
    mirrored = '[[task]]\nname = "mrpc"\nbackbone = "starter-encoder"\n'
    grids = '[[grid]]\nname = "main"\ntasks = ["paraphrase"]\n[[grid]]\nname = "real"\ntasks = ["mrpc"]\n'
    file.write_text(SUITE.replace("budget = 4", 'budget = 2\ngrids = ["main"]') + mirrored + grids)
    places = ["--suite", str(file), "--db", str(db), "--cache-root", str(tmp_path), "--data-root", str(tmp_path)]
    ran = CliRunner().invoke(app, ["run", "--jobs", "1", *places])
    assert (ran.exit_code, "mrpc" in ran.stderr) == (2, True)
    assert not db.exists()


def test_one_command_searches_chooses_and_runs_the_tuned_row(tmp_path: Path) -> None:
    file, db = tmp_path / "tune.toml", tmp_path / "tune.db"
    file.write_text(SUITE.replace("budget = 4", "budget = 2"))
    places = ["--suite", str(file), "--db", str(db), "--cache-root", str(tmp_path / "cache"), "--method", "lora"]

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(app, [*arguments, *places])

    before = json.loads(invoke("plan", "--json").stdout)
    assert [row["trials"] for row in before["search"]["rows"]] == [1, 1]
    assert [row["label"] for row in before["rows"]] == ["lora"]
    ran = invoke("run", "--json", "--jobs", "1")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["ok"] == 2 + 2 + 2  # two tried, two default, two tuned
    after = json.loads(invoke("plan", "--json").stdout)
    assert {row["label"]: row["done"] for row in after["rows"]} == {"lora": 2, "lora-tuned": 2}
    again = json.loads(invoke("run", "--json", "--jobs", "1").stdout)
    assert (again["ok"], again["skipped"]) == (0, 6)
