"""Events (who did what to which thing, where, when), how they are drawn, and how they are worded.

The content of an event is its triple (person, action, thing). A `World` draws events of one split only and
never gives out a triple twice, so that rows of one split have different content too (`select` is cut
from the rows of "train").
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from tasks._content.lexicon import ACTIONS, QUALITIES, TIMES, VOCABULARIES, Domain, Vocabulary, with_article
from tasks._content.splits import Split, split_of

Quality = tuple[int, int]
"""(row, value) in `QUALITIES`."""


@dataclass(frozen=True)
class Event:
    """One thing that happened. The optional parts are what a sentence may leave out."""

    domain: Domain
    person: str
    action: int
    thing: str
    quality: Quality | None = None
    place: str | None = None
    time: str | None = None

    @property
    def key(self) -> str:
        """Names the content; decides the split."""
        return f"{self.person}/{ACTIONS[self.action][0].base}/{self.thing}"


@dataclass(frozen=True)
class Style:
    """One of the ways to word an event; none of them changes what it says."""

    passive: bool = False
    fronted: bool = False
    """The place stands before the subject."""
    verb: int = 0
    adjective: int = 0
    """Which of the synonyms to use, modulo their number."""


@dataclass(frozen=True)
class Extras:
    """How often an event has a quality, a place and a time."""

    quality: float = 0.7
    place: float = 0.6
    time: float = 0.3


class World:
    """Draws events of one split and domain; `rng` is the only source of randomness."""

    def __init__(self, domain: Domain, split: Split, rng: random.Random, unique: bool = True) -> None:
        self.domain: Domain = domain
        self.split = split
        self.rng = rng
        self.vocabulary: Vocabulary = VOCABULARIES[domain]
        self._unique = unique
        self._used: set[str] = set()

    def event(self, extras: Extras) -> Event:
        """A new event whose triple is of this world's split and, if `unique`, was not given out before."""
        while True:
            event = Event(
                self.domain,
                self.rng.choice(self.vocabulary.people),
                self.rng.randrange(len(ACTIONS)),
                self.rng.choice(self.vocabulary.all_things),
            )
            if self._take(event):
                break
        return replace(
            event,
            quality=self.quality() if self.rng.random() < extras.quality else None,
            place=self.rng.choice(self.vocabulary.places) if self.rng.random() < extras.place else None,
            time=self.rng.choice(TIMES) if self.rng.random() < extras.time else None,
        )

    def quality(self) -> Quality:
        row = self.rng.randrange(len(QUALITIES))
        return row, self.rng.randrange(len(QUALITIES[row]))

    def other_person(self, event: Event) -> Event | None:
        """The event with another person, or None if a few draws found no free triple of this split."""
        return self._vary(event, "person", self.vocabulary.people)

    def other_action(self, event: Event) -> Event | None:
        return self._vary(event, "action", tuple(range(len(ACTIONS))))

    def other_thing(self, event: Event, same_kind: bool) -> Event | None:
        """The event with another thing, of the same kind (hammer, saw) or of a different one."""
        kinds = self.vocabulary.kind_of
        things = tuple(t for t in kinds if (kinds[t] == kinds[event.thing]) == same_kind)
        return self._vary(event, "thing", things)

    def other_quality(self, event: Event) -> Event:
        """The event with a quality that excludes its own; the event must have one."""
        assert event.quality is not None
        row, value = event.quality
        other = self.rng.choice([v for v in range(len(QUALITIES[row])) if v != value])
        return replace(event, quality=(row, other))

    def other_place(self, event: Event) -> Event:
        return replace(event, place=self.rng.choice([p for p in self.vocabulary.places if p != event.place]))

    def other_time(self, event: Event) -> Event:
        return replace(event, time=self.rng.choice([t for t in TIMES if t != event.time]))

    def style(self) -> Style:
        return Style(
            passive=self.rng.random() < 0.4,
            fronted=self.rng.random() < 0.3,
            verb=self.rng.randrange(2),
            adjective=self.rng.randrange(2),
        )

    def _vary(self, event: Event, field: str, values: tuple[object, ...]) -> Event | None:
        for _ in range(20):
            value = self.rng.choice(values)
            if value != getattr(event, field):
                changed: dict[str, Any] = {field: value}
                varied = replace(event, **changed)
                if self._take(varied):
                    return varied
        return None

    def _take(self, event: Event) -> bool:
        if event.key in self._used or split_of(event.key) != self.split:
            return False
        if self._unique:
            self._used.add(event.key)
        return True


def adjective(quality: Quality, style: Style) -> str:
    """The word for a quality in this style: its synonyms mean the same."""
    words = QUALITIES[quality[0]][quality[1]]
    return words[style.adjective % len(words)]


def thing_phrase(event: Event, style: Style, noun: str = "") -> str:
    """ "a red bowl"; `noun` stands in for the thing's own name."""
    noun = noun or event.thing
    return with_article(noun if event.quality is None else f"{adjective(event.quality, style)} {noun}")


def clause(event: Event, style: Style, person: str = "", thing: str = "") -> str:
    """The event in words, without capital letter and full stop; `person` and `thing` replace the phrases."""
    verbs = ACTIONS[event.action]
    verb = verbs[style.verb % len(verbs)]
    subject = person or f"the {event.person}"
    item = thing or thing_phrase(event, style)
    core = f"{item} was {verb.participle} by {subject}" if style.passive else f"{subject} {verb.past} {item}"
    place = event.place or ""
    words = [place + ",", core] if place and style.fronted else [core, place]
    return " ".join(word for word in [*words, event.time or ""] if word)


def sentence(text: str) -> str:
    """The clause as a sentence: a capital letter in front, a full stop behind."""
    return text[0].upper() + text[1:] + "."
