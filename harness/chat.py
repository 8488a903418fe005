"""Prompts in a tokenizer's chat template, as instruction-tuned backbones know them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from harness.api import GenerationTask, Text
from harness.errors import UserError


def check_template(tokenizer: Any, backbone: str) -> None:
    """Raise UserError for a tokenizer without a chat template, or with one that fails on a single message."""
    if not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer of backbone '{backbone}' has no chat template; "
            "set chat_template = false, or name a backbone that was tuned for chats."
        )
    try:
        _rendered(tokenizer, "hello")
    except Exception as error:  # a template is a program of its author's, and may raise anything
        line = (str(error).splitlines() or [""])[0].rstrip(".")
        raise UserError(
            f"the chat template of backbone '{backbone}' fails on a message of a user "
            f"({type(error).__name__}: {line}); set chat_template = false."
        ) from error


def in_chat(task: GenerationTask, tokenizer: Any) -> GenerationTask:
    """The task with each prompt as a user's message in the tokenizer's template, to be answered by the assistant.

    UserError for a task whose prompts lm-eval writes itself.
    """
    if task.lm_eval_configuration() is not None:
        raise UserError(f"task '{task.name}' has lm-eval write its prompts; set chat_template = false.")
    cls = _class(type(task), str(tokenizer.chat_template))
    made = object.__new__(cls)
    vars(made).update(vars(task), tokenizer=tokenizer)
    return made


@functools.cache
def _class(cls: type[GenerationTask], template: str) -> type[GenerationTask]:
    """One class for each task and template: encoded rows are cached by a task's class."""
    return type(f"{cls.__name__}InChat", (_InChat, cls), {})


class _InChat:
    tokenizer: Any

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(_rendered(self.tokenizer, super().encode(row).first))  # type: ignore[misc]


def _rendered(tokenizer: Any, message: str) -> str:
    """The conversation up to where the assistant begins, without a begin token that tokenizing adds anyway."""
    messages = [{"role": "user", "content": message}]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    begin = tokenizer.bos_token
    added = begin is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    return text.removeprefix(begin) if added else text
