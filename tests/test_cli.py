"""The command line from end to end: what it runs, prints and exits with, and one clear line for each wrong use."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from cli_support import SUITE
from factories import fill, make_record
from typer.testing import CliRunner

import harness
from harness.cli import app
from harness.commands.reporting import MOST_TABLES
from harness.settings import Settings
from harness.store import open_store

PLUGIN = Path(__file__).parent / "cli_support.py"
REPOSITORY = Path(__file__).resolve().parent.parent
Invoke = Callable[..., Any]


@pytest.fixture(scope="module")
def places(toy_models: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    cache = tmp_path_factory.mktemp("cache")
    options = {"--models-root": toy_models, "--cache-root": cache, "--plugin": PLUGIN, "--device": "cpu"}
    return [str(part) for option in options.items() for part in option]


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def done(places: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """A database in which the toy suite has been run, the suite's file, and what the command printed."""
    folder = tmp_path_factory.mktemp("done")
    suite, db = folder / "toys.toml", folder / "leaderboard.db"
    suite.write_text(SUITE)
    return db, suite, invoke("run", "--suite", suite, "--db", db, "--jobs", "1", *places)


def runs(db: Path) -> int:
    with sqlite3.connect(db) as connection:
        return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])


# ----------------------------------------------------------------------------------------- good use


def test_run_trains_every_trial_and_exits_with_zero(done: tuple[Path, Path, Any]) -> None:
    db, _, result = done
    assert result.exit_code == 0, result.output
    assert runs(db) == 4
    assert "4 trials ended well, 0 did not, 0 were done before" in result.stderr
    assert "[4/4] parity" in result.stderr
    assert "LoRA" in result.stdout


def test_a_second_run_skips_what_is_done(done: tuple[Path, Path, Any], places: list[str]) -> None:
    db, suite, _ = done
    result = invoke("run", "--suite", suite, "--db", db, "--quiet", "--json", *places)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["skipped"] == 4
    assert runs(db) == 4


def test_plan_counts_estimates_and_changes_nothing(done: tuple[Path, Path, Any], places: list[str]) -> None:
    db, suite, _ = done
    before = db.read_bytes()
    result = invoke("plan", "--suite", suite, "--db", db, "--json", "--set", "lora.r=4", *places)
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    lora, majority = plan["rows"]
    assert plan["suite"] == "toys[lora.r=4]"
    assert (lora["trials"], lora["done"], lora["adapter_params"]) == (2, 0, 2 * 4 * (16 + 16))
    assert lora["head_params"] == 2 * 16 + 2
    assert lora["train_flops"] > 0
    assert lora["seconds"] > 0
    assert (majority["done"], majority["adapter_params"], majority["train_flops"]) == (2, 0, 0)
    assert plan["not_separated"] == []  # one contender and a control
    assert db.read_bytes() == before


def test_plan_prints_a_table_and_makes_no_database(
    done: tuple[Path, Path, Any], places: list[str], tmp_path: Path
) -> None:
    result = invoke("plan", "--suite", done[1], "--db", tmp_path / "new.db", *places)
    assert result.exit_code == 0, result.output
    assert "4 trials, 0 done" in result.stdout
    assert "time unknown: no run in the database was measured on this stack." in result.stdout
    assert not (tmp_path / "new.db").exists()


def test_results_show_and_site_read_what_was_run(done: tuple[Path, Path, Any], tmp_path: Path) -> None:
    db = done[0]
    before = db.read_bytes()
    rows = json.loads(invoke("results", "--suite", "toys", "--db", db, "--json").stdout)
    assert {(row["label"], row["seed"], row["status"]) for row in rows} == {
        (label, seed, "ok") for label in ("lora", "majority") for seed in (0, 1)
    }
    csv = invoke("results", "--db", db, "--csv").stdout.splitlines()
    assert len(csv) == 5
    assert "label" in csv[0].split(",")
    shown = json.loads(invoke("show", rows[0]["run_id"][:8], "--db", db, "--json").stdout)
    assert shown["trial"]["id"] == rows[0]["trial_id"]
    assert invoke("show", rows[0]["run_id"], "--db", db).exit_code == 0
    site = invoke("site", "--db", db, "--out", tmp_path / "site")
    assert site.stdout.strip() == str(tmp_path / "site" / "index.html")
    assert (tmp_path / "site" / "index.html").is_file()
    assert db.read_bytes() == before


