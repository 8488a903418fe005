"""`lm_eval:NAME`: any task of the installed lm-eval library that is answered right or wrong, by its name there.

`name = "lm_eval:arc_easy"` in a suite, or `lm_eval:path/to/task.yaml` for a task file of one's own, which may read
local files. Training rows are lm-eval's training split, prompt and target as lm-eval writes them; the test set is the
split that lm-eval evaluates, without examples in the prompt, judged by the task's own first metric. Several choices
are compared by their likelihood, as in lm-eval.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from harness.api import DataRoot, GenerationTask, Task, TaskFamily, Text
from harness.errors import UserError, unknown

_NAME_LINE = re.compile(r"""^(task|group): *["']?([\w.\-]+)["']? *$""", re.MULTILINE)
_RIGHT_OR_WRONG = ("acc", "acc_norm", "exact_match")
"""Metrics of lm-eval that are 0 or 1 for a row, and whose score is the mean."""


class _LMEvalTask(GenerationTask):
    """What the members have in common; subclasses say which task of lm-eval they are."""

    metrics = ("exact_match",)
    columns = ("prompt", "target", "document")
    file: ClassVar[Path]
    """Its task file."""

    def read(self, root: DataRoot) -> Mapping[str, pd.DataFrame]:
        task = self._task
        return {"train": self._rows("train", task.training_docs()), "test": self._rows("test", task.eval_docs)}

    def lm_eval_configuration(self) -> Mapping[str, Any]:
        config = self._task.config
        return {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}

    def encode(self, row: Mapping[str, Any]) -> Text:
        return Text(row["prompt"])

    def answer(self, row: Mapping[str, Any]) -> str:
        return str(row["target"])

    @functools.cached_property
    def _task(self) -> Any:
        """lm-eval's task with its rows, which are fetched now; a UserError if there are none or it does not fit."""
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        from lm_eval.tasks import TaskManager

        try:
            (task,) = TaskManager(include_defaults=False).load([str(self.file)])["tasks"].values()
        except Exception as error:  # whatever the hub client and the task's own code may raise
            line = next(iter(str(error).strip().splitlines()), "")
            raise UserError(
                f"cannot get the rows of task '{self.name}' ({type(error).__name__}: {line.rstrip('.')}): they come "
                "from the hub or its cache; without one, name a task file that reads local files (lm_eval:FILE.yaml)."
            ) from error
        fault = _fault(task)
        if fault:
            raise UserError(f"task '{self.name}' cannot be used here: {fault}.")
        return task

    def _rows(self, split: str, documents: Any) -> pd.DataFrame:
        rows = [self._row(f"{split}-{number}", document) for number, document in enumerate(documents)]
        return pd.DataFrame(rows, columns=["id", "label", *self.columns])

    def _row(self, identifier: str, document: Mapping[str, Any]) -> dict[str, str]:
        target = self._task.doc_to_target(document)
        if self._task.config.doc_to_choice is not None and isinstance(target, int):
            target = self._task.doc_to_choice(document)[target]
        text = f"{self._task.config.target_delimiter}{target}"
        prompt = self._task.fewshot_context(document, num_fewshot=0)
        values = (identifier, text.strip(), prompt, text, json.dumps(document))
        return dict(zip(("id", "label", *self.columns), values, strict=True))


def _fault(task: Any) -> str:
    """Why a task of lm-eval cannot be trained on and judged row by row; empty if it can."""
    if not dataclasses.is_dataclass(getattr(task, "config", None)) or not hasattr(task, "doc_to_choice"):
        return "it is written in Python, without a configuration"
    if task.OUTPUT_TYPE not in ("multiple_choice", "generate_until"):
        return f"its output type is '{task.OUTPUT_TYPE}', not 'multiple_choice' or 'generate_until'"
    if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
        return "it runs code that a model wrote, or wants more than text"
    if not task.has_training_docs():
        return "it has no training split"
    if task.multiple_input or task.multiple_target:
        return "a row has several prompts or several targets"
    first = next(iter(task.aggregation()), "none")
    if first not in _RIGHT_OR_WRONG:
        return f"its first metric is '{first}', not one of {', '.join(_RIGHT_OR_WRONG)}"
    return ""


@functools.cache
def _known() -> tuple[Mapping[str, Path], frozenset[str]]:
    """The task files of the installed lm-eval by name, and the names of its groups.

    lm-eval's own index parses each of its 14,000 files, which takes a minute; their lines `task: NAME` tell as much.
    """
    spec = find_spec("lm_eval")
    folders = [Path(folder) / "tasks" for folder in (spec.submodule_search_locations or [])] if spec else []
    tasks: dict[str, Path] = {}
    groups: set[str] = set()
    for file in (file for folder in folders for file in sorted(folder.rglob("*.yaml"))):
        for kind, name in _NAME_LINE.findall(file.read_text(encoding="utf-8", errors="replace")):
            if kind == "group":
                groups.add(name)
            else:
                tasks.setdefault(name, file)
    return tasks, frozenset(groups)


def _file(name: str) -> Path:
    """The task file that `lm_eval:name` stands for, or a UserError."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise UserError(f"task 'lm_eval:{name}': there is no file {name}; check the path.")
        return Path(name)
    tasks, groups = _known()
    if name not in tasks and name in groups:
        raise UserError(f"task 'lm_eval:{name}' is a group of lm-eval tasks; name one of its tasks.")
    if name not in tasks:
        raise unknown("task", name, tasks, "lm-eval")
    return tasks[name]


class LMEvalTasks(TaskFamily):
    """The tasks of the installed lm-eval library."""

    prefix: ClassVar[str] = "lm_eval"
    title: ClassVar[str] = "A task of lm-eval"

    def member(self, name: str) -> Task:
        file = _file(name)
        from lm_eval.tasks._yaml_loader import load_yaml

        published = (load_yaml(file, resolve_func=False).get("metadata") or {}).get("version", 1)
        namespace = {
            "name": f"lm_eval:{name}",
            "title": f"{Path(name).stem} (lm-eval)",
            "version": int(float(published)),
            "source": f"lm-eval task {name}, version {published}",
            "file": file,
            "__module__": __name__,
        }
        made: Task = type("LMEvalTask", (_LMEvalTask,), namespace)()
        return made
