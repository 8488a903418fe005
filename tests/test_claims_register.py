"""The register of claims: that it reads, that it is what the papers print, and what the command says."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from factories import fill, make_record, make_scores
from typer.testing import CliRunner

from harness.claims import page
from harness.claims.comparisons import Comparison
from harness.claims.evaluation import evaluate
from harness.claims.evidence import INITIALISATION_SHARE, load
from harness.claims.findings import VERDICTS
from harness.claims.register import KINDS, Claim, load_claims
from harness.cli import app
from harness.errors import UserError
from harness.plugins import discover
from harness.printed import PrintedNumber
from harness.records import Costs, Score
from harness.store import open_store

ROOT = Path(__file__).resolve().parent.parent
HEADER = 'paper = "P"\nreference = "somewhere"\n'
COMMON = 'id = "one"\ntable = "Table 1"\nquote = "A sentence."\n'
GRID = HEADER + "[[claim]]\n" + COMMON + 'kind = "grid"\nprinted = "50.0"\ntotal = 10\n'


@pytest.fixture(scope="module")
def register() -> list[Claim]:
    return load_claims(discover())


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the transcription: where it stands, all the words that an address may name it by, and its numbers."""

    paper: str
    table: str
    names: frozenset[str]
    numbers: dict[str, str]


@pytest.fixture(scope="session")
def published() -> list[Row]:
    """The papers' numbers as transcribed: HARNESS_PUBLISHED, else the folder beside a checkout."""
    folder = Path(os.environ.get("HARNESS_PUBLISHED") or ROOT.parent / "shared" / "published")
    if not (folder / "all_results.csv").is_file():
        pytest.skip("no transcription of the papers' tables: set HARNESS_PUBLISHED")
    with (folder / "all_results.csv").open(encoding="utf-8", newline="") as file:
        return [
            Row(
                row["paper"].partition(" (")[0],
                row["table"],
                frozenset(
                    {row[key] for key in ("model", "task", "metric", "method", "config")}
                    | {part.strip() for part in row["config"].split(";")}
                    | {f"{row['train_size']} rows"}
                ),
                {"": row["value"], "parameters": row["trainable_params"], "std": row["std"]},
            )
            for row in csv.DictReader(file)
        ]


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["claims", *map(str, arguments)])


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "leaderboard.db"
    with open_store(str(path)) as store:
        fill(store, [make_record()])
    return path


# ----------------------------------------------------------------------------------- the register itself


def test_the_register_has_every_paper_and_every_kind(register: list[Claim]) -> None:
    papers = Counter(claim.paper for claim in register)
    assert set(papers) == {"QR-LoRA", "LoRA-XS", "LoRA-SB", "LoRA"}
    assert sum(papers.values()) >= 60
    assert {claim.kind for claim in register} == set(KINDS)


def test_every_claim_is_a_sentence_of_its_own(register: list[Claim]) -> None:
    quotes = Counter((claim.paper, claim.quote) for claim in register)
    assert quotes.most_common(1)[0][1] == 1
    for claim in register:
        assert claim.quote.endswith("."), claim.id
        assert re.fullmatch(r"[a-z0-9.-]+", claim.id), claim.id


def numbers_of(test: Any) -> Iterator[PrintedNumber]:
    for item in dataclasses.fields(test):
        value = getattr(test, item.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, PrintedNumber):
                yield part


def cell_values(cell: str, paper: str, published: list[Row]) -> set[float]:
    """The numbers in the cells that an address names: "[paper] table | part | ... [| parameters or std]"."""
    place, *parts = cell.split(" | ")
    match = re.fullmatch(r"(?:(.+) )?(Table \d+)", place)
    assert match, cell
    column = parts.pop() if parts[-1] in ("parameters", "std") else ""
    rows = [row for row in published if (row.paper, row.table) == (match[1] or paper, match[2])]
    return {float(row.numbers[column]) for row in rows if row.names.issuperset(parts) and row.numbers[column]}


def test_numbers_from_tables_are_those_that_the_tables_print(register: list[Claim], published: list[Row]) -> None:
    checked = 0
    for claim in register:
        for number in numbers_of(claim.test):
            if number.cell:
                assert cell_values(number.cell, claim.paper, published) == {float(number.value)}, (claim.id, number)
                checked += 1
    assert checked >= 300


