"""What a packed run is said to cost is what its trial costs alone, and a pack leaves nothing behind."""

from __future__ import annotations

import pytest
from pack_support import make_trial, together

from harness import costs
from harness.pack import solo
from harness.settings import Settings


@pytest.fixture(autouse=True)
def nothing_measured_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solo, "_CACHE", {})
    monkeypatch.setattr(costs, "_CACHE", {})


def test_epochs_evaluated_together_count_beside_those_evaluated_alone(
    toys: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solo.SoloTimes, "eval_seconds", lambda self, sizes: 1000.0)
    short, long = (make_trial(toys, epochs=epochs, train_size=16) for epochs in (1, 3))
    records = together([short, long], toys)
    assert records[short.id].costs.eval_seconds == 1000
    assert 1000 < (records[long.id].costs.eval_seconds or 0) < 1100  # two more epochs, timed
