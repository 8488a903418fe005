"""What a run's row says about its making."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_runner import good, make

from harness import provenance as module
from harness.devices import set_matmul_precision
from harness.provenance import LIBRARIES, SOURCES, VARIABLES, provenance, stack
from harness.settings import Settings
from harness.source_hashes import tensors_sha256
from harness.trial import Start

SETTINGS = Settings(device="cpu")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    module._checkout.cache_clear()
    yield
    module._checkout.cache_clear()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed checkout with the project's folders, in place of the project's own."""
    if shutil.which("git") is None:
        pytest.fail("these tests need git")
    for folder in SOURCES:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "code.py").write_text("x = 1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_is_plain_json_and_says_the_same_twice() -> None:
    first = provenance(SETTINGS)
    assert json.loads(json.dumps(first)) == first == provenance(SETTINGS)


def test_names_the_version_of_every_library() -> None:
    versions = provenance(SETTINGS)["versions"]
    assert list(versions) == list(LIBRARIES)
    assert versions["torch"] == torch.__version__
    assert all(isinstance(version, str) for version in versions.values())


def test_a_clean_checkout_gives_its_commit(checkout: Path) -> None:
    facts = provenance(SETTINGS)
    assert facts["commit"] == git(checkout, "rev-parse", "HEAD")
    assert facts["dirty"] is False


@pytest.mark.parametrize("file", ["harness/code.py", "methods/new.py"])
def test_a_changed_or_new_source_is_dirty(checkout: Path, file: str) -> None:
    (checkout / file).write_text("x = 2\n")
    assert provenance(SETTINGS)["dirty"] is True


def test_results_written_beside_the_sources_are_not_dirt(checkout: Path) -> None:
    (checkout / "leaderboard.db").write_bytes(b"rows")
    assert provenance(SETTINGS)["dirty"] is False


def test_a_folder_inside_another_repository_has_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROJECT", checkout / "harness")
    facts = provenance(SETTINGS)
    assert (facts["commit"], facts["dirty"]) == (None, None)


def test_without_git_the_commit_is_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    facts = provenance(SETTINGS)
    assert (facts["commit"], facts["dirty"]) == (None, None)


def test_git_is_asked_once(checkout: Path) -> None:
    first = provenance(SETTINGS)
    (checkout / "harness/code.py").write_text("x = 2\n")
    assert provenance(SETTINGS) == first


def test_only_listed_variables_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    monkeypatch.setenv("HARNESS_DATA", "/home/somebody/data")
    facts = provenance(SETTINGS)
    assert facts["environment"]["CUDA_VISIBLE_DEVICES"] == "3"
    assert set(facts["environment"]) <= set(VARIABLES)
    assert "secret-token" not in json.dumps(facts)
    assert "somebody" not in json.dumps(facts)


def test_the_stack_changes_with_the_threads_and_not_with_the_commit(checkout: Path) -> None:
    before = stack(SETTINGS)
    (checkout / "harness/code.py").write_text("x = 2\n")
    assert stack(SETTINGS) == before
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert stack(SETTINGS) != before
    finally:
        torch.set_num_threads(threads)


def test_threads_that_the_settings_ask_for_are_the_stacks() -> None:
    assert stack(Settings(device="cpu", threads=7))["threads"] == 7


def test_a_stack_without_a_gpu_names_the_processor() -> None:
    facts = stack(SETTINGS)
    assert facts["device"] == "cpu"
    assert facts["gpu"] is None
    assert facts["processor"]
    assert facts["cores"] >= 1


def test_an_unusable_device_is_named_and_not_fatal() -> None:
    facts = provenance(Settings(device="cuda:99"))
    assert facts["stack"]["device"] == "cuda:99"
    assert facts["stack"]["gpu"] is None


@pytest.mark.parametrize(("precision", "cuda", "cpu"), [("fp32", "highest", "highest"), ("tf32", "high", "highest")])
def test_tf32_is_set_by_every_run_and_recorded(precision: str, cuda: str, cpu: str, settings: Settings) -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("medium")  # left behind by somebody
        for device, expected in (("cuda", cuda), ("cpu", cpu)):
            set_matmul_precision(precision, torch.device(device))
            assert stack(settings)["matmul_precision"] == expected
            assert torch.backends.cudnn.allow_tf32 == (expected == "high")
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_a_run_never_inherits_the_precision_of_another(settings: Settings) -> None:
    torch.set_float32_matmul_precision("medium")
    record = good(make("head_only", settings, train_size=16), settings)
    assert record.provenance["stack"]["matmul_precision"] == "highest"


def test_the_hash_of_what_differs_tells_two_changes_apart(checkout: Path) -> None:
    assert provenance(SETTINGS)["dirty_sha256"] is None
    found = set()
    for text in ("x = 2\n", "x = 3\n"):
        (checkout / "methods/new.py").write_text(text)
        module._checkout.cache_clear()
        found.add(provenance(SETTINGS)["dirty_sha256"])
    (checkout / "methods/new.py").unlink()
    (checkout / "harness/code.py").unlink()
    module._checkout.cache_clear()
    found.add(provenance(SETTINGS)["dirty_sha256"])
    assert len(found) == 3
    assert None not in found


def test_a_run_records_the_hashes_of_all_that_it_was_made_from(settings: Settings, tmp_path: Path) -> None:
    start = Start("warmup", epochs=1, learning_rate=1e-3)
    facts = good(make("lora", settings, train_size=16, start=start), settings).provenance
    again = good(make("lora", settings, train_size=16, start=start, seed=1), settings).provenance
    assert set(facts["rows_sha256"]) == {"train", "select", "test"}
    assert facts["data_sha256"] == again["data_sha256"]
    assert facts["rows_sha256"]["train"] != again["rows_sha256"]["train"]  # another seed, another subset
    assert facts["rows_sha256"]["test"] == again["rows_sha256"]["test"]
    assert facts["tokenizer_sha256"] == again["tokenizer_sha256"]
    assert facts["start_sha256"] != again["start_sha256"]
    file = Path(__file__).parent.parent / "methods" / "lora.py"
    assert facts["plugins_sha256"]["method"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(facts["backbone_sha256"]) == 64
    assert facts["switches"]["default_dtype"] == "torch.float32"


def test_tensors_hash_by_name_shape_type_and_value() -> None:
    base = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(0)}
    others = [
        {"a": torch.arange(6.0).reshape(3, 2), "b": torch.zeros(0)},
        {"a": torch.arange(6.0).reshape(2, 3).double(), "b": torch.zeros(0)},
        {"b": torch.arange(6.0).reshape(2, 3), "a": torch.zeros(0)},
        {"a": torch.arange(6.0).reshape(2, 3) + 1, "b": torch.zeros(0)},
    ]
    strided = torch.arange(6.0).reshape(2, 3).T.contiguous().T  # the same values, laid out otherwise
    assert tensors_sha256(base) == tensors_sha256({"b": torch.zeros(0), "a": strided})
    assert len({tensors_sha256(item) for item in (base, *others)}) == 5