def test_what_arithmetic_refutes_is_what_was_worked_out_by_hand(register: list[Claim]) -> None:
    verdicts = {
        claim.id: claim.test.finding().verdict
        for claim in register
        if not isinstance(claim.test, Comparison) and claim.kind != "count"
    }
    refuted = {name for name, verdict in verdicts.items() if verdict == "refuted"}
    assert refuted >= {
        "qrlora-fewer-than-lora",
        "qrlora-mrpc-f1-lora",
        "qrlora-mrpc-lora-twice",
        "qrlora-mnli-mean-ft",
        "qrlora-mnli-mm-twice",
        "qrlora-best-matched-budget",
        "qrlora-mrpc-gain",
        "qrlora-beats-lora-on-five",
        "qrlora-qnli-share",
        "loraxs-glue-mean-r12",
        "loraxs-init-best-cola-svd-of-random",
        "loraxs-curves-agree-sst2",
        "loraxs-one-setting-cola",
        "loraxs-sst2-median-top",
        "loraxs-lora-row-start-rte",
    }
    holding = {"qrlora-fewer-than-svd-lora", "qrlora-mrpc-f1-ft", "lorasb-fewer-mistral-7b", "lorasb-glue-mean-lorasb"}
    assert holding <= set(verdicts) - refuted


def test_counts_that_no_formula_gives(register: list[Claim]) -> None:
    wanted = {
        "qrlora-lora-count": "refuted",
        "qrlora-lora-count-biases": "holds",
        "loraxs-count-example-vera": "refuted",
    }
    claims = [claim for claim in register if claim.id in wanted]
    found = {claim.id: claim.test.finding().verdict for claim in claims if not isinstance(claim.test, Comparison)}
    assert found == wanted


def test_the_page_is_what_the_register_makes() -> None:
    assert (ROOT / "docs" / "claims.md").read_text(encoding="utf-8") == page.render()


def test_reading_the_register_imports_no_torch() -> None:
    code = (
        "import sys; from harness.claims.register import load_claims; from harness.plugins import discover; "
        "import harness.claims.evaluation; load_claims(discover()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# ----------------------------------------------------------------------------------- bad registers


def read(folder: Path, text: str) -> list[Claim]:
    path = folder / "claims.toml"
    path.write_text(text)
    return load_claims(discover(), [path])


def comparison(**changes: str) -> str:
    """A claim on the built-in suite `starter`, with fields changed; a value of "" leaves the field out."""
    fields = {
        "kind": '"at_least"',
        "row": '"lora"',
        "than": '"ft"',
        "needs": '{ suite = "starter", protocol = "last" }',
    }
    lines = [f"{key} = {value}" for key, value in {**fields, **changes}.items() if value]
    return HEADER + "[[claim]]\n" + COMMON + "\n".join(lines) + "\n"


def test_a_claim_gets_the_tasks_of_its_suite(tmp_path: Path) -> None:
    (claim,) = read(tmp_path, comparison())
    assert isinstance(claim.test, Comparison)
    assert claim.test.needs.tasks == ("acceptability", "entailment", "paraphrase", "similarity", "arithmetic")
    assert claim.test.rows == ("lora", "ft")


def needs(**changes: str) -> str:
    values = {"suite": '"starter"', "protocol": '"last"', **changes}
    return "{ " + ", ".join(f"{key} = {value}" for key, value in values.items()) + " }"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (comparison(needs=needs(suite='"startr"')), "unknown suite 'startr'.*did you mean 'starter'"),
        (comparison(needs=needs(protocol='"best"')), "unknown protocol 'best'.*did you mean 'last'"),
        (comparison(needs=needs(grid='"mains"')), "unknown grid 'mains'.*suite 'starter': did you mean 'main'"),
        (comparison(needs=needs(tasks='["rte"]')), "unknown task 'rte'.*suite 'starter'"),
        (
            comparison(needs=needs(split='"tset"')),
            "unknown test set 'tset'.*of task 'acceptability': did you mean 'test'",
        ),
        (comparison(needs=needs(metric='"bleu"')), "unknown metric 'bleu'.*of task 'acceptability'"),
        (comparison(needs=needs(train_size="7")), "unknown train size '7'.*task 'acceptability'"),
        (comparison(needs=needs(grid='"train-size"')), "has the sizes 160, 320, 640; say which with train_size"),
        (comparison(needs=needs(size="7")), "unknown key 'size'.*needs"),
        (comparison(needs="3"), "needs must be a table"),
        (comparison(needs=""), "'needs' is missing"),
        (comparison(row='"lora-xs"'), "unknown row 'lora-xs'.*grid 'main': did you mean 'lora_xs'"),
        (comparison(row='"lora"', than='"lora"'), "row 'lora' is compared with itself"),
        (comparison(kind='"at_most"'), "unknown kind 'at_most'.*did you mean"),
        (comparison(tolerance='"1"'), "tolerance = '1' must be a finite number"),
        (comparison(than=""), "'than' is missing"),
        (comparison(kind='"spread"', row="", than="", among='["ft"]', within="1"), "among needs at least two rows"),
        (GRID.replace("total = 10", "total = 10\nsum = 1"), "unknown key 'sum'"),
        (GRID.replace('"50.0"', "50.0"), 'printed must be a text such as "88.97"'),
        (GRID.replace('"50.0"', '"fifty"'), "'fifty' is no printed number"),
        (GRID.replace("total = 10", "total = 0"), r"\[\[claim\]\] 'one': total = 0 must be at least 1"),
        (GRID.replace("total = 10", "total = 1.5"), "total = 1.5 must be a whole number"),
        (GRID.replace('table = "Table 1"\n', ""), "'table' is missing"),
        (GRID + GRID.removeprefix(HEADER), "two claims have the id 'one'"),
        (HEADER, "'claim' is missing"),
        (HEADER + "claim = 1", r"must be written as \[\[claim\]\]"),
        ("claim =", "is not valid TOML"),
    ],
)
def test_a_bad_register_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_register_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        load_claims(discover(), [tmp_path / "none.toml"])


