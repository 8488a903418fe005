"""Planted tokens: none reaches the database, the terminal or a log."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from factories import METHODS, TASKS, make_record
from hypothesis import given
from hypothesis import strategies as st
from test_runner import make

from harness.errors import UserError
from harness.redaction import STRUCK, redact
from harness.runner import run_trial
from harness.settings import Settings
from harness.store import open_store

TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWx"
PLAIN = "no-shape-at-all-0815"


@pytest.mark.parametrize(
    "text",
    [
        f"401 for url https://huggingface.co/x?token={TOKEN}",
        f"Authorization: Bearer {PLAIN}",
        f"postgresql+psycopg://anna:{PLAIN}@db.example.org/board",
        f"https://:{PLAIN}@example.org",
        "ghp_0123456789abcdefghij0123456789",
        "key AKIAABCDEFGHIJKLMNOP was refused",
    ],
)
def test_what_looks_like_a_token_is_struck_out(text: str) -> None:
    found = redact(text)
    assert STRUCK in found
    assert TOKEN not in found
    assert PLAIN not in found


def test_values_of_variables_named_like_secrets_are_struck_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_PASSWORD", PLAIN)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsehood")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    stays = "falsehood is disabled"
    assert redact(f"login with {PLAIN} failed; {stays}") == f"login with {STRUCK} failed; {stays}"


@given(st.text(alphabet="abcdefghij klmnopq.,:/-_=0123456789\n"))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "see https://example.org/a:b and http://localhost:8080/x",
        "postgresql+psycopg://db.example.org:5432/board",
        "accuracy on test after epoch 3 is nan; token ids lie in [0, 30522)",
        "sha256:53aa51172d142c89 at 'leaderboard.db'",
    ],
)
def test_ordinary_messages_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_a_stored_failure_holds_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", PLAIN)
    record = make_record(
        status="failed",
        scores=[],
        reason=f"OSError: token {PLAIN} is not valid",
        traceback=f"Traceback ...\nhttps://u:{TOKEN}@example.org",
        provenance={"note": [f"read with {TOKEN}"]},
    )
    path = tmp_path / "leaderboard.db"
    with open_store(str(path)) as store:
        store.describe(METHODS, TASKS)
        stored = store.run(store.add_run(record)).record
    assert stored.reason == f"OSError: token {STRUCK} is not valid"
    assert TOKEN.encode() not in path.read_bytes()
    assert PLAIN.encode() not in path.read_bytes()


def test_a_method_that_raises_with_a_token_leaves_none_in_its_row(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(f"401 Client Error for https://hub.example.org with Bearer {PLAIN}")

    monkeypatch.setattr("harness.bench.load", refuse)
    trial = make("lora", settings)
    record = run_trial(trial, settings)
    with open_store(str(tmp_path / "leaderboard.db")) as store:
        from harness.plugins import discover, method_info, task_info

        plugins = discover()
        store.describe([method_info(plugins.methods["lora"])], [task_info(plugins.tasks["paraphrase"])])
        found = store.run(store.add_run(record)).record
    assert found.status == "failed"
    assert PLAIN not in json.dumps([found.reason, found.traceback, found.provenance])


def test_logs_and_last_tracebacks_are_redacted() -> None:
    script = f"""
import logging, sys
from harness.redaction import install
install()
logging.basicConfig(level="INFO")
logging.getLogger("hub").info("with %s", {TOKEN!r})
try:
    raise ValueError("inside {TOKEN}")
except ValueError:
    logging.getLogger("hub").exception("went wrong")
raise RuntimeError("at the end {TOKEN}")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert TOKEN not in done.stderr + done.stdout
    assert done.stderr.count(STRUCK) >= 3
    assert "went wrong" in done.stderr


def test_a_password_in_a_database_url_is_not_printed() -> None:
    with pytest.raises(UserError) as error:
        open_store(f"postgresql+psycopg://anna:{PLAIN}@127.0.0.1:1/board")
    assert PLAIN not in str(error.value)


def test_installing_twice_formats_once() -> None:
    from harness.redaction import install

    before, hook = logging.getLogRecordFactory(), sys.excepthook
    try:
        install()
        first = logging.getLogRecordFactory()
        install()
        assert logging.getLogRecordFactory() is first
        stream = io.StringIO()
        logger = logging.Logger("alone")
        logger.addHandler(logging.StreamHandler(stream))
        logger.warning("%d of %s", 3, TOKEN)
        assert stream.getvalue() == f"3 of {STRUCK}\n"
    finally:
        logging.setLogRecordFactory(before)
        sys.excepthook = hook
