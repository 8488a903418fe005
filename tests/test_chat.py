"""Prompts in a chat template: the same in training and evaluation, and refused early where there is none."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from language_support import tiny_trial
from tokenizers.processors import TemplateProcessing
from typer.testing import CliRunner

from harness import backbones, bench
from harness.api import DataRoot, GenerationTask
from harness.backbones import resolve
from harness.chat import check_template, in_chat
from harness.cli import app
from harness.devices import pick_device
from harness.errors import UserError
from harness.generation import evaluate_generation
from harness.plugins import discover
from harness.runner import run_trial
from harness.settings import Settings
from tasks.arithmetic import Arithmetic

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def with_template(folder: Path, template: str = TEMPLATE) -> Path:
    """A copy of the starter decoder with a chat template, below a models root."""
    copy = folder / "models" / "chatty"
    shutil.copytree(Path(backbones.__file__).parent / "bundled" / "starter-decoder", copy)
    file = copy / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template}))
    return copy.parent


@pytest.fixture
def chatty(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    whole = Arithmetic().read(DataRoot())
    monkeypatch.setattr(Arithmetic, "read", lambda task, root: {split: rows[:20] for split, rows in whole.items()})
    return dataclasses.replace(settings, models_root=with_template(tmp_path), data_root=tmp_path)


def chat_trial(settings: Settings, **recipe: object) -> Any:
    trial = tiny_trial("arithmetic", settings, chat_template=True, max_length=64, **recipe)
    return dataclasses.replace(trial, backbone=resolve("chatty", settings))


def test_training_and_evaluation_see_the_prompt_in_the_template(
    chatty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = bench.prepare(chat_trial(chatty), chatty)
    stage = bench.load(prepared, pick_device("cpu"))
    tokenizer = stage.loaded.tokenizer
    row: Any = prepared.train.to_dict("records")[0]
    message = Arithmetic().encode(row).first
    expected = tokenizer.apply_chat_template(
        [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
    )
    ids = [int(token) for token in stage.encoded.input_ids[0]]
    assert tokenizer.decode(ids).startswith(f"{expected}{Arithmetic().answer(row)}")
    seen: list[str] = []
    from harness.language_model import AdaptedModel

    def answers(self: AdaptedModel, requests: list[Any], **_: Any) -> list[str]:
        seen.extend(request.args[0] for request in requests)
        return [""] * len(requests)

    monkeypatch.setattr(AdaptedModel, "generate_until", answers)
    assert isinstance(prepared.task, GenerationTask)
    evaluate_generation(stage.model, tokenizer, prepared.task, prepared.train.head(1), 1)
    (prompt,) = (tokenizer(text)["input_ids"] for text in seen)
    assert ids[: len(prompt)] == prompt
    assert tokenizer.decode(prompt) == expected


def test_a_begin_token_that_tokenizing_adds_is_not_doubled(chatty: Settings) -> None:
    tokenizer = backbones.load_tokenizer(resolve("chatty", chatty), chatty)
    begin = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{begin[0]} $A", special_tokens=[begin])
    ids = tokenizer(in_chat(Arithmetic(), tokenizer).encode({"problem": "Two and two.", "question": "Sum?"}).first)[
        "input_ids"
    ]
    assert ids[0] == begin[1]
    assert begin[1] not in ids[1:]


def test_a_trial_in_a_chat_is_another_trial_and_runs(chatty: Settings) -> None:
    trial = chat_trial(chatty, select_rows=2)
    plain = dataclasses.replace(trial, recipe=dataclasses.replace(trial.recipe, chat_template=False))
    assert trial.id != plain.id
    assert "chat_template" not in plain.canonical
    record = run_trial(trial, chatty)
    assert record.status == "ok", record.traceback
    assert record.losses != run_trial(plain, chatty).losses


def test_a_template_that_fails_and_prompts_of_lm_eval_are_refused(settings: Settings, tmp_path: Path) -> None:
    root = with_template(tmp_path, "{{ raise_exception('only with a system message') }}")
    settings = dataclasses.replace(settings, models_root=root)
    tokenizer = backbones.load_tokenizer(resolve("chatty", settings), settings)
    with pytest.raises(UserError, match=r"chat template of backbone 'chatty' fails .*only with a system"):
        check_template(tokenizer, "chatty")

    class Judged(Arithmetic):
        def lm_eval_configuration(self) -> dict[str, Any]:
            return {}

    with pytest.raises(UserError, match="'arithmetic' has lm-eval write its prompts"):
        in_chat(Judged(), tokenizer)


@pytest.mark.parametrize(
    ("task", "backbone", "message"),
    [
        ("arithmetic", "starter-decoder", "the tokenizer of backbone 'starter-decoder' has no chat template"),
        (
            "paraphrase",
            "starter-encoder",
            "chat_template is for tasks answered in text; 'paraphrase' is classification",
        ),
    ],
)
def test_a_missing_template_is_one_line_before_any_training(
    task: str, backbone: str, message: str, tmp_path: Path
) -> None:
    suite = tmp_path / "chat.toml"
    suite.write_text(
        f'name = "chat"\n[recipe]\nepochs = 1\n[[task]]\nname = "{task}"\nbackbone = "{backbone}"\ntrain_size = 16\n'
        '[[method]]\nname = "lora"\n'
    )
    options = ["--suite", str(suite), "--db", str(tmp_path / "board.db"), "--jobs", "1", "--set", "chat_template=true"]
    result = CliRunner().invoke(app, ["run", *options])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "board.db").exists()


def test_encoded_rows_of_one_template_are_not_those_of_another(settings: Settings) -> None:
    tokenizer = backbones.load_tokenizer(resolve("starter-decoder", settings), settings)
    task = discover().tasks["arithmetic"]
    assert isinstance(task, GenerationTask)
    made = []
    for template in (TEMPLATE, TEMPLATE, TEMPLATE.replace("<assistant>", "<bot>")):
        tokenizer.chat_template = template
        made.append(type(in_chat(task, tokenizer)))
    assert made[0] is made[1]
    assert made[0] is not made[2]
