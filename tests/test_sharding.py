"""A model in two processes: the numbers of one, and no process that outlives its trial."""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import sharding_support as support
import torch

from harness import executors, runner
from harness.api import parameters_of
from harness.backbones import resolve
from harness.errors import TrialFailure, UserError
from harness.export.trained import Wanted, rebuild
from harness.fields import make_recipe
from harness.pack.plan import pack_key
from harness.placement import ALONE
from harness.plugins import discover, make_method
from harness.preflight import check_plan, model_checks
from harness.provenance import stack
from harness.records import Member, RunRecord
from harness.runner import run_trial
from harness.settings import Settings
from harness.sharding.checks import check_devices, check_sharded, check_tensors, layer_classes
from harness.sharding.launch import Trouble, together
from harness.trial import Recipe, Start, Trial, trial_from_json

PLUGIN = Path(__file__).parent / "sharding_support.py"
RECIPE = Recipe(
    epochs=1,
    batch_size=12,  # of 37 rows: the last batch has one, for one of two processes
    learning_rate=5e-3,
    head_learning_rate=5e-3,
    backbone_dropout=0.0,
    clip=0.5,
    eval_batch_size=4,
)


@pytest.fixture
def placed(settings: Settings) -> Settings:
    return dataclasses.replace(settings, plugin_files=(PLUGIN,))


def make(method: str, settings: Settings, task: str = "thirds", **changes: Any) -> Trial:
    """A trial of one of the small tasks, in two processes unless `changes`, of its recipe, say otherwise."""
    plugins = discover(settings.plugin_files)
    return Trial(
        backbone=resolve("starter-decoder" if task == "echo" else "starter-encoder", settings),
        task=task,
        task_version=1,
        method=method,
        parameters=parameters_of(make_method(plugins.methods[method], {})),
        recipe=dataclasses.replace(RECIPE, **{"shards": 2, **changes}),
        seed=0,
    )


def in_one(trial: Trial) -> Trial:
    return dataclasses.replace(trial, recipe=dataclasses.replace(trial.recipe, shards=1))


# ------------------------------------------------------------------------- the same numbers


CASES = (("lora", "thirds"), ("ft", "thirds"), ("lora_xs", "echo"), ("ft", "echo"))
"""A formula, full fine-tuning, frozen factors beside trained ones, and full fine-tuning where embeddings are tied."""


@dataclasses.dataclass(frozen=True)
class Together:
    """What two processes made of all cases, and what they said meanwhile."""

    settings: Settings
    records: list[RunRecord]
    said: list[tuple[Any, ...]]


@pytest.mark.timeout(900)  # of which a machine with nothing else to do needs a tenth
def test_two_processes_compute_what_one_does(placed: Settings, tmp_path: Path) -> None:
    """One test, for starting the two and what they import takes most of its time."""
    settings = dataclasses.replace(placed, keep_adapters=True)
    trials = [make(method, settings, task) for method, task in CASES]
    said: list[tuple[Any, ...]] = []
    records = together(support.run_all, (trials, settings), 2, 1, lambda *words: said.append(words))
    both = Together(settings, records, said)
    apart = dataclasses.replace(settings, cache_root=tmp_path / "apart", keep_adapters=False)
    for case in range(len(CASES)):
        check_losses_and_scores(both, apart, case)
        check_gradients_and_their_norm(both, apart, case)
    check_that_the_run_says_in_how_many_processes_it_ran(both)
    check_that_dropout_is_drawn_apart_and_the_largest_counts(both)
    check_that_what_was_kept_is_whole(both, apart)


def check_losses_and_scores(both: Together, apart: Settings, case: int) -> None:
    record = both.records[case]
    alone = run_trial(in_one(record.trial), apart)
    assert (record.status, alone.status) == ("ok", "ok"), alone.traceback
    assert [point for point, _ in record.losses] == [point for point, _ in alone.losses]
    for (_, got), (_, expected) in zip(record.losses, alone.losses, strict=True):
        assert got == pytest.approx(expected, rel=1e-5)
    assert record.losses[-1][1] != pytest.approx(record.losses[0][1], rel=1e-3)  # it has learned something
    keys = [[(score.epoch, score.split, score.metric) for score in found.scores] for found in (record, alone)]
    assert keys[0] == keys[1]
    for mine, theirs in zip(record.scores, alone.scores, strict=True):
        assert mine.value == pytest.approx(theirs.value, abs=1e-6)
    assert record.predictions == alone.predictions
    assert record.parameters == alone.parameters
    counted = ("train_flops", "inference_flops_per_example") if case == 0 else ()
    for cost in ("padding_share", "adapter_bytes", *counted):
        assert getattr(record.costs, cost) == pytest.approx(getattr(alone.costs, cost)), cost


