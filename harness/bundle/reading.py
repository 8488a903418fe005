"""From a file that anybody may have made to runs that one may store: every part is checked, and nothing is written."""

from __future__ import annotations

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.bundle import format as form
from harness.bundle.format import ARRAY, MANIFEST, TABLES, canonical, checked, run_sha256, sha256, shown
from harness.bundle.members import Members, read_json
from harness.bundle.predictions import Arrays, predictions_of
from harness.bundle.writing import run_line
from harness.errors import UserError
from harness.fields import make_recipe, make_start
from harness.metrics import check_metrics
from harness.records import (
    Costs,
    Forgetting,
    MethodInfo,
    ParameterCounts,
    RunRecord,
    Score,
    TaskInfo,
)
from harness.rows import fingerprint, finite, or_nan
from harness.store import RunDetails
from harness.trial import Backbone, Trial


@dataclass(frozen=True)
class BundledRun:
    """One run of a bundle."""

    id: str
    record: RunRecord
    origin: str | None
    sha256: str
    """Hash of what it says."""


@dataclass(frozen=True)
class BundledSuite:
    """One suite of a bundle, with its members among the bundle's trials: (grid, label, trial)."""

    name: str
    title: str
    description: str
    rank_by: str
    members: tuple[tuple[str, str, Trial], ...]


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been checked."""

    origin: str | None
    methods: tuple[MethodInfo, ...]
    tasks: tuple[TaskInfo, ...]
    suites: tuple[BundledSuite, ...]
    runs: tuple[BundledRun, ...]


def read_bundle(file: Path) -> Bundle:
    """The bundle in a file; UserError, which names the part and the fault, for anything else."""
    try:
        with zipfile.ZipFile(file) as archive:
            return _read(Members(archive, str(file)), str(file))
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"there is no file {file}.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise UserError(f"{file} is not a bundle, or is damaged: {reason}.") from None


def _read(members: Members, where: str) -> Bundle:
    manifest = read_json(members.read(MANIFEST), f"{where}: {MANIFEST}")
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version > form.VERSION:
        raise UserError(
            f"{where} is a bundle of version {version}; this harness reads up to {form.VERSION}: update the harness."
        )
    checked("manifest", manifest, f"{where}: {MANIFEST}")
    if version != form.VERSION:
        raise UserError(f"{where} says to be a bundle of version {version}, which there never was.")
    hashes = manifest["sha256"]
    contents: dict[str, bytes] = {}
    expected = {f"{name}.jsonl" for name in TABLES}
    if not expected <= set(hashes) or set(hashes) != members.names() - {MANIFEST}:
        odd = sorted(expected - set(hashes) | set(hashes) ^ (members.names() - {MANIFEST}))[0]
        raise UserError(f"{where}: {MANIFEST} and the members do not agree about {shown(odd)}.")
    for name in sorted(hashes):
        content = members.read(name)
        if sha256(content) != hashes[name]:
            raise UserError(f"{where}: {name} has not the hash that {MANIFEST} says; it was changed or damaged.")
        if name in expected:
            contents[name.removesuffix(".jsonl")] = content
        elif ARRAY.fullmatch(name) and ARRAY.fullmatch(name)[1] != hashes[name]:  # type: ignore[index]
            raise UserError(f"{where}: {name} has not the hash in its name; it was changed or damaged.")
    return _bundle(manifest, contents, Arrays(members, where), where)


def _bundle(manifest: Mapping[str, Any], contents: Mapping[str, bytes], arrays: Arrays, where: str) -> Bundle:
    lines = {name: list(_lines(name, contents[name], where)) for name in TABLES}
    methods = {line["name"]: MethodInfo(**line) for _, line in lines["methods"]}
    tasks = {
        (line["name"], line["version"]): TaskInfo(
            **{**line, "metrics": tuple(line["metrics"]), "tests": tuple(line["tests"])}
        )
        for _, line in lines["tasks"]
    }
    for place, line in lines["tasks"]:
        check_metrics(line["metrics"], line["kind"], place)
    stacks: dict[str, Any] = {}
    for place, line in lines["stacks"]:
        if fingerprint(line["details"]) != line["id"]:
            raise UserError(f"{place}: the stack's id {line['id']} is not the hash of its details.")
        stacks[line["id"]] = line["details"]
    runs = [_run(place, line, _Context(arrays, stacks, tasks)) for place, line in lines["runs"]]
    if len({run.id for run in runs}) < len(runs):
        raise UserError(f"{where}: two runs have one id.")
    for run in runs:
        if run.record.trial.method not in methods:
            raise UserError(f"{where}: run {run.id} names a method that the bundle does not describe.")
    trials = {run.record.trial.id: run.record.trial for run in runs}
    suites = [_suite(place, line, trials) for place, line in lines["suites"]]
    return Bundle(manifest["origin"], tuple(methods.values()), tuple(tasks.values()), tuple(suites), tuple(runs))


def _lines(name: str, content: bytes, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for count, line in enumerate(content.splitlines(), start=1):
        place = f"{where}: {name}.jsonl, line {count}"
        yield place, checked(name, read_json(line, place), place)


@dataclass(frozen=True)
class _Context:
    """What the runs of a bundle refer to."""

    arrays: Arrays
    stacks: Mapping[str, Any]
    tasks: Mapping[tuple[str, int], TaskInfo]


def _run(place: str, line: dict[str, Any], context: _Context) -> BundledRun:
    if not _plain(line["provenance"]) or run_sha256(line) != line["sha256"]:
        raise UserError(f"{place}: run {line['id']} has not the hash that it says; it was changed or damaged.")
    costs, forgetting = (checked(part, line[part], f"{place}, {part}") for part in ("costs", "forgetting"))
    stack = line["stack"]
    if stack is not None and stack not in context.stacks:
        raise UserError(f"{place}: the bundle does not describe the stack {stack}.")
    trial = _trial(place, line["trial"])
    task = context.tasks.get((trial.task, trial.task_version))
    if task is None:
        raise UserError(f"{place}: the bundle does not describe the task '{trial.task}', version {trial.task_version}.")
    _check_unique(place, [tuple(score[:3]) for score in line["scores"]], [loss[:1] for loss in line["losses"]])
    record = RunRecord(
        trial=trial,
        status=line["status"],
        started_at=datetime.fromisoformat(line["started_at"]),
        finished_at=datetime.fromisoformat(line["finished_at"]),
        reason=line["reason"],
        traceback=line["traceback"],
        parameters=None if line["parameters"] is None else ParameterCounts(*line["parameters"]),
        costs=Costs(**costs),
        forgetting=Forgetting(**forgetting),
        scores=[Score(epoch, split, metric, or_nan(value)) for epoch, split, metric, value in line["scores"]],
        losses=[(step, or_nan(loss)) for step, loss in line["losses"]],
        predictions=[predictions_of(place, item, context.arrays, task) for item in line["predictions"]],
        provenance={**line["provenance"], **({} if stack is None else {"stack": context.stacks[stack]})},
    )
    if record.status == "ok" and any(item[-1] is None for item in (*line["scores"], *line["losses"])):
        raise UserError(f"{place}: run {line['id']} says that it ended well, with a number that is not finite.")
    _check_unique(place, [(item.split, item.epoch) for item in record.predictions])
    details = RunDetails(line["id"], record, stack, (), line["origin"])
    again = run_line(details, record.predictions, _array_sha256, task.metrics)
    if again["sha256"] != line["sha256"]:
        odd = next((key for key in again if again[key] != line[key] and key != "sha256"), "a field")
        raise UserError(f"{place}: {odd} of run {line['id']} is not written as bundles are, or holds a token.")
    return BundledRun(line["id"], record, line["origin"], line["sha256"])


def _array_sha256(values: list[Any]) -> str:
    return sha256(canonical(finite(values)))


def _check_unique(place: str, *keys: list[Any]) -> None:
    for found in keys:
        if len(set(map(str, found))) < len(found):
            raise UserError(f"{place}: a score, a loss or a prediction stands there twice.")


def _plain(value: Any) -> bool:
    """Whether a value holds only what a database column of JSON can."""
    if isinstance(value, dict):
        return all(form.text(key) and _plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_plain, value))
    return value is None or form.text(value) or form.truth(value) or form.number(value)


def _trial(place: str, data: dict[str, Any]) -> Trial:
    """The trial, if it is one: its canonical JSON is what stands there."""
    known = {item.name for item in dataclasses.fields(Trial)}
    for part in ("backbone", "recipe", "start", "parameters"):
        if not isinstance(data.get(part), dict):
            raise UserError(f"{place}: the trial lacks its {part}.")
    if set(data) != known or not _plain(data) or set(data["backbone"]) != {"name", "revision"}:
        raise UserError(f"{place}: the trial has not the fields of one.")
    plain = {"task": form.name, "task_version": form.count, "method": form.name, "seed": form.whole}
    for key, check in {**plain, "train_size": form.count}.items():
        if not check(data[key]):
            raise UserError(f"{place}: the trial's {key} = {shown(data[key])} is not what belongs there.")
    if not all(map(form.name, data["backbone"].values())):
        raise UserError(f"{place}: the trial's backbone is not named.")
    parts = {
        "backbone": Backbone(**data["backbone"]),
        "recipe": make_recipe(data["recipe"], f"{place}, recipe"),
        "start": make_start(data["start"], f"{place}, start"),
    }
    trial = Trial(**{**data, **parts})
    if json.loads(trial.canonical) != data:
        raise UserError(f"{place}: the trial is not written in full; bundles are made by `python -m harness bundle`.")
    return trial


def _suite(place: str, line: dict[str, Any], trials: Mapping[str, Trial]) -> BundledSuite:
    missing = [trial_id for _, _, trial_id in line["members"] if trial_id not in trials]
    if missing:
        raise UserError(f"{place}: the suite names the trial {missing[0]}, of which the bundle has no run.")
    members = tuple((grid, label, trials[trial_id]) for grid, label, trial_id in line["members"])
    return BundledSuite(line["name"], line["title"], line["description"], line["rank_by"], members)
