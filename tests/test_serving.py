"""A worker process from its start to its last order."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

import pytest

from harness import serving
from harness.serving import Call, serve
from harness.settings import Settings


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Filled when the worker loads what trials need."""
    found: list[str] = []

    def load() -> Any:
        found.append("libraries")
        raise ImportError("none here")

    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    monkeypatch.setattr(serving, "install", lambda: None)
    monkeypatch.setattr(serving, "end_with_the_parent", lambda: None)
    monkeypatch.setattr(serving, "_ordinary_runner", load)
    return found


def started(settings: Settings, *orders: Call) -> tuple[Connection, Thread]:
    """A worker (a thread stands in for its process) that finds these orders when it is up."""
    here, there = multiprocessing.Pipe()
    for order in orders:
        here.send(order)
    thread = Thread(target=serve, args=(there, settings))
    thread.start()
    return here, thread


def number(argument: int, settings: Settings) -> int:
    return argument


def test_a_worker_that_nobody_needs_yet_loads_what_trials_need(
    settings: Settings, loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "IDLE_SECONDS", 0.0)
    pipe, thread = started(settings)
    while not loaded and thread.is_alive():
        thread.join(0.01)
    pipe.send(Call(number, 3))
    assert pipe.poll(60)
    assert pipe.recv() == ("result", 3)  # that it could not be loaded is told to whom it keeps from training
    pipe.close()
    thread.join()


def test_an_order_that_is_there_already_is_not_kept_waiting(settings: Settings, loaded: list[str]) -> None:
    pipe, thread = started(settings, Call(number, 1), Call(number, 2))
    assert [pipe.recv(), pipe.recv()] == [("result", 1), ("result", 2)]
    pipe.close()
    thread.join()
    assert loaded == []
