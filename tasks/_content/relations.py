"""Second sentences whose relation to a first one is known exactly: what follows, what cannot be, what is open.

All statements about one person, action and thing are about the same event, as in SNLI.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tasks._content.events import Event, Style, World, clause, sentence, thing_phrase
from tasks._content.lexicon import ACTIONS, TIMES, with_article

RELATIONS: tuple[str, ...] = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True)
class Pair:
    """Two clauses, neither with a capital letter nor a full stop."""

    first: str
    second: str


def related(world: World, event: Event, relation: str) -> Pair:
    """A pair of clauses about `event`, a third of the time with a denial as the first one."""
    makers = _DENIED if world.rng.random() < 0.25 else _STATED
    return makers[relation](world, event)


@dataclass(frozen=True)
class Statement:
    """An event, told or denied."""

    event: Event
    denied: bool = False

    def worded(self, world: World) -> str:
        """A sentence that says it, in a wording drawn freely."""
        wording = denial if self.denied else clause
        return sentence(wording(self.event, world.style()))


def denial(event: Event, style: Style, thing: str = "") -> str:
    """ "the cook did not buy a red bowl in the kitchen" """
    verbs = ACTIONS[event.action]
    item = thing or thing_phrase(event, style)
    words = ["the", event.person, "did not", verbs[style.verb % len(verbs)].base, item, event.place, event.time]
    return " ".join(word for word in words if word)


def weaker(world: World, event: Event) -> Event:
    """The event with some of its optional parts left out."""
    rng = world.rng
    return replace(
        event,
        quality=event.quality if rng.random() < 0.6 else None,
        place=event.place if rng.random() < 0.5 else None,
        time=event.time if rng.random() < 0.5 else None,
    )


def _kind_phrase(world: World, event: Event, style: Style) -> str:
    """The thing by its own name or, a third of the time, by that of its kind."""
    if world.rng.random() < 0.35:
        return thing_phrase(event, style, world.vocabulary.kind_of[event.thing])
    return thing_phrase(event, style)


def _follows(world: World, event: Event) -> Pair:
    style = world.style()
    second = weaker(world, event)
    person = "somebody" if world.rng.random() < 0.15 else ""
    return Pair(clause(event, world.style()), clause(second, style, person, _kind_phrase(world, second, style)))


def _clashes(world: World, event: Event) -> Pair:
    """One part of the second clause cannot be true beside the first; the rest is as in `_follows`."""
    style, second = world.style(), weaker(world, event)
    changes: list[Callable[[], str]] = [lambda: denial(second, style, _kind_phrase(world, second, style))]
    if event.quality is not None:
        wrong = replace(world.other_quality(event), place=second.place, time=second.time)
        changes.extend([lambda: clause(wrong, style, "", _kind_phrase(world, wrong, style))] * 2)
    if event.place is not None:
        elsewhere = replace(world.other_place(event), quality=second.quality, time=second.time)
        changes.extend([lambda: clause(elsewhere, style, "", _kind_phrase(world, elsewhere, style))] * 2)
    return Pair(clause(event, world.style()), world.rng.choice(changes)())


def _stays_open(world: World, event: Event) -> Pair:
    """The second clause adds a part about which the first says nothing."""
    gaps = [name for name in ("quality", "place", "time") if getattr(event, name) is None]
    gap = world.rng.choice(gaps) if gaps else world.rng.choice(("quality", "place", "time"))
    style, full = world.style(), filled(world, event, gap)
    unsaid: dict[str, Any] = {gap: None}
    added: dict[str, Any] = {gap: getattr(full, gap)}
    first = replace(full, **unsaid)
    second = replace(weaker(world, first), **added)
    return Pair(clause(first, world.style()), clause(second, style, "", _kind_phrase(world, second, style)))


def _denied_follows(world: World, event: Event) -> Pair:
    """Not a bowl, so not a red bowl."""
    style = world.style()
    return Pair(denial(weaker(world, event), world.style()), denial(event, style))


def _denied_clashes(world: World, event: Event) -> Pair:
    style = world.style()
    return Pair(denial(weaker(world, event), world.style()), clause(event, style))


def _denied_stays_open(world: World, event: Event) -> Pair:
    """Not a red bowl; whether a bowl at all is open."""
    event = event if event.quality is not None else replace(event, quality=world.quality())
    style, plain = world.style(), replace(event, quality=None)
    second = denial(plain, style) if world.rng.random() < 0.5 else clause(plain, style)
    return Pair(denial(event, world.style()), second)


def filled(world: World, event: Event, part: str) -> Event:
    """The event with `part` given."""
    if getattr(event, part) is not None:
        return event
    if part == "quality":
        return replace(event, quality=world.quality())
    if part == "place":
        return world.other_place(event)
    return replace(event, time=world.rng.choice(TIMES))


_Maker = Callable[[World, Event], Pair]
_STATED: dict[str, _Maker] = {"entailment": _follows, "neutral": _stays_open, "contradiction": _clashes}
_DENIED: dict[str, _Maker] = {
    "entailment": _denied_follows,
    "neutral": _denied_stays_open,
    "contradiction": _denied_clashes,
}


def belongs(world: World, event: Event) -> str:
    """ "a bowl is a dish": what `_kind_phrase` relies on, said aloud in the pretraining text."""
    return f"{with_article(event.thing)} is {with_article(world.vocabulary.kind_of[event.thing])}"
