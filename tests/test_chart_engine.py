"""The chart engine draws the same in another process as in this one, and no chart is lost with that process."""

from __future__ import annotations

from typing import Any

import pytest

from reports.plots import engine
from reports.plots.engine import ahead, svg


def described(words: str = "A ¦ <b> \u2028 \U0001f600") -> dict[str, Any]:
    axes = {name: {"field": name, "type": "quantitative"} for name in ("x", "y")}
    return {
        "data": {"values": [{"x": 1, "y": 2.5}, {"x": 3, "y": 4}]},
        "mark": "point",
        "encoding": axes,
        "title": words,
    }


def test_another_process_draws_what_this_one_does() -> None:
    here = [svg(described()), svg(described("Another"))]
    with ahead():
        assert [svg(described()), svg(described("Another"))] == here
        (process,) = engine._apart
        assert process.poll() is None
    assert process.poll() is not None
    assert engine._apart == []
    assert here[0] != here[1]
    assert "&lt;b&gt;" in here[0]


def test_a_process_that_ends_costs_no_chart() -> None:
    here = svg(described())
    with ahead():
        engine._apart[0].kill()
        assert svg(described()) == here
        engine._apart[0].wait()
        assert svg(described()) == here


def test_an_error_in_a_drawing_is_told_by_this_process() -> None:
    with pytest.raises(ValueError, match="Vega-Lite") as here:
        svg({"mark": "no such mark", "data": 3})
    with ahead(), pytest.raises(ValueError, match="Vega-Lite") as apart:
        svg({"mark": "no such mark", "data": 3})
    assert str(apart.value) == str(here.value)


def test_one_process_is_enough() -> None:
    with ahead():
        (process,) = engine._apart
        with ahead():
            assert engine._apart == [process]
        assert engine._apart == [process]
        assert process.poll() is None


def test_a_process_that_is_not_needed_ends_at_once() -> None:
    here = svg(described())
    with ahead():
        (process,) = engine._apart
        engine.dismiss()
        assert process.poll() is not None
        assert svg(described()) == here
    assert engine._apart == []
