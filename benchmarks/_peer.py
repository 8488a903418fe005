"""The other side: `transformers.Trainer` with `peft`, one trial after the other, with the settings that serve it best.

Rows are encoded once and shared by all trials. Length grouping, fused AdamW, no checkpoints, no logging, no progress;
evaluation of `select` and the test set after every epoch in batches as large as the harness's. Weights are loaded for
each trial, because each needs them as they were.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from harness import backbones, data
from harness.api import DataRoot
from harness.devices import pick_device
from harness.plugins import discover, make_method
from harness.records import SELECT
from harness.settings import Settings
from harness.targets import select_modules
from harness.trial import Recipe

Rows = list[dict[str, Any]]

KINDS: dict[str, Mapping[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "lora_plus": {},
    "vera": {},
}
"""Methods of the harness that `peft` has too -> what its configuration says of them."""


@dataclass(frozen=True)
class PeerTrial:
    """What a trial of the harness is, said to the other side."""

    method: str
    parameters: Mapping[str, Any]
    backbone: str
    task: str
    recipe: Recipe
    """Its one learning rate is for the head too."""
    seed: int
    train_size: int = 0


@dataclass(frozen=True)
class PeerRun:
    """One trial that was run."""

    seconds: float
    """Wall time: loading, attaching, training, evaluation."""
    train_seconds: float
    """Of it, the epochs: from the first batch asked for to the last update, evaluation and preparation left out."""
    eval_seconds: float
    accuracy: float
    """On the test set after the last epoch."""
    trainable: int
    """Trained parameters, head included."""


class Peer:
    """Trainer and peft over the rows and weights that `settings` name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._plugins = discover()
        self._rows: dict[tuple[Any, ...], dict[str, Rows]] = {}
        self._tokenizers: dict[str, Any] = {}
        self.encoding_seconds = 0.0
        """Spent on encoding so far: once for each task, seed and size."""

    def run(self, trial: PeerTrial) -> PeerRun:
        """Run one trial from loading to its last evaluation."""
        splits = self._encoded(trial)
        began = time.perf_counter()
        torch.manual_seed(trial.seed)
        with backbones.quiet():
            model = self._adapted(trial)
            trainer = self._trainer(trial, model, splits)
            trainer.train()
        ended = _now(trainer.args.device)
        accuracy = [entry["eval_test_accuracy"] for entry in trainer.state.log_history if "eval_test_accuracy" in entry]
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        return PeerRun(ended - began, trainer.clock.seconds, trainer.eval_seconds, accuracy[-1], trainable)

    def _tokenizer(self, name: str) -> Any:
        from transformers import AutoTokenizer

        if name not in self._tokenizers:
            self._tokenizers[name] = AutoTokenizer.from_pretrained(str(backbones.find_folder(name, self._settings)))
        return self._tokenizers[name]

    def _encoded(self, trial: PeerTrial) -> dict[str, Rows]:
        """The same rows as the harness takes, encoded once."""
        key = (trial.backbone, trial.task, trial.seed, trial.train_size, trial.recipe.max_length)
        if key not in self._rows:
            began = time.perf_counter()
            task, recipe = self._plugins.tasks[trial.task], trial.recipe
            found = data.load_task(task, DataRoot(self._settings.data_root))
            frames = {
                "train": data.subset(found.train, trial.train_size, trial.seed, task.name),
                SELECT: found.select.head(recipe.select_rows or len(found.select)),
                "test": found.tests["test"],
            }
            tokenizer = self._tokenizer(trial.backbone)
            self._rows[key] = {}
            for name, frame in frames.items():
                texts = [task.encode(cast(Mapping[str, Any], row)) for row in frame.to_dict("records")]
                pairs = ([text.first for text in texts], [text.second for text in texts])
                encoded = tokenizer(*pairs, truncation=True, max_length=recipe.max_length)
                columns = [encoded[column] for column in encoded]
                labels = frame["label"].tolist()
                self._rows[key][name] = [
                    dict(zip([*encoded, "labels"], values, strict=True))
                    for values in zip(*columns, labels, strict=True)
                ]
            self.encoding_seconds += time.perf_counter() - began
        return self._rows[key]

    def _adapted(self, trial: PeerTrial) -> nn.Module:
        from peft import LoraConfig, TaskType, VeraConfig, get_peft_model
        from transformers import AutoModelForSequenceClassification

        folder = str(backbones.find_folder(trial.backbone, self._settings))
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, dtype=torch.float32)
        method: Any = make_method(self._plugins.methods[trial.method], trial.parameters)
        shared: dict[str, Any] = {
            "r": method.r,
            "target_modules": [target.module for target in select_modules(model, method.targets, method.layers)],
            "task_type": TaskType.SEQ_CLS,
            **KINDS[trial.method],
        }
        if trial.parameters.get("a_init") == "gaussian":
            shared["init_lora_weights"] = "gaussian"
        if trial.method == "vera":
            config: Any = VeraConfig(d_initial=method.d_init, vera_dropout=0.0, **shared)
        else:
            config = LoraConfig(lora_alpha=method.alpha, lora_dropout=0.0, **shared)
        adapted: nn.Module = get_peft_model(model.to(pick_device(self._settings.device)), config)
        return adapted

    def _trainer(self, trial: PeerTrial, model: nn.Module, splits: Mapping[str, Rows]) -> Any:
        from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainerCallback

        class Clock(TrainerCallback):
            """Seconds between the begin and the end of epochs."""

            seconds = 0.0

            def on_epoch_begin(self, *arguments: Any, **options: Any) -> None:
                self.seconds -= _now(device)

            def on_epoch_end(self, *arguments: Any, **options: Any) -> None:
                self.seconds += _now(device)

        class Timed(Trainer):
            """Trainer with a clock on evaluation."""

            eval_seconds = 0.0
            clock = Clock()

            def evaluation_loop(self, *arguments: Any, **options: Any) -> Any:
                self.eval_seconds -= _now(device)
                found = super().evaluation_loop(*arguments, **options)
                self.eval_seconds += _now(device)
                return found

        device = pick_device(self._settings.device)
        optimizer = _lora_plus(trial, model) if trial.method == "lora_plus" else None
        with tempfile.TemporaryDirectory() as folder:
            trainer = Timed(
                model=model,
                args=_arguments(trial, folder, device),
                train_dataset=splits["train"],
                eval_dataset={name: splits[name] for name in (SELECT, "test")},
                data_collator=DataCollatorWithPadding(self._tokenizer(trial.backbone)),
                compute_metrics=_accuracy,
                optimizers=(optimizer, None),
            )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(trainer.clock)
        return trainer