# ----------------------------------------------------------------------------------- evidence and the command


def test_evidence_is_points_over_the_test_splits_and_marks_the_first_metric(tmp_path: Path) -> None:
    scores = [*make_scores([0.5, 0.6], [0.7, 0.8]), Score(2, "test", "accuracy", 0.9)]
    costs = Costs(init_seconds=1.5, train_seconds=200.0)
    with open_store(str(tmp_path / "leaderboard.db")) as store:
        fill(store, [make_record(scores=scores, costs=costs), make_record(seed=1, status="failed", scores=[])])
        frame = load(store)
    last = frame[(frame["protocol"] == "last") & (frame["split"] == "")].set_index("metric")
    assert set(last.index) == {"f1", "accuracy", INITIALISATION_SHARE}
    assert last.loc["f1", "value"] == pytest.approx(80.0)
    assert bool(last.loc["f1", "first"])
    assert last.loc["accuracy", "value"] == pytest.approx(90.0)
    epochs = make_record().trial.recipe.epochs
    assert last.loc[INITIALISATION_SHARE, "value"] == pytest.approx(100 * 1.5 * epochs / 200.0)
    assert not last.loc[["accuracy", INITIALISATION_SHARE], "first"].any()
    assert set(frame["seed"]) == {0}


def test_evidence_tells_test_sets_apart_and_their_mean(tmp_path: Path) -> None:
    scores = [Score(1, split, "accuracy", value) for split, value in (("matched", 0.8), ("mismatched", 0.6))]
    with open_store(str(tmp_path / "leaderboard.db")) as store:
        fill(store, [make_record(task="mnli", scores=scores)])
        frame = load(store)
    last = frame[frame["protocol"] == "last"].set_index("split")["value"]
    assert last.to_dict() == pytest.approx({"": 70.0, "matched": 80.0, "mismatched": 60.0})


def test_a_claim_is_judged_on_stored_runs(tmp_path: Path) -> None:
    (claim,) = read(tmp_path, comparison(needs=needs(tasks='["entailment"]')))
    assert isinstance(claim.test, Comparison)
    test = dataclasses.replace(claim.test, needs=dataclasses.replace(claim.test.needs, tasks=("mrpc",)))
    records = [
        make_record(method=method, seed=seed, scores=make_scores([0.5], [score + seed * shift / 100 + shift]))
        for method, shift in (("lora", 0.05), ("ft", 0.0))
        for seed, score in enumerate((0.70, 0.71, 0.715))
    ]
    with open_store(str(tmp_path / "leaderboard.db")) as store:
        fill(store, records, name="starter")
        (finding,) = evaluate([dataclasses.replace(claim, test=test)], load(store))
    assert finding.verdict == "reproduced"
    assert "lora - ft = +5.05" in finding.why


def test_the_command_prints_a_verdict_and_a_reason_for_each_claim(database: Path, register: list[Claim]) -> None:
    result = invoke("--db", database, "--paper", "QR-LoRA")
    assert result.exit_code == 0, result.output
    claims = [claim for claim in register if claim.paper == "QR-LoRA"]
    for claim in claims:
        (line,) = [line for line in result.stdout.splitlines() if f" {claim.id} " in line]
        assert line.startswith(VERDICTS)
    assert "LoRA-XS" not in result.stdout.split("\n")[0]
    assert result.stdout.splitlines()[-1].startswith(f"{len(claims)} claims: ")


def test_the_commands_json_holds_the_claims_and_the_findings(database: Path, register: list[Claim]) -> None:
    result = invoke("--db", database, "--paper", "LoRA", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [item["id"] for item in found] == [claim.id for claim in register if claim.paper == "LoRA"]
    assert all(item["verdict"] in VERDICTS and item["why"] for item in found)
    repository = next(item for item in found if item["id"] == "lora-count-base-repository")
    assert (repository["verdict"], repository["test"]["printed"]["text"]) == ("refuted", "0.8M")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--paper", "QRLoRA"], "error: unknown paper 'QRLoRA': did you mean 'QR-LoRA'?"),
        (["--db", "nowhere.db"], "there is no database"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_two(database: Path, arguments: list[str], message: str) -> None:
    result = invoke("--db", database, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_judging_writes_nothing(database: Path) -> None:
    before = database.read_bytes()
    assert invoke("--db", database, "--paper", "LoRA").exit_code == 0
    assert database.read_bytes() == before
