"""A backbone of a few thousand weights, a task of a few rows, and methods that go wrong on purpose."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from harness.api import AttachContext, DataRoot, Kind, Method, Task, Text

WORDS = [f"w{number}" for number in range(20)]

SUITE = """
name = "toys"
seeds = [0, 1]
[recipe]
epochs = 1
batch_size = 8
max_length = 16
[[task]]
name = "parity"
backbone = "tiny"
[[method]]
name = "lora"
parameters = { r = 2 }
[[method]]
name = "majority"
"""


class Parity(Task):
    """Whether the first word's number is even."""

    name = "parity"
    title = "Parity"
    kind: ClassVar[Kind] = "classification"
    labels = ("odd", "even")
    metrics = ("accuracy",)
    columns = ("text",)

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        texts = [f"{WORDS[row % 20]} {WORDS[row % 7]} {WORDS[row % 11]}" for row in range(60)]
        frame = pd.DataFrame({"id": range(60), "text": texts, "label": [row % 2 for row in range(60)]})
        return {"train": frame[:40], "test": frame[40:]}

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["text"])


@dataclass(frozen=True)
class Breaks(Method):
    name: ClassVar[str] = "breaks"
    title: ClassVar[str] = "Breaks"

    def attach(self, model: Any, context: AttachContext) -> None:
        print("about to break")
        raise ValueError("planned fault")


@dataclass(frozen=True)
class Dies(Method):
    name: ClassVar[str] = "dies"
    title: ClassVar[str] = "Dies"

    def attach(self, model: Any, context: AttachContext) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Interrupts(Method):
    name: ClassVar[str] = "interrupts"
    title: ClassVar[str] = "Interrupts"

    def attach(self, model: Any, context: AttachContext) -> None:
        raise KeyboardInterrupt


def make_backbone(folder: Path) -> None:
    """Write a BERT encoder with one narrow layer, and its word tokenizer, in the hub's layout."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
