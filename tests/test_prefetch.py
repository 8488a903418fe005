"""Batches made in advance: the same ones in the same order, and nothing left running."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.prefetch import Prepared, ahead_for, opened, pinned, sent


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(), max_size=20), st.integers(0, 6))
def test_order_and_number_do_not_change(items: list[int], ahead: int) -> None:
    made = Prepared(lambda item: [item], items, ahead)
    assert len(made) == len(items)
    assert [batch for [batch] in made] == items
    assert [batch for [batch] in made] == items  # another epoch over the same
    assert not workers()


@pytest.mark.parametrize("ahead", [0, 3])
def test_what_is_passed_over_is_not_made(ahead: int) -> None:
    made: list[int] = []

    def make(item: int) -> int:
        made.append(item)
        return item

    assert list(Prepared(make, range(6), ahead).after(4)) == made == [4, 5]


def test_no_more_are_made_than_may_lie_ready() -> None:
    made: list[int] = []

    def make(item: int) -> int:
        made.append(item)
        return item

    with opened(Prepared(make, range(100), ahead=3)) as ready:
        assert next(ready) == 0
        assert next(ready) == 1
    assert len(made) <= 2 + 3
    assert not workers()


def test_an_exception_comes_where_its_batch_was_due() -> None:
    seen = []

    def consume() -> None:
        with opened(Prepared(lambda item: 1 // (2 - item), range(5), ahead=3)) as ready:
            for value in ready:
                seen.append(value)

    with pytest.raises(ZeroDivisionError):
        consume()
    assert seen == [0, 1]
    assert not workers()


def test_the_thread_ends_when_the_step_fails() -> None:
    def train() -> None:
        with opened(Prepared(str, range(50), ahead=2)) as ready:
            next(ready)
            assert workers()
            raise RuntimeError("step")

    with pytest.raises(RuntimeError, match="step"):
        train()
    assert not workers()


def test_plain_iterables_can_be_opened_too() -> None:
    def numbers() -> Iterator[int]:
        yield from range(3)

    for items in (numbers(), [0, 1, 2]):
        with opened(items) as ready:
            assert list(ready) == [0, 1, 2]


def test_a_cpu_keeps_its_cores_and_its_memory() -> None:
    cpu = torch.device("cpu")
    batch = {"input_ids": torch.zeros(1, 1)}
    assert ahead_for(cpu) == 0
    assert pinned(batch, cpu) is batch
    assert ahead_for(torch.device("cuda")) > 0


def test_what_is_sent_to_a_gpu_goes_by_page_locked_memory_and_is_not_waited_for() -> None:
    class Value:
        pinned = False

        def pin_memory(self) -> Value:
            self.pinned = True
            return self

        def to(self, device: torch.device, non_blocking: bool) -> tuple[str, bool, bool]:
            return device.type, self.pinned, non_blocking

    answers = [sent(cast(Any, Value()), torch.device(kind)) for kind in ("cuda", "cpu")]
    assert answers == [("cuda", True, True), ("cpu", False, True)]
