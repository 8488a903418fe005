"""Perplexity of held-out text: held against other code, named in a recipe, kept, and shown where there is any."""

from __future__ import annotations

import dataclasses
import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from factories import fill, make_record, make_trial
from language_support import tiny_trial
from report_support import make_row, make_suite_rows
from typer.testing import CliRunner

from harness.api import DataRoot
from harness.backbones import load, resolve
from harness.cli import app
from harness.errors import TrialFailure, UserError
from harness.fields import make_recipe
from harness.forgetting import HeldOut, held_out
from harness.held_out import read_text, text_hash
from harness.plugins import discover
from harness.records import Forgetting
from harness.runner import run_trial
from harness.scoring import results
from harness.settings import Settings
from harness.starts import cache_key
from harness.store import open_store
from harness.trial import Recipe, Start
from reports import formats
from reports.markdown import leaderboard_markdown
from reports.site import build_site
from reports.views import suite_view
from tasks.arithmetic import Arithmetic

TEXT = "The old house stood at the end of the lane. Nobody had lived there for years, and the garden was wild. " * 8


def recipe(text: str = TEXT, **changes: Any) -> Recipe:
    return dataclasses.replace(Recipe(forgetting="text.txt", forgetting_sha256=text_hash(text), **changes))


@pytest.fixture
def decoder(settings: Settings) -> Any:
    return load(resolve("starter-decoder", settings), discover().tasks["arithmetic"], 0, settings)