def _now(device: torch.device) -> float:
    """The wall clock, once the device has done its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def _arguments(trial: PeerTrial, folder: str, device: torch.device) -> Any:
    from transformers import TrainingArguments

    recipe = trial.recipe
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.eval_batch_size,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup_steps=recipe.warmup_ratio,
        lr_scheduler_type=recipe.schedule,
        max_grad_norm=recipe.clip,
        bf16=recipe.precision == "bf16",
        optim="adamw_torch_fused",
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=device.type == "cuda",
        use_cpu=device.type == "cpu",
        seed=trial.seed,
    )


def _accuracy(found: Any) -> dict[str, float]:
    return {"accuracy": float((np.argmax(found.predictions, axis=-1) == found.label_ids).mean())}


def _lora_plus(trial: PeerTrial, model: nn.Module) -> torch.optim.Optimizer:
    from peft.optimizers import create_loraplus_optimizer

    recipe = trial.recipe
    made: torch.optim.Optimizer = create_loraplus_optimizer(
        model,
        torch.optim.AdamW,
        lr=recipe.learning_rate,
        loraplus_lr_ratio=trial.parameters.get("ratio", 16.0),
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    return made


def with_rate(recipe: Recipe, rate: float) -> Recipe:
    """The recipe at one learning rate for adapter and head."""
    return dataclasses.replace(recipe, learning_rate=rate, head_learning_rate=rate)
