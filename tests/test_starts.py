"""Starts on another task: made once, shared by content, and honest about the head."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from test_runner import WARMUP, good, make

from harness import bench, loop, start_training, starts
from harness.errors import UserError
from harness.fields import make_start
from harness.plugins import discover
from harness.settings import Settings
from harness.suite import Selection, plan
from harness.suite_file import read_suite
from harness.trial import Recipe, Start, Trial

PLUGINS = discover()
RECIPE = Recipe(epochs=1, batch_size=16, learning_rate=2e-3, head_learning_rate=2e-3, select_rows=20)


def transfer(task: str, **changes: Any) -> Start:
    version = PLUGINS.tasks[task].version
    return Start("transfer", epochs=1, learning_rate=1e-3, task=task, task_version=version, train_size=32, **changes)


def trial(method: str, settings: Settings, start: Start, task: str = "paraphrase", **changes: Any) -> Trial:
    return make(method, settings, task=task, recipe=RECIPE, start=start, **changes)


def started(of: Trial, settings: Settings) -> tuple[bench.Bench, bench.Stage, bench.Started]:
    prepared = bench.prepare(of, settings)
    stage = bench.load(prepared, torch.device("cpu"))
    return prepared, stage, start_training.start(prepared, stage)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever a start is computed."""
    saved: list[int] = []
    save = starts.StartCache.save

    def counted(*given: Any) -> Any:
        saved.append(1)
        return save(*given)

    monkeypatch.setattr(starts.StartCache, "save", counted)
    return saved


def test_a_transferred_model_is_trained_once_for_all_methods_and_tasks(settings: Settings, made: list[int]) -> None:
    start = transfer("acceptability")
    for method, task in (("lora", "paraphrase"), ("ft", "paraphrase"), ("lora", "similarity")):
        record = good(trial(method, settings, start, task=task), settings)
        assert record.costs.start_seconds is not None
    assert len(made) == 1


def test_a_transferred_model_brings_its_weights_and_the_head_where_it_fits(settings: Settings) -> None:
    _, stage, found = started(trial("lora", settings, transfer("acceptability")), settings)
    plain = bench.load(bench.prepare(trial("lora", settings, Start()), settings), torch.device("cpu"))
    name = "roberta.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(stage.model.get_parameter(name), plain.model.get_parameter(name))
    assert torch.equal(found.pretrained[name.removesuffix(".weight")], plain.model.get_parameter(name))
    assert found.head_carried
    # three classes there, two here: what fits comes, the head's last map does not
    _, stage, found = started(trial("lora", settings, transfer("entailment")), settings)
    assert not found.head_carried
    assert torch.equal(
        stage.model.get_parameter("classifier.out_proj.weight"), plain.model.get_parameter("classifier.out_proj.weight")
    )


def test_the_run_says_whether_the_head_came_along(settings: Settings) -> None:
    facts = [
        good(trial("lora", settings, transfer(task)), settings).provenance for task in ("acceptability", "entailment")
    ]
    assert [fact["start_head"].split(":")[0] for fact in facts] == ["carried over", "drawn afresh"]


def test_a_transferred_adapter_is_the_method_s_own_and_leaves_the_backbone_alone(
    settings: Settings, made: list[int]
) -> None:
    start = transfer("acceptability", what="adapter")
    source = dataclasses.replace(trial("lora_xs", settings, start), task="acceptability", start=Start(), train_size=32)
    learned = good(dataclasses.replace(source, recipe=starts.start_recipe(trial("lora_xs", settings, start))), settings)
    prepared, stage, found = started(trial("lora_xs", settings, start), settings)
    attachment, _ = bench.attach(prepared, stage, found)
    assert found.adapter.keys() == attachment.stored_tensors().keys()
    for name, value in attachment.stored_tensors().items():
        assert torch.equal(value, found.adapter[name]), name
    assert (
        float(attachment.stored_tensors()["roberta.encoder.layer.0.attention.self.query.adapter.R"].abs().max()) > 1e-4
    )
    plain = bench.load(prepared, torch.device("cpu"))
    attachment.detach()
    name = "roberta.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(stage.model.get_parameter(name), plain.model.get_parameter(name))
    assert learned.losses  # the same training, as a trial of its own
    good(trial("lora", settings, start), settings)
    assert len(made) == 2  # another method, another adapter


