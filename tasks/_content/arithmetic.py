"""Word problems with one or two steps of addition and subtraction, and the same facts as told stories.

The content of a problem is its numbers: a set of numbers belongs to one split, whatever is counted.
Bare equations ("12 + 5 = 17") are common knowledge, not content: pretraining text holds all of them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from tasks._content.lexicon import VOCABULARIES, plural
from tasks._content.splits import Split, split_of

Story = Literal["gain", "loss", "together", "more", "fewer", "gain_loss", "loss_gain"]

_ONE_STEP: tuple[Story, ...] = ("gain", "loss", "together", "more", "fewer")
_TWO_STEPS: tuple[Story, ...] = ("gain_loss", "loss_gain")
_NAMES: tuple[str, ...] = ("Tom", "Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Jane")
# The stories of the pretraining text and the problems of the tasks say it in different words: what these mean for
# the count is left to learn.
_GAINS: dict[str, tuple[str, ...]] = {
    "told": ("bought", "found", "got", "made"),
    "asked": ("won", "took", "gained", "added"),
}
_LOSSES: dict[str, tuple[str, ...]] = {
    "told": ("sold", "lost", "dropped", "broke"),
    "asked": ("gave", "sent", "spent", "used"),
}
_THINGS: tuple[str, ...] = tuple(plural(t) for v in VOCABULARIES.values() for t in v.all_things)


@dataclass(frozen=True)
class Problem:
    """What happens, to whom, with which numbers."""

    story: Story
    numbers: tuple[int, ...]
    names: tuple[str, str]
    things: str
    gain: str
    loss: str

    @property
    def key(self) -> str:
        """Names the content; decides the split."""
        return "/".join(map(str, self.numbers))

    @property
    def result(self) -> int:
        first, second, *third = self.numbers
        if self.story in _ONE_STEP:
            return first - second if self.story in ("loss", "fewer") else first + second
        return first + second - third[0] if self.story == "gain_loss" else first - second + third[0]

    @property
    def premise(self) -> str:
        """The facts, one or more sentences."""
        first, second, *third = self.numbers
        who, other = self.names
        start = f"{who} had {first} {self.things}. "
        match self.story:
            case "gain":
                return f"{start}{who} {self.gain} {second}."
            case "loss":
                return f"{start}{who} {self.loss} {second}."
            case "together":
                return f"{start}{other} had {second}."
            case "more" | "fewer":
                return f"{start}{other} had {second} {self.story}."
            case "gain_loss":
                return f"{start}{who} {self.gain} {second}. {who} {self.loss} {third[0]}."
            case "loss_gain":
                return f"{start}{who} {self.loss} {second}. {who} {self.gain} {third[0]}."

    @property
    def question(self) -> str:
        match self.story:
            case "together":
                return f"How many {self.things} were there together?"
            case "more" | "fewer":
                return f"How many {self.things} did {self.names[1]} have?"
            case _:
                return f"How many {self.things} did {self.names[0]} have then?"

    @property
    def conclusion(self) -> str:
        """The answer as a statement, for told stories."""
        match self.story:
            case "together":
                return f"Together there were {self.result} {self.things}."
            case "more" | "fewer":
                return f"So {self.names[1]} had {self.result} {self.things}."
            case _:
                return f"Then {self.names[0]} had {self.result} {self.things}."


class Problems:
    """Draws problems of one split; with `unique`, no set of numbers twice."""

    def __init__(self, split: Split, rng: random.Random, unique: bool = True) -> None:
        self.split = split
        self.rng = rng
        self._manner = "told" if split == "pretrain" else "asked"
        self._unique = unique
        self._used: set[str] = set()

    def problem(self, two_steps: float = 0.65) -> Problem:
        """A problem with a result of at least one; `two_steps` is the share of two-step problems."""
        rng = self.rng
        while True:
            story = rng.choice(_TWO_STEPS if rng.random() < two_steps else _ONE_STEP)
            numbers = _three_numbers(rng) if story in _TWO_STEPS else _two_numbers(rng)
            names = rng.sample(_NAMES, 2)
            gain, loss = rng.choice(_GAINS[self._manner]), rng.choice(_LOSSES[self._manner])
            made = Problem(story, numbers, (names[0], names[1]), rng.choice(_THINGS), gain, loss)
            if made.result >= 1 and self._take(made):
                return made

    def _take(self, problem: Problem) -> bool:
        if problem.key in self._used or split_of(problem.key) != self.split:
            return False
        if self._unique:
            self._used.add(problem.key)
        return True


def _two_numbers(rng: random.Random) -> tuple[int, ...]:
    """The larger one first."""
    return tuple(sorted((rng.randint(2, 99), rng.randint(1, 40)), reverse=True))


def _three_numbers(rng: random.Random) -> tuple[int, ...]:
    return rng.randint(15, 60), rng.randint(1, 12), rng.randint(1, 12)


def equation(rng: random.Random) -> str:
    """A true equation with the numbers of the problems: "12 + 5 = 17"."""
    add = rng.random() < 0.5
    if rng.random() < 0.3:
        first, second, third = _three_numbers(rng)
        if add:
            return f"{first} + {second} - {third} = {first + second - third}"
        return f"{first} - {second} + {third} = {first - second + third}"
    first, second = _two_numbers(rng)
    return f"{first} + {second} = {first + second}" if add else f"{first} - {second} = {first - second}"