def test_of_many_suites_results_prints_the_names(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "many.db")) as store:
        for number in range(MOST_TABLES + 1):
            fill(store, [make_record()] if number == 0 else [], f"suite-{number}")
    lines = invoke("results", "--db", tmp_path / "many.db").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["suite-0", "1"], ["suite-1", "0"]]
    assert lines[-1] == f"{MOST_TABLES + 1} suites: name one with --suite to see its table."


def test_documents_are_brought_up_to_date(done: tuple[Path, Path, Any], tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("# A\n<!-- leaderboard:start suite=toys -->\n<!-- leaderboard:end -->\nend\n")
    assert invoke("documents", file, "--db", done[0]).stdout.strip() == f"{file} updated"
    assert "LoRA" in file.read_text()
    assert invoke("documents", file, "--db", done[0]).stdout.strip() == f"{file} was up to date"


def test_python_runs_and_reads_the_same(done: tuple[Path, Path, Any], toy_models: Path, tmp_path: Path) -> None:
    db, suite, _ = done
    settings = Settings(None, toy_models, tmp_path, "cpu", 1, (PLUGIN,))
    frame = harness.run(str(suite), db=str(db), methods=["lora"], seeds=[1], settings=settings)
    assert isinstance(frame, pd.DataFrame)
    assert frame[["label", "seed", "status"]].values.tolist() == [["lora", 1, "ok"]]
    assert len(harness.results("toys", db=str(db))) == 4


def test_a_trial_that_fails_is_a_row_and_exit_code_one(places: list[str], tmp_path: Path) -> None:
    suite, db = tmp_path / "toys.toml", tmp_path / "leaderboard.db"
    suite.write_text(SUITE.replace('name = "lora"\nparameters = { r = 2 }', 'name = "breaks"'))
    result = invoke("run", "--suite", suite, "--db", db, "--seed", "0", "--jobs", "1", *places)
    assert result.exit_code == 1
    assert "parity breaks seed 0: failed: ValueError: planned fault" in result.stderr
    assert "about to break" not in result.stdout  # what a plugin prints goes to standard error
    assert "1 trial ended well, 1 did not" in result.stderr
    assert runs(db) == 2


def test_an_interrupt_exits_with_one_and_says_how_to_go_on(places: list[str], tmp_path: Path) -> None:
    suite, db = tmp_path / "toys.toml", tmp_path / "leaderboard.db"
    suite.write_text(SUITE.replace('name = "lora"\nparameters = { r = 2 }', 'name = "interrupts"'))
    result = invoke("run", "--suite", suite, "--db", db, "--jobs", "1", *places)
    assert result.exit_code == 1
    assert "interrupted: 0 trials ended well" in result.stderr
    assert "4 are left; the same command goes on" in result.stderr
    with open_store(str(db), create=False) as store:
        frame = harness.results("toys", db=str(db))
        assert store.suites()[0].trials == 4
    assert frame["status"].dropna().tolist() == ["interrupted"]


def test_params_prints_the_published_count() -> None:
    options = ["--backbone", "roberta-large", "--method", "lora_xs", "--set", "r=16", "--set", "targets=q,v,o,down"]
    counted = json.loads(invoke("params", *options, "--json").stdout)
    assert counted["adapter_params"] == 24_576
    assert len(counted["maps"]) == 96
    assert "24,576" in invoke("params", *options).stdout


@pytest.mark.parametrize("what", ["methods", "tasks", "suites", "backbones"])
def test_list_names_what_there_is(what: str, places: list[str]) -> None:
    listed = json.loads(invoke("list", what, "--json", "--plugin", PLUGIN, *places[:2]).stdout)
    known = {"methods": "breaks", "tasks": "parity", "suites": "glue-minilm-small", "backbones": "tiny"}
    assert list(listed) == ([what, "analyses"] if what == "suites" else [what])
    assert known[what] in [item["name"] for item in listed[what]]
    assert known[what] in invoke("list", what, "--plugin", PLUGIN, *places[:2]).stdout


def test_list_tells_of_families() -> None:
    assert "peft:NAME" in invoke("list", "methods").stdout


@pytest.mark.parametrize("arguments", [["--help"], ["list", "methods"], ["list", "suites"], ["run", "--help"]])
def test_help_and_list_import_no_torch(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["harness", *{arguments!r}]
from harness.cli import main
try:
    main()
finally:
    print(*(name for name in ("torch", "transformers", "datasets", "evaluate") if name in sys.modules), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout
    assert result.stderr.strip() == ""


# ------------------------------------------------------------------------------------------ wrong use


@pytest.fixture
def refused(places: list[str], tmp_path: Path) -> Callable[..., str]:
    """Runs a suite wrongly; the one line of the error, after seeing that no database was made or changed."""

    def run(*arguments: str | Path, suite: str = SUITE, db: Path | None = None) -> str:
        path = tmp_path / "toys.toml"
        path.write_text(suite)
        made = tmp_path / "leaderboard.db"
        with open_store(str(made)):
            pass
        before = made.read_bytes()
        options = arguments if "--suite" in arguments else ("--suite", path, *arguments)
        results = [invoke("run", "--jobs", "1", *places, *options, "--db", file) for file in _targets(db, tmp_path)]
        assert made.read_bytes() == before
        assert db is not None or not (tmp_path / "new.db").exists()
        for result in results:
            assert result.exit_code == 2, result.output
            assert "Traceback" not in result.output
            assert len(result.stderr.splitlines()) == 1
            assert result.stderr.startswith("error: ")
        return str(results[0].stderr)

    return run


def _targets(db: Path | None, folder: Path) -> list[Path]:
    """A database that is there and one that is not, unless the database itself is what is wrong."""
    return [folder / "leaderboard.db", folder / "new.db"] if db is None else [db]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "startr"], "unknown suite 'startr'"),
        (["--suite", "none.toml"], "suite file none.toml does not exist"),
        (["--method", "lorra"], "unknown method 'lorra' in suite 'toys': did you mean 'lora'?"),
        (["--task", "party"], "unknown task 'party' in suite 'toys': did you mean 'parity'?"),
        (["--backbone", "tin"], "unknown backbone 'tin' in suite 'toys': did you mean 'tiny'?"),
        (["--grid", "man"], "unknown grid 'man' in suite 'toys': did you mean 'main'?"),
        (["--seed", "9"], "suite 'toys' has no seed 9; it has: 0, 1."),
        (["--set", "rr=4"], "unknown key 'rr' in --set rr=4: did you mean 'r'?"),
        (["--set", "targets=q,w"], "unknown target 'w'"),
        (["--set", "targets=q,gate"], "target 'gate' matches nothing in this backbone; it has: q, k, v, o, up, down."),
        (["--set", "lora.r=999"], "r = 999 exceeds the smaller side of bert.encoder.layer.0.attention.self.query ["),
        (["--set", "max_length=9999"], "max_length = 9999 exceeds its "),
        (["--set", "targets=re:.*nothing"], "matches nothing in this backbone"),
        (["--set", "r=two"], "r = 'two'"),
        (["--plugin", "none.py"], "plugin file"),
        (["--device", "quantum"], "device 'quantum' cannot be used"),
        (["--jobs", "many"], "--jobs many: give a number from 1 on, or auto."),
        (["--executor", "rai"], "unknown executor 'rai' in --executor: did you mean 'ray'?"),
        (["--address", "head:6379"], "--address is for --executor ray; say that too, or leave it out."),
        (["--gpus-per-trial", "1"], "--gpus-per-trial is for --executor ray; say that too, or leave it out."),
        (["--executor", "ray", "--cpus-per-trial", "0"], "--cpus-per-trial 0: give a number from 1 on."),
        (["--executor", "ray", "--gpus-per-trial", "1"], "--gpus-per-trial 1 is of no use with --device cpu."),
        (["--executor", "ray", "--device", "cuda:1"], "--device cuda:1: Ray chooses the GPU of a trial; say --device"),
    ],
)
def test_wrong_options_are_one_line(refused: Callable[..., str], arguments: list[str], message: str) -> None:
    assert message in refused(*arguments)


