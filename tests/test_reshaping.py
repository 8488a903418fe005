"""A suite on other backbones and other train sizes; shipped backbones without weights; printed counts."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

import pytest
from cli_support import make_backbone
from typer.testing import CliRunner

from harness.backbones import check_weights, configuration, find_folder, resolve
from harness.cli import app
from harness.errors import UserError
from harness.overrides import parse_overrides
from harness.plugins import Plugins, discover
from harness.printed import PrintedCount, make_printed
from harness.records import SuiteInfo
from harness.settings import Settings
from harness.shipped import config_names, find_shipped
from harness.suite import Filters, Selection, plan
from harness.suite_file import read_suite
from harness.trial import Backbone
from reports.commands import run_suite

SUITE = """
name = "mixed"
[[task]]
name = "paraphrase"
backbone = "roberta-large"
train_size = 100
[[task]]
name = "similarity"
backbone = "starter-encoder"
[[task]]
name = "arithmetic"
backbone = "mistral-7b"
[[method]]
name = "lora"
printed_params = 800000
printed_as = "800K"
[[grid]]
name = "main"
train_sizes = [0, 50]
"""


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return discover()


def planned(
    folder: Path, plugins: Plugins, settings: Settings, *backbones: str, sets: tuple[str, ...] = ()
) -> SuiteInfo:
    file = folder / "mixed.toml"
    file.write_text(SUITE)
    selection = Selection(Filters(backbones=backbones), parse_overrides(sets))
    return plan(read_suite(file, plugins), selection, settings, plugins)


def on(info: SuiteInfo) -> dict[str, str]:
    return {member.trial.task: member.trial.backbone.name for member in info.members}


def test_a_backbone_of_the_suite_s_own_filters_by_short_name_and_hub_id(
    tmp_path: Path, plugins: Plugins, settings: Settings
) -> None:
    whole = planned(tmp_path, plugins, settings)
    for name in ("roberta-large", "FacebookAI/roberta-large"):
        info = planned(tmp_path, plugins, settings, name)
        assert info.name == "mixed"
        assert on(info) == {"paraphrase": "FacebookAI/roberta-large"}
        assert {item.trial.id for item in info.members} < {item.trial.id for item in whole.members}


def test_another_backbone_takes_the_place_where_it_can_serve(
    tmp_path: Path, plugins: Plugins, settings: Settings
) -> None:
    info = planned(tmp_path, plugins, settings, "roberta-base")
    assert on(info) == {"paraphrase": "FacebookAI/roberta-base", "similarity": "FacebookAI/roberta-base"}
    assert info.name == "mixed[backbone=roberta-base]"
    info = planned(tmp_path, plugins, settings, "starter-decoder", "roberta-base")
    assert set(on(info)) == {"paraphrase", "similarity", "arithmetic"}
    assert info.name == "mixed[backbone=roberta-base,backbone=starter-decoder]"
    info = planned(tmp_path, plugins, settings, "starter-decoder", "starter-encoder")
    assert on(info) == {"similarity": "starter-encoder", "arithmetic": "starter-decoder"}
    assert info.name == "mixed[backbone=starter-decoder,backbone=starter-encoder]"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("roberta-lage",), "unknown backbone 'roberta-lage' in suite 'mixed': did you mean 'roberta-large'?"),
        (("gemma-7b", "llama-2-7b"), "backbones 'gemma-7b' and 'llama-2-7b' both serve task 'arithmetic'"),
    ],
)
def test_backbones_that_cannot_be_meant_are_an_error(
    names: tuple[str, ...], message: str, tmp_path: Path, plugins: Plugins, settings: Settings
) -> None:
    with pytest.raises(UserError) as error:
        planned(tmp_path, plugins, settings, *names)
    assert message in str(error.value)


def test_a_backbone_that_serves_no_task_is_an_error(plugins: Plugins, settings: Settings) -> None:
    from harness.suite_file import load_suite

    selection = Selection(Filters(backbones=("starter-decoder",)))
    with pytest.raises(UserError, match="'starter-decoder' fits no task of suite 'glue-minilm', which is classif"):
        plan(load_suite("glue-minilm", plugins), selection, settings, plugins)


def test_the_name_of_a_reshaped_suite_becomes_its_options_again(
    tmp_path: Path, plugins: Plugins, settings: Settings
) -> None:
    sets = ("train_size=20", "lora.r=2", "targets=q,v")
    info = planned(tmp_path, plugins, settings, "roberta-base", "starter-decoder", sets=sets)
    words = shlex.split(run_suite(info.name))[4:]
    assert words[:2] == ["--suite", "mixed"]
    options = list(zip(words[2::2], words[3::2], strict=True))
    again = [value for key, value in options if key == "--backbone"]
    assert again == ["roberta-base", "starter-decoder"]
    changes = tuple(value for key, value in options if key == "--set")
    assert planned(tmp_path, plugins, settings, *again, sets=changes) == info


def test_a_key_after_a_label_with_a_hyphen_is_split_off() -> None:
    assert shlex.split(run_suite("s[epochs=1,lora_xs-r4.alpha=2]"))[4:] == shlex.split(
        "--suite s --set epochs=1 --set lora_xs-r4.alpha=2"
    )


def test_one_train_size_replaces_all(tmp_path: Path, plugins: Plugins, settings: Settings) -> None:
    info = planned(tmp_path, plugins, settings, sets=("train_size=20",))
    assert info.name == "mixed[train_size=20]"
    assert [(item.trial.task, item.trial.train_size) for item in info.members] == [
        ("paraphrase", 20),
        ("similarity", 20),
        ("arithmetic", 20),
    ]
    for wrong in ("-1", "1.5", "all", "true"):
        with pytest.raises(UserError, match="train_size must be a whole number, at least 0"):
            planned(tmp_path, plugins, settings, sets=(f"train_size={wrong}",))


def test_a_train_size_that_the_suite_lacks_says_how_to_get_it(
    tmp_path: Path, plugins: Plugins, settings: Settings
) -> None:
    file = tmp_path / "mixed.toml"
    file.write_text(SUITE)
    suite, wanted = read_suite(file, plugins), Filters(train_sizes=(20,))
    with pytest.raises(
        UserError, match=r"has no train size 20; it has: 0, 50, 100\. To change them all, --set train_size=N"
    ):
        plan(suite, Selection(wanted), settings, plugins)
    info = plan(suite, Selection(wanted, parse_overrides(["train_size=20"])), settings, plugins)
    assert {item.trial.train_size for item in info.members} == {20}
    with pytest.raises(UserError, match=r"has no seed 7; it has: 0\.$"):
        plan(suite, Selection(Filters(seeds=(7,))), settings, plugins)


@pytest.mark.parametrize("name", config_names())
def test_a_shipped_backbone_is_its_commit_and_needs_no_network(name: str, settings: Settings) -> None:
    shipped = find_shipped(name)
    assert shipped is not None
    found = resolve(name, settings)
    assert found == resolve(shipped.hub_id, settings) == Backbone(shipped.hub_id, shipped.revision)
    assert len(found.revision) == 40
    assert int(found.revision, 16) >= 0
    assert configuration(shipped.hub_id, settings).hidden_size == configuration(name, settings).hidden_size


@pytest.mark.parametrize("folder", ["roberta-base", "FacebookAI/roberta-base"])
def test_local_weights_of_a_shipped_backbone_are_found_by_either_name(
    folder: str, tmp_path: Path, settings: Settings
) -> None:
    make_backbone(tmp_path / folder)
    places = dataclasses.replace(settings, models_root=tmp_path)
    found = resolve("roberta-base", places)
    assert found == resolve("FacebookAI/roberta-base", places)
    assert found.name == "FacebookAI/roberta-base"
    assert found.revision.startswith("sha256:")
    assert find_folder(found.name, places) == tmp_path / folder
    assert configuration("roberta-base", places).hidden_size == 16
    check_weights(found, places)


def test_weights_out_of_reach_stop_a_run_but_not_a_plan(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*places: object, **options: object) -> str:
        raise ConnectionError("no network here")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", no_network)
    monkeypatch.delenv("HARNESS_MODELS", raising=False)
    file, db = tmp_path / "mixed.toml", tmp_path / "board.db"
    file.write_text(SUITE)
    options = ["--suite", str(file), "--task", "paraphrase", "--train-size", "50", "--db", str(db)]
    result = CliRunner().invoke(app, ["plan", *options, "--json"])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.output)["rows"]
    assert (row["adapter_params"], row["printed_params"], row["printed_as"]) == (786_432, 800_000, "800K")
    assert row["printed_agrees"] is True
    assert "800K (agrees)" in CliRunner().invoke(app, ["plan", *options]).output
    with pytest.raises(UserError, match="'FacebookAI/roberta-large' is not on the hub, or the hub is out of reach"):
        check_weights(resolve("roberta-large", settings), settings)
    result = CliRunner().invoke(app, ["run", *options, "--jobs", "1"])
    assert result.exit_code == 2
    assert "the hub is out of reach (ConnectionError). For a local copy" in result.output
    assert result.output.strip().count("\n") == 0
    assert not db.exists()


def test_a_printed_count_holds_for_the_papers_backbone_only(
    tmp_path: Path, plugins: Plugins, settings: Settings
) -> None:
    assert set(planned(tmp_path, plugins, settings).printed) == {
        ("paraphrase", "lora"),
        ("similarity", "lora"),
        ("arithmetic", "lora"),
    }
    assert planned(tmp_path, plugins, settings, "roberta-base").printed == {}


@pytest.mark.parametrize(
    ("params", "text", "adapter", "head", "agrees"),
    [
        (24_600, "24.6K", 24_576, 0, True),
        (24_600, "24.6K", 24_476, 0, False),
        (800_000, "800K", 786_432, 0, True),
        (800_000, "800K", 942_080, 0, False),
        (83_880_000, "83.88M", 83_886_080, 0, True),  # cut, not rounded
        (355_000_000, "355,000K", 354_310_144, 1_051_650, True),
        (7_242_000_000, "7242M", 7_110_660_096, 131_072_000, True),  # the output embedding counts as head
        (92_160, "92,160", 73_728, 0, False),
        (92_160, "", 92_160, 0, True),
        (92_160, "", 92_161, 0, False),
    ],
)
def test_counts_agree_to_the_printed_digits(params: int, text: str, adapter: int, head: int, agrees: bool) -> None:
    printed = make_printed(params, text, "here")
    assert printed is not None
    assert printed.agrees(adapter, head) is agrees


def test_printed_numbers_must_make_sense() -> None:
    assert make_printed(0, "", "here") is None
    assert make_printed(92_160, "", "here") == PrintedCount(92_160, "92,160")
    with pytest.raises(UserError, match=r"here: printed_as = '24.6K' is 24,600, but printed_params = 24576\."):
        make_printed(24_576, "24.6K", "here")
    with pytest.raises(UserError, match="must be a number such as"):
        make_printed(24_576, "about 24K", "here")