def check_gradients_and_their_norm(both: Together, apart: Settings, case: int) -> None:
    """Of a step whose second process has no row in one part and fewer labels in the other."""
    loss, norm, gradients = support.step(in_one(both.records[case].trial), apart, ALONE)
    got_loss, got_norm, got = [words[3:] for words in both.said if words[:2] == ("step", 0)][case]
    assert norm > 0.01  # clipping is active
    assert got_loss == pytest.approx(loss, rel=1e-5)
    assert got_norm == pytest.approx(norm, rel=1e-4)
    assert got.keys() == gradients.keys()
    for name, expected in gradients.items():
        np.testing.assert_allclose(got[name], expected, rtol=1e-3, atol=2e-7, err_msg=name)


def check_that_the_run_says_in_how_many_processes_it_ran(both: Together) -> None:
    assert both.records[0].provenance["stack"] == {**stack(both.settings), "processes": 2}
    assert ("progress", 0, 4, 4) in both.said
    assert not [words for words in both.said if words[:2] == ("progress", 1)]


def check_that_dropout_is_drawn_apart_and_the_largest_counts(both: Together) -> None:
    assert {words[1]: words[2] for words in both.said if words[0] == "salt"} == {0: (), 1: ("process 1",)}
    assert {words[1:] for words in both.said if words[0] == "largest"} == {(0, 11, None), (1, 11, None)}


def check_that_what_was_kept_is_whole(both: Together, apart: Settings) -> None:
    """It can be exported from; without it nothing is trained again in one process."""
    record = both.records[0]
    wanted = Wanted("r0", record, 1, record.predictions)
    trained = rebuild(wanted, both.settings)
    assert trained.kept
    assert trained.agreement == 1.0
    with pytest.raises(UserError, match=r"run r0 was trained in 2 processes, .* --keep-adapters"):
        rebuild(wanted, apart)


# ------------------------------------------------------------------------- what it is and with what it goes


def test_a_trial_in_one_process_keeps_its_id(settings: Settings) -> None:
    canonical = (
        '{"backbone":{"name":"tiny","revision":"sha256:0"},"method":"lora","parameters":{"r":8},"recipe":{'
        '"accumulation":1,"backbone_dropout":-1.0,"batch_size":32,"clip":1.0,"epochs":3,"eval_batch_size":64,'
        '"head_learning_rate":0.0005,"learning_rate":0.0005,"length_pool":4,"max_length":128,"precision":"fp32",'
        '"schedule":"linear","select_rows":0,"warmup_ratio":0.06,"weight_decay":0.01},"seed":0,"start":{"epochs":0,'
        '"kind":"pretrained","learning_rate":0.0},"task":"mrpc","task_version":1,"train_size":0}'
    )  # as a trial was written before there were shards
    trial = trial_from_json(canonical)
    assert trial.recipe.shards == 1
    assert trial.canonical == canonical
    apart = dataclasses.replace(trial, recipe=dataclasses.replace(trial.recipe, shards=2))
    assert apart.id != trial.id
    assert trial_from_json(apart.canonical) == apart


def test_the_recipe_takes_whole_processes() -> None:
    assert make_recipe({"shards": 2}, "here").shards == 2
    with pytest.raises(UserError, match=r"here: shards = 0 must be at least 1\."):
        make_recipe({"shards": 0}, "here")


def test_a_pack_has_no_trial_in_several_processes(placed: Settings) -> None:
    plugins = discover(placed.plugin_files)
    trial = make("lora", placed)
    assert pack_key(trial, plugins) is None
    assert pack_key(in_one(trial), plugins) is not None


REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "packing": ("lora", {"packing": True}, {}, "packing = true makes a batch one row"),
    "prefix": ("head_only", {"cache_prefix": True}, {}, "cache_prefix = true"),
    "forgetting": ("lora", {"forgetting": "text"}, {}, "forgetting wants the whole pretrained model"),
    "gradient": ("lora_sb", {}, {}, "method 'lora_sb' wants the gradient"),
    "bridge": ("peft:LORA", {}, {}, "method 'peft:LORA' changes tensors after each update"),
    "compiler": ("lora", {}, {"compile": "auto"}, "--compile auto"),
    "checkpoints": ("lora", {}, {"checkpoint_steps": 5}, "--checkpoint-every"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_takes_the_whole_model_in_one_process_is_refused_in_one_line(placed: Settings, name: str) -> None:
    method, recipe, changes, reason = REFUSED[name]
    settings = dataclasses.replace(placed, **changes)
    trial = make(method, settings, **recipe)
    plugin = make_method(discover().methods[method], trial.parameters)
    with pytest.raises(UserError, match=reason) as caught:
        check_sharded(trial, plugin, settings)
    assert str(caught.value).startswith("shards = 2, but ")
    assert str(caught.value).endswith("; leave one of the two out.")
    assert "\n" not in str(caught.value)
    check_sharded(in_one(trial), plugin, settings)
    record = run_trial(trial, settings)
    assert (record.status, record.reason) == ("failed", str(caught.value))


def test_a_start_is_refused_and_a_baseline_needs_no_processes(placed: Settings) -> None:
    warm = dataclasses.replace(make("lora", placed), start=Start("warmup", epochs=1, learning_rate=1e-3))
    plugins = discover(placed.plugin_files)
    with pytest.raises(UserError, match="the start 'warmup' trains the whole model in one process"):
        check_sharded(warm, make_method(plugins.methods["lora"], {}), placed)
    record = run_trial(make("majority", placed, packing=True), placed)
    assert record.status == "ok", record.traceback


def test_a_plan_is_refused_before_any_training(placed: Settings) -> None:
    plugins = discover(placed.plugin_files)
    member = Member("main", "row", make("lora", placed, packing=True))
    with pytest.raises(UserError, match=r"method 'row' on task 'thirds': shards = 2, but packing"):
        check_plan([member], plugins, placed, executors.InProcess(placed))
    good = Member("main", "row", make("lora", placed))
    assert model_checks([good], plugins)[0].shards == 2
    check_plan([good], plugins, placed, executors.InProcess(placed))


def test_every_process_needs_a_gpu_of_its_own_or_all_the_cpu(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_devices(3, settings)
    for device, there, reason in (
        ("cuda", 2, "shards = 3 wants as many GPUs; this machine has 2. Set shards = 2."),
        ("cuda:1", 4, "shards = 3, but --device cuda:1 names one device; say --device cuda."),
        ("mps", 0, "shards = 3 wants CUDA or the CPU, not mps; say --device cpu, or set shards = 1."),
    ):
        monkeypatch.setattr("harness.devices.pick_device", lambda name, device=device: torch.device(device))
        monkeypatch.setattr(torch.cuda, "device_count", lambda there=there: there)
        with pytest.raises(UserError) as caught:
            check_devices(3, settings)
        assert str(caught.value) == reason


def test_a_model_is_cut_by_its_layers_and_tensors_by_their_rows() -> None:
    model = torch.nn.Module()
    with pytest.raises(UserError, match="Module shows no list of its layers"):
        layer_classes(model)
    model.layers = torch.nn.ModuleList([torch.nn.GELU(), torch.nn.GELU()])
    model.config = type("Config", (), {"num_hidden_layers": 2})()
    assert layer_classes(model) == ["GELU"]
    check_tensors(model)
    model.scale = torch.nn.Parameter(torch.tensor(1.0))
    with pytest.raises(UserError, match="scale is a single number"):
        check_tensors(model)


# ------------------------------------------------------------------------- bad ends


@pytest.fixture
def no_orphans() -> Iterator[None]:
    """Fails if a process is left that was not there before."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    yield
    left = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    assert [process for process in left if "resource_tracker" not in " ".join(process.cmdline())] == []


@pytest.mark.usefixtures("no_orphans")
def test_the_first_process_gives_the_result_with_its_own_threads(capfd: pytest.CaptureFixture[str]) -> None:
    assert together(support.answers, 7, 2, 3) == (7, "3")
    printed = capfd.readouterr()
    assert "into the void" in printed.err
    assert printed.out == ""


@pytest.mark.usefixtures("no_orphans")
def test_a_killed_process_ends_the_others_and_its_trial_has_failed(
    placed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run_shard", support.dies)
    record = run_trial(make("lora", placed), placed)
    reason = "process 2 of the 2 that share the model died: killed by SIGKILL (out of memory is the usual cause)"
    assert (record.status, record.reason) == ("failed", reason)


@pytest.mark.usefixtures("no_orphans")
def test_the_death_of_one_is_told_and_not_what_the_others_say_of_it() -> None:
    with pytest.raises(TrialFailure, match="process 2 of the 2 that share the model died: killed by SIGKILL"):
        together(support.dies_in_company, None, 2, 1)


@pytest.mark.usefixtures("no_orphans")
def test_an_error_in_one_process_is_raised_here_with_its_traceback() -> None:
    with pytest.raises(UserError, match="no such thing") as caught:
        together(support.fails, UserError("no such thing"), 2, 1)
    assert "in fails" in caught.value.__notes__[0]


@pytest.mark.usefixtures("no_orphans")
def test_ctrl_c_ends_processes_that_hang(settings: Settings) -> None:
    def interrupts(pid: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together(support.tells, None, 2, 1, interrupts)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the kernel's help is Linux's")
def test_processes_that_hang_end_with_the_worker_that_started_them(tmp_path: Path) -> None:
    """As when a trial takes longer than its --timeout: the worker is killed."""
    file = tmp_path / "pids"
    worker = multiprocessing.get_context("spawn").Process(target=support.lead, args=(str(file),), daemon=True)
    worker.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not file.exists() or len(file.read_text().split()) < 2):
        time.sleep(0.05)
    processes = [psutil.Process(int(pid)) for pid in file.read_text().split()]
    assert len(processes) == 2
    worker.kill()
    worker.join()
    assert psutil.wait_procs(processes, timeout=20)[1] == []


@pytest.mark.parametrize(
    "error",
    [
        TrialFailure("diverged", "the training loss was nan at step 3"),
        UserError("no"),
        torch.OutOfMemoryError("no room"),
        MemoryError("no room at all"),
        OSError(28, "No space left on device"),
    ],
)
def test_errors_travel_as_what_they_are(error: Exception) -> None:
    again = Trouble.of(error).error()
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert getattr(again, "status", None) == getattr(error, "status", None)
    assert getattr(again, "errno", None) == getattr(error, "errno", None)


def test_a_full_main_memory_is_no_room_in_whatever_class_it_comes() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert isinstance(Trouble.of(caught.value).error(), torch.OutOfMemoryError)


def test_an_error_of_a_class_of_its_own_keeps_its_name() -> None:
    class Peculiar(Exception):
        def __init__(self, first: str, second: str) -> None:
            super().__init__(f"{first} {second}")

    again = Trouble.of(Peculiar("this", "that")).error()
    assert f"{type(again).__name__}: {again}" == "Peculiar: this that"


def test_what_does_not_fit_is_computed_by_new_processes_in_smaller_parts(
    placed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[int] = []

    def fake(work: Any, order: Any, shards: int, threads: int, hear: Any) -> RunRecord:
        trial, _, least = order
        parts.append(least)
        if least < 4:
            raise torch.OutOfMemoryError("no room")
        return run_trial(dataclasses.replace(in_one(trial), method="majority", parameters={}), placed)

    monkeypatch.setattr(runner, "together", fake)
    record = run_trial(make("lora", placed), placed)
    assert parts == [0, 2, 4]
    assert record.status == "ok"
    assert record.provenance["out_of_memory_with"] == [1, 2]


def test_the_cores_are_shared_out(placed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def fake(work: Any, order: Any, shards: int, threads: int, hear: Any) -> RunRecord:
        seen.append((shards, threads))
        assert order[1].threads == threads
        raise UserError("enough")

    monkeypatch.setattr(runner, "together", fake)
    for threads in (8, 3, 1):
        run_trial(make("lora", placed), dataclasses.replace(placed, threads=threads))
    assert seen == [(2, 4), (2, 1), (2, 1)]
