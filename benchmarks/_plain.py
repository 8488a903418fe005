"""Fine-tuning as anyone would write it: pandas, `transformers.Trainer`, `peft`. It imports nothing of the harness.

What it shares with the harness is what a paper would print: number of rows, lengths, rates, epochs, batches. Its subset
of the rows, order, head and padding are its own, and labels of regression stay as they are in the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig, TaskType, get_peft_model
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)


@dataclass(frozen=True)
class PlainTask:
    """A GLUE task: its columns of text, number of outputs (1: regression), metric."""

    columns: tuple[str, ...]
    outputs: int
    metric: str


TASKS = {
    "mrpc": PlainTask(("sentence1", "sentence2"), 2, "accuracy"),
    "rte": PlainTask(("sentence1", "sentence2"), 2, "accuracy"),
    "stsb": PlainTask(("sentence1", "sentence2"), 1, "pearson"),
}


@dataclass(frozen=True)
class PlainTrial:
    """One training."""

    task: str
    folder: Path
    """Of the model."""
    lora: Mapping[str, Any] | None
    """Arguments of `LoraConfig`; None trains everything."""
    rows: int
    """Of the training file, drawn by the seed; 0 takes all."""
    epochs: int
    batch_size: int
    learning_rate: float
    max_length: int
    warmup_ratio: float
    weight_decay: float
    clip: float
    seed: int


def train(trial: PlainTrial, data_root: Path, device: torch.device) -> float:
    """The metric on GLUE's validation set after the last epoch."""
    torch.manual_seed(trial.seed)
    tokenizer = AutoTokenizer.from_pretrained(str(trial.folder))
    train_rows, test_rows = (_encoded(trial, data_root, split, tokenizer) for split in ("train", "validation"))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=_model(trial),
            args=_arguments(trial, folder, device),
            train_dataset=train_rows,
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        trainer.train()
        found = trainer.predict(test_rows)  # type: ignore[arg-type]
    return _score(TASKS[trial.task], np.asarray(found.predictions), np.asarray(found.label_ids))


def _encoded(trial: PlainTrial, data_root: Path, split: str, tokenizer: Any) -> Dataset:
    task = TASKS[trial.task]
    frame = pd.read_parquet(data_root / "glue" / trial.task / f"{split}.parquet")
    if split == "train" and trial.rows:
        frame = frame.sample(trial.rows, random_state=trial.seed)
    texts = [frame[column].tolist() for column in task.columns]
    encoded = tokenizer(*texts, truncation=True, max_length=trial.max_length)
    labels = frame["label"].astype("float32" if task.outputs == 1 else "int64")
    return Dataset.from_dict({**encoded, "labels": labels.tolist()})


def _model(trial: PlainTrial) -> nn.Module:
    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(
        str(trial.folder), num_labels=TASKS[trial.task].outputs, dtype=torch.float32
    )
    if trial.lora is None:
        return model
    adapted: nn.Module = get_peft_model(model, LoraConfig(task_type=TaskType.SEQ_CLS, **trial.lora))  # type: ignore[arg-type]
    return adapted


def _arguments(trial: PlainTrial, folder: str, device: torch.device) -> TrainingArguments:
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=trial.epochs,
        per_device_train_batch_size=trial.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=trial.learning_rate,
        warmup_steps=trial.warmup_ratio,
        weight_decay=trial.weight_decay,
        max_grad_norm=trial.clip,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        seed=trial.seed,
    )


def _score(task: PlainTask, outputs: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    if task.outputs == 1:
        return float(np.corrcoef(outputs.reshape(-1), labels)[0, 1])
    return float((outputs.argmax(-1) == labels).mean())