def test_ray_that_is_not_installed_is_one_line(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refused("--executor", "ray") == "error: --executor ray needs Ray: pip install 'peft-harness[ray]'.\n"


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ('name = "lora"', 'name = "lorra"', "unknown method 'lorra'"),
        ('name = "parity"', 'name = "party"', "unknown task 'party'"),
        ("r = 2", "rank = 2", "method 'lora' has no parameter 'rank'"),
        ("epochs = 1", 'epochs = "one"', "epochs = 'one' must be a whole number"),
        ("epochs = 1", "epoch = 1", "unknown key 'epoch'"),
        ('name = "majority"', 'name = "lora"', "two [[method]] entries are named 'lora'"),
        ("seeds = [0, 1]", "seeds = [0, 1", "is not valid TOML"),
        ('backbone = "tiny"', 'backbone = "tyny"', "unknown backbone 'tyny'"),
        ('name = "majority"', 'name = "majority"\n[[grid]]\nname = "main"\ntrain_sizes = [9999]', "train size 9999"),
    ],
)
def test_a_wrong_suite_is_one_line(refused: Callable[..., str], good: str, bad: str, message: str) -> None:
    assert good in SUITE
    assert message in refused(suite=SUITE.replace(good, bad, 1))


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A mirror with RTE's files, sound as they are."""
    folder = tmp_path / "mirror" / "glue" / "rte"
    folder.mkdir(parents=True)
    rows = range(40)
    texts = [f"sentence {row}" for row in rows]
    frame = pd.DataFrame(
        {"idx": list(rows), "label": [row % 2 for row in rows], "sentence1": texts, "sentence2": texts}
    )
    for split in ("train", "validation"):
        frame.to_parquet(folder / f"{split}.parquet")
    return tmp_path / "mirror"