@pytest.fixture
def placed(settings: Settings, tmp_path: Path) -> Settings:
    """Settings whose data root holds the text."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "text.txt").write_text(TEXT)
    return dataclasses.replace(settings, data_root=tmp_path / "data")


def test_perplexity_is_that_of_a_plain_loop_in_windows(decoder: Any, placed: Settings) -> None:
    text = held_out(recipe(max_length=48, eval_batch_size=3), decoder.tokenizer, placed)
    tokens = decoder.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert len(tokens) > 2 * 48
    assert len(tokens) % 48  # the last window is a short one
    whole = [decoder.tokenizer.bos_token_id, *tokens]
    model = decoder.model.eval()
    losses = []
    with torch.no_grad():
        for first in range(0, len(tokens), 48):
            window = torch.tensor([whole[first : first + 49]])
            logarithms = model(input_ids=window[:, :-1]).logits[0].log_softmax(-1)
            losses += [-float(logarithms[place, token]) for place, token in enumerate(window[0, 1:])]
    assert len(losses) == len(tokens)
    assert text.perplexity(model.train()) == pytest.approx(math.exp(sum(losses) / len(tokens)), rel=1e-5)
    assert model.training


def test_perplexity_is_that_of_lm_eval(decoder: Any, placed: Settings) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    length = 17  # lm-eval gives a last, shorter window more context; here there is none
    theirs = HFLM(decoder.model, tokenizer=decoder.tokenizer, max_length=length, batch_size=1, device="cpu")
    request = Instance("loglikelihood_rolling", {}, (TEXT,), 0, metadata=("text", 0, 1))
    (logarithm,) = theirs.loglikelihood_rolling([request], disable_tqdm=True)
    text = held_out(recipe(max_length=length), decoder.tokenizer, placed)
    assert len(text.ids) % length == 0
    assert text.perplexity(decoder.model) == pytest.approx(math.exp(-logarithm / len(text.ids)), rel=1e-5)


def test_only_the_beginning_is_read_if_so_many_tokens_are_wanted(decoder: Any, placed: Settings) -> None:
    some = held_out(recipe(forgetting_tokens=10, max_length=8), decoder.tokenizer, placed)
    assert [len(window) for window in some.windows()] == [9, 3]
    assert len(held_out(recipe(forgetting_tokens=0), decoder.tokenizer, placed).ids) > 200
    assert HeldOut().perplexity(decoder.model) is None


def test_a_model_that_has_diverged_is_no_perplexity(decoder: Any, placed: Settings) -> None:
    text = held_out(recipe(max_length=48), decoder.tokenizer, placed)
    with torch.no_grad():
        next(decoder.model.parameters()).fill_(math.nan)
    with pytest.raises(TrialFailure, match="a loss of nan per token"):
        text.perplexity(decoder.model)


def test_texts_are_found_by_path_and_below_the_data_root(placed: Settings, tmp_path: Path) -> None:
    root = DataRoot(placed.data_root)
    (tmp_path / "data" / "corpus").mkdir()
    pd.DataFrame({"text": ["one", None, "two"]}).to_parquet(tmp_path / "data" / "corpus" / "prose.parquet")
    assert read_text("corpus/prose", root) == "one\n\ntwo"
    assert read_text("text", root) == read_text(str(tmp_path / "data" / "text.txt"), DataRoot()) == TEXT
    pd.DataFrame({"words": ["one"]}).to_parquet(tmp_path / "data" / "other.parquet")
    (tmp_path / "data" / "empty.txt").write_text(" \n")
    (tmp_path / "data" / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for name, message in {
        "corpus/pros": "unknown held-out text 'corpus/pros' .* did you mean 'corpus/prose'",
        "other": "column 'text' is missing",
        "empty": "empty.txt is empty",
        "binary": "cannot read the held-out text .*UTF-8 text or parquet",
    }.items():
        with pytest.raises(UserError, match=message):
            read_text(name, root)
    with pytest.raises(UserError, match="'text' does not exist, and no data root is set"):
        read_text("text", DataRoot())


def test_a_recipe_without_a_text_is_the_recipe_that_it_was() -> None:
    plain, named = make_trial(), make_trial(recipe=recipe())
    assert "forgetting" not in plain.canonical
    assert len({plain.id, named.id, make_trial(recipe=recipe("another text")).id}) == 3
    with pytest.raises(UserError, match="forgetting_sha256 = ab must be the hash of a text: name it"):
        make_recipe({"forgetting_sha256": "ab"}, "here")


def test_a_start_is_shared_with_trials_that_read_no_text() -> None:
    start = Start("warmup", 1, 1e-3)
    plain, named = make_trial(start=start), make_trial(start=start, recipe=recipe(forgetting_tokens=9))
    assert cache_key(plain, {}) == cache_key(named, {})


def test_a_trial_tells_perplexity_before_and_after(placed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Arithmetic().read(DataRoot())
    monkeypatch.setattr(Arithmetic, "read", lambda task, root: {split: rows[:20] for split, rows in whole.items()})
    asked = tiny_trial("arithmetic", placed, max_length=64, select_rows=5)
    asked = dataclasses.replace(asked, train_size=16)
    wanted = dataclasses.replace(
        asked.recipe, forgetting="text", forgetting_sha256=text_hash(TEXT), forgetting_tokens=200
    )
    record = run_trial(dataclasses.replace(asked, recipe=wanted), placed)
    assert record.status == "ok", record.traceback
    before, after = record.forgetting.perplexity_before, record.forgetting.perplexity_after
    fresh = load(asked.backbone, discover().tasks["arithmetic"], 0, placed)
    assert before == held_out(wanted, fresh.tokenizer, placed).perplexity(fresh.model)
    assert after is not None
    assert after != before
    without = run_trial(asked, placed)
    assert without.forgetting == Forgetting()
    assert (without.scores, without.losses) == (record.scores, record.losses)  # reading changes no training
    (placed.data_root / "text.txt").write_text(TEXT + "changed")  # type: ignore[operator]
    changed = run_trial(dataclasses.replace(asked, recipe=wanted), placed)
    assert changed.status == "failed"
    assert "the trial was planned with" in changed.reason


SUITE = """
name = "prose"
[recipe]
epochs = 1
select_rows = 5
max_length = 64
forgetting_tokens = 64
[[task]]
name = "{task}"
backbone = "{backbone}"
train_size = 16
[[method]]
name = "head_only"
"""


def invoke(tmp_path: Path, *arguments: str, task: str = "arithmetic", backbone: str = "starter-decoder") -> Any:
    suite = tmp_path / "prose.toml"
    suite.write_text(SUITE.format(task=task, backbone=backbone))
    options = ["--db", str(tmp_path / "board.db"), "--data-root", str(tmp_path / "data")]
    return CliRunner().invoke(app, [*arguments[:1], "--suite", str(suite), *options, *arguments[1:]])


def test_plans_hold_the_text_s_hash_and_suites_may_pin_it(placed: Settings, tmp_path: Path) -> None:
    assert invoke(tmp_path, "plan", "--set", "forgetting=text").exit_code == 0
    pinned = ("--set", "forgetting=text", "--set", f"forgetting_sha256={text_hash(TEXT)}")
    assert invoke(tmp_path, "plan", *pinned).exit_code == 0
    (tmp_path / "data" / "text.txt").write_text("another")
    result = invoke(tmp_path, "plan", *pinned)
    assert result.exit_code == 2
    assert f"has the hash {text_hash('another')}, not {text_hash(TEXT)}" in result.stderr


@pytest.mark.parametrize(
    ("task", "backbone", "text", "message"),
    [
        ("paraphrase", "starter-encoder", "text", "forgetting is for tasks answered in text; 'paraphrase' is classif"),
        ("arithmetic", "starter-encoder", "text", "backbone 'starter-encoder' is an encoder"),
        ("arithmetic", "starter-decoder", "txet", "unknown held-out text 'txet' in the data root"),
    ],
)
def test_what_cannot_be_read_or_has_no_perplexity_is_one_line_before_any_training(
    task: str, backbone: str, text: str, message: str, placed: Settings, tmp_path: Path
) -> None:
    result = invoke(tmp_path, "run", "--jobs", "1", "--set", f"forgetting={text}", task=task, backbone=backbone)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "board.db").exists()


def test_perplexities_are_kept_and_shown(tmp_path: Path) -> None:
    told = Forgetting(12.345, 23.456)
    records = [make_record(forgetting=told), make_record(seed=1)]
    path = tmp_path / "board.db"
    with open_store(str(path)) as store:
        first, _ = fill(store, records)
        assert store.run(first).record.forgetting == told
        frame = results(store).sort_values("seed")
        assert frame["perplexity_after"].tolist()[0] == 23.456
        assert frame["perplexity_after"].isna().tolist() == [False, True]
        build_site(store, tmp_path / "site")
    options = ["--db", str(path)]
    shown = CliRunner().invoke(app, ["show", first, *options]).output
    assert "perplexity before" in shown
    assert "12.35" in shown
    listed = json.loads(CliRunner().invoke(app, ["results", "--json", *options]).output)
    assert {row["perplexity_before"] for row in listed} == {12.345, None}
    (page,) = (tmp_path / "site" / "suites").glob("*/lora.html")
    assert "23.46" in page.read_text()


def test_a_table_has_the_columns_only_where_a_run_read_a_text() -> None:
    hashed = json.dumps({"forgetting_sha256": "aa"})
    told = [make_row(seed=seed, perplexity_before=10.0, perplexity_after=11.0 + seed, recipe=hashed) for seed in (0, 1)]
    view = suite_view(make_suite_rows(*told))
    assert "| Perplexity before | Perplexity after |" in leaderboard_markdown(view, view.main, {})
    assert "| 10.00 | 11.50 |" in leaderboard_markdown(view, view.main, {})
    untold = suite_view(make_suite_rows(make_row()))
    assert "Perplexity" not in leaderboard_markdown(untold, untold.main, {})


def test_runs_on_different_texts_are_not_averaged() -> None:
    rows = [
        make_row(
            seed=seed, perplexity_before=9.0, perplexity_after=9.0, recipe=json.dumps({"forgetting_sha256": digest})
        )
        for seed, digest in enumerate(("aa", "bb"))
    ]
    board = suite_view(make_suite_rows(*rows)).main
    assert board is not None
    assert formats.board_columns(board)[-1] == "Perplexity after"
    assert formats.board_row(board.rows[0], board)[-2:] == [formats.DASH, formats.DASH]


def test_a_database_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with open_store(str(path)) as store:
        (run,) = fill(store, [make_record()])
    with sqlite3.connect(path) as connection:  # as the first schema had it
        packs = ("step_seconds", "step_seconds_spread", "pack_trials", "pack_seconds", "pack_share_seconds")
        for name in ("perplexity_before", "perplexity_after", *packs, "origin"):
            connection.execute(f"ALTER TABLE runs DROP COLUMN {name}")
        connection.execute("DROP TABLE leases")
        connection.execute("UPDATE harness_schema SET version_num = '0001'")
    connection.close()
    with pytest.raises(UserError, match="has the older schema 1"):
        open_store(str(path), create=False)
    with open_store(str(path)) as store:
        found = store.run(run).record
        assert found.forgetting == Forgetting()
        assert found.costs == make_record().costs
