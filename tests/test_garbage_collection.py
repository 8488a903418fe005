"""What reads and reports lets the garbage collector rest, and leaves it as it was."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from harness.garbage_collection import RARELY, rarely_collected


def test_the_collector_is_as_before_whatever_happens_inside() -> None:
    before, seen = gc.get_threshold(), []

    @rarely_collected()
    def fail() -> None:
        with rarely_collected():
            seen.append(gc.get_threshold())
        seen.append(gc.get_threshold())
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [(RARELY, *before[1:])] * 2
    assert gc.get_threshold() == before


def test_a_program_ends_without_a_last_look_for_cycles() -> None:
    program = "import atexit, gc, sys; from harness.cli import main; sys.argv = ['harness', '--version']; "
    program += "atexit.register(lambda: print(gc.get_freeze_count() > 1000)); main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "True"