def spoil(file: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_parquet(file)).to_parquet(file)


def test_a_spoilt_mirror_is_one_line(refused: Callable[..., str], mirror: Path) -> None:
    suite = SUITE.replace('"parity"', '"rte"')
    train = mirror / "glue" / "rte" / "train.parquet"
    sound = train.read_bytes()
    spoil(train, lambda frame: frame.rename(columns={"sentence2": "sentence_2"}))
    assert "column 'sentence2' is missing" in refused("--data-root", mirror, suite=suite)
    train.write_bytes(sound)
    spoil(train, lambda frame: frame.assign(label=7))
    assert "label 7" in refused("--data-root", mirror, suite=suite)
    train.write_bytes(sound[:100])
    assert str(train) in refused("--data-root", mirror, suite=suite)
    train.unlink()
    assert "glue/rte/train.parquet" in refused("--data-root", mirror, suite=suite)
    shutil.rmtree(mirror)
    assert str(mirror) in refused("--data-root", mirror, suite=suite)


def test_a_database_that_cannot_be_used_is_one_line_and_left_as_it_was(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    text = tmp_path / "notes.db"
    text.write_text("no database " * 200)
    assert "is not an SQLite database" in refused(db=text)
    assert text.read_text() == "no database " * 200
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    before = foreign.read_bytes()
    assert "is the database of another program" in refused(db=foreign)
    assert foreign.read_bytes() == before
    assert "does not exist" in refused(db=tmp_path / "nowhere" / "leaderboard.db")
    assert "cannot be opened" in refused(db=Path("/proc/leaderboard.db"))


def test_a_full_disk_is_one_line(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.preflight.shutil.disk_usage", lambda folder: (10**9, 10**9 - 1, 1))
    assert "only 0 MiB are free" in refused()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["results", "--db", "none.db"], "there is no database 'none.db'"),
        (["show", "abc", "--db", "none.db"], "there is no database 'none.db'"),
        (["params", "--backbone", "roberta-bass", "--method", "lora"], "unknown backbone 'roberta-bass'"),
        (["params", "--backbone", "roberta-base", "--method", "lorra"], "unknown method 'lorra'"),
        (["params", "--backbone", "roberta-base", "--method", "lora", "--set", "rr=1"], "did you mean"),
    ],
)
def test_wrong_use_of_other_commands_is_one_line(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["run"], ["run", "--all", "--suite", "starter"], ["run", "--sed", "1"], ["lst"]])
def test_wrong_arguments_exit_with_two(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("words", "missing"), [("params --method lora", "--backbone"), ("analyse retention", "RUN")])
def test_a_required_option_left_out_is_named(words: str, missing: str) -> None:
    done = CliRunner().invoke(app, words.split())
    assert (done.exit_code, missing in done.output, "MISSING" in done.output) == (2, True, False)