def test_at_learning_rate_0_the_brought_adapter_stays_and_the_head_learns(settings: Settings) -> None:
    plain = trial("lora_xs", settings, transfer("acceptability", what="adapter"))
    still = dataclasses.replace(plain, recipe=dataclasses.replace(plain.recipe, learning_rate=0.0))
    assert starts.cache_key(still, {}) == starts.cache_key(plain, {})
    prepared, stage, found = started(still, settings)
    attachment, _ = bench.attach(prepared, stage, found)
    before = {name: value.clone() for name, value in attachment.stored_tensors().items()}
    phase = bench.Phase("train", still.recipe, prepared.method)
    bench.train(prepared, stage, phase, loop.Hooks(lambda epoch: None))
    changed = {name for name, value in attachment.stored_tensors().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.split(".")[0] in stage.loaded.head}


def test_processes_that_ask_at_once_get_the_same_start(settings: Settings, tmp_path: Path) -> None:
    import harness

    suite = tmp_path / "two.toml"
    suite.write_text(
        'name = "two"\n[recipe]\nepochs = 1\nselect_rows = 20\n'
        '[[task]]\nname = "paraphrase"\nbackbone = "starter-encoder"\ntrain_size = 32\n'
        '[[method]]\nname = "lora"\n[[method]]\nname = "rslora"\n'
        '[[grid]]\nname = "main"\n'
        'start = { kind = "transfer", task = "acceptability", epochs = 1, learning_rate = 1e-3, train_size = 32 }\n'
    )
    frame = harness.run(str(suite), db=str(tmp_path / "two.db"), settings=settings, jobs=2)
    assert list(frame["status"]) == ["ok", "ok"]
    assert frame["start_seconds"].nunique() == 1  # measured once, by whoever came first
    assert len(list((settings.cache_root / "starts").glob("*.safetensors"))) == 1


def test_the_key_of_a_start_holds_what_made_it_and_no_more(settings: Settings) -> None:
    model, adapter = transfer("acceptability"), transfer("acceptability", what="adapter")

    def key(data: str = "a", **changes: Any) -> str:
        given = {"method": "lora", "start": model, **changes}
        of = trial(given.pop("method"), settings, given.pop("start"), **given)
        return starts.cache_key(of, {"data": data})

    assert key() == key(method="ft") == key(task="similarity")
    assert (
        len({key(), key("b"), key(seed=1), key(start=adapter), key(start=adapter, method="rslora"), key(start=WARMUP)})
        == 6
    )


def test_a_start_from_other_rows_is_another(settings: Settings, made: list[int]) -> None:
    prepared, stage, _ = started(trial("lora", settings, WARMUP), settings)
    start_training.start(prepared, stage)
    assert len(made) == 1
    start_training.start(dataclasses.replace(prepared, data_sha256="0" * 64), stage)
    assert len(made) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "transfer", "epochs": 1, "learning_rate": 1e-3}, "a transfer needs the task"),
        ({"kind": "transfer", "task": "x", "epochs": 0, "learning_rate": 1e-3}, "a transfer start needs epochs >= 1"),
        ({"kind": "warmup", "task": "x", "epochs": 1, "learning_rate": 1e-3}, "belong to a transfer"),
        (
            {"kind": "transfer", "task": "x", "what": "head", "epochs": 1, "learning_rate": 1e-3},
            "one of model, adapter",
        ),
    ],
)
def test_a_faulty_start_is_an_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_start(values, "here")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("paraphrase", "cannot start from itself"),
        ("acceptabilty", "did you mean 'acceptability'"),
        ("arithmetic", "not answered by the same kind of model"),
    ],
)
def test_a_transfer_from_nowhere_is_an_error(task: str, message: str, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "odd.toml"
    file.write_text(
        'name = "odd"\n[[task]]\nname = "paraphrase"\nbackbone = "starter-encoder"\n[[method]]\nname = "lora"\n'
        f'[[grid]]\nname = "main"\nstart = {{ kind = "transfer", task = "{task}", epochs = 1, learning_rate = 1e-3 }}\n'
    )
    with pytest.raises(UserError, match=message):
        plan(read_suite(file, PLUGINS), Selection(), settings, PLUGINS)
