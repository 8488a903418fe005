"""What an unknown name is answered with."""

from __future__ import annotations

import pytest

from harness.errors import unknown

KNOWN = ["alpha", "epochs", "head_learning_rate", "learning_rate", "r", "targets", "train_size"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("lr", "learning_rate"),
        ("ts", "train_size"),
        ("learning-rate", "learning_rate"),
        ("target", "targets"),
        ("size", "train_size"),
        ("Epoch", "epochs"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    assert str(unknown("parameter", name, KNOWN, "--set")) == (
        f"unknown parameter '{name}' in --set: did you mean '{nearest}'?"
    )


def test_a_name_that_resembles_none_is_answered_with_all_or_their_number() -> None:
    assert "known: alpha, epochs, head_learning_rate" in str(unknown("parameter", "zzz", KNOWN))
    assert "there are 13 known names." in str(unknown("parameter", "zzz", [*KNOWN, *"bcdefg"]))
