"""Single sentences with agreement, determiners, auxiliaries and tense, and the ways to break them.

A `Clause` holds what a sentence is made of; `words` renders it, right or with one violation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks._content.events import Event, Extras, Style, World, adjective
from tasks._content.lexicon import ACTIONS, Verb, plural, third_person, with_article

Tense = Literal["present", "past", "perfect", "future", "denied", "obliged"]
Violation = Literal["agreement", "determiner", "verb_form", "tense", "order"]
VIOLATIONS: tuple[Violation, ...] = ("agreement", "determiner", "verb_form", "tense", "order")

_TENSES: tuple[Tense, ...] = ("present", "past", "perfect", "future", "denied", "obliged")
_AGREEING: tuple[Tense, ...] = ("present", "perfect", "denied", "obliged")
_ONE: tuple[str, ...] = ("this", "that", "every", "a", "one")
_MANY: tuple[str, ...] = ("these", "those", "many", "two", "several")
_PAST_TIMES: tuple[str, ...] = ("yesterday", "last week", "last night", "a year ago")
_FUTURE_TIMES: tuple[str, ...] = ("tomorrow", "next week", "tonight", "next year")
_USUAL_TIMES: tuple[str, ...] = ("every day", "on Sundays", "very often", "as a rule")
_LINKS: tuple[str, ...] = ("near", "behind", "beside", "with")


@dataclass(frozen=True)
class Clause:
    """The parts of one sentence; the attractor stands between subject and verb and may differ in number."""

    event: Event
    tense: Tense
    many_people: bool
    many_things: bool
    determiner: str
    attractor: str
    """ "near the benches", or empty."""
    time: str
    style_index: int


def draw_clause(world: World, violation: Violation | None = None) -> Clause:
    """A clause that `violation` can apply to."""
    rng = world.rng
    tense = rng.choice(_AGREEING if violation == "agreement" else _TENSES)
    if violation == "tense":
        tense = rng.choice(("past", "future"))
    elif violation == "verb_form" and tense in ("present", "past"):
        tense = rng.choice(("perfect", "future", "denied", "obliged"))
    many_things = rng.random() < 0.5
    attractor = ""
    if rng.random() < 0.5:
        noun = rng.choice(world.vocabulary.people)
        attractor = f"{rng.choice(_LINKS)} the {plural(noun) if rng.random() < 0.5 else noun}"
    times = {"past": _PAST_TIMES, "future": _FUTURE_TIMES}.get(tense, _USUAL_TIMES)
    timed = violation == "tense" or (tense in ("past", "future", "present") and rng.random() < 0.6)
    return Clause(
        event=world.event(Extras(quality=0.5, place=0.3, time=0.0)),
        tense=tense,
        many_people=rng.random() < 0.5,
        many_things=many_things,
        determiner=rng.choice(_MANY if many_things else _ONE),
        attractor=attractor,
        time=rng.choice(times) if timed else "",
        style_index=rng.randrange(2),
    )


def words(world: World, clause: Clause, violation: Violation | None = None) -> str:
    """The clause as text without capital and full stop, with one violation if asked for."""
    parts = [_subject(clause), *_predicate(world, clause, violation), _object(clause, violation == "determiner")]
    if violation == "order":
        parts = _disordered(world, parts)
    return " ".join(part for part in [*parts, clause.event.place or "", _time(world, clause, violation)] if part)


def _subject(clause: Clause) -> str:
    person = plural(clause.event.person) if clause.many_people else clause.event.person
    return f"the {person} {clause.attractor}".strip()


def _predicate(world: World, clause: Clause, violation: Violation | None) -> list[str]:
    """Auxiliary (if any) and verb."""
    verbs = ACTIONS[clause.event.action]
    verb = verbs[clause.style_index % len(verbs)]
    many = clause.many_people != (violation == "agreement")
    if clause.tense == "present":
        return [verb.base if many else third_person(verb)]
    if clause.tense == "past":
        return [verb.past]
    auxiliary, form = {
        "perfect": ("have" if many else "has", verb.participle),
        "future": ("will", verb.base),
        "denied": ("do not" if many else "does not", verb.base),
        "obliged": ("have to" if many else "has to", verb.base),
    }[clause.tense]
    return [auxiliary, _wrong_form(world, verb, form) if violation == "verb_form" else form]


def _wrong_form(world: World, verb: Verb, right: str) -> str:
    """A form that cannot stand where `right` does."""
    forms = sorted({verb.base, verb.past, third_person(verb)} - {right, verb.participle if right != verb.base else ""})
    return world.rng.choice(forms)


def _object(clause: Clause, wrong_number: bool) -> str:
    many = clause.many_things != wrong_number
    noun = plural(clause.event.thing) if many else clause.event.thing
    phrase = noun
    if clause.event.quality is not None:
        phrase = f"{adjective(clause.event.quality, Style(adjective=clause.style_index))} {noun}"
    return with_article(phrase) if clause.determiner == "a" else f"{clause.determiner} {phrase}"


def _disordered(world: World, parts: list[str]) -> list[str]:
    """Two neighbouring parts, or the first two words of the object, change places."""
    swaps = list(range(1, len(parts) - 1))
    swap = world.rng.choice([*swaps, -1])
    if swap == -1:
        first, second, *rest = parts[-1].split(" ")
        return [*parts[:-1], " ".join((second, first, *rest))]
    return [*parts[:swap], parts[swap + 1], parts[swap], *parts[swap + 2 :]]


def _time(world: World, clause: Clause, violation: Violation | None) -> str:
    if violation != "tense":
        return clause.time
    return world.rng.choice(_FUTURE_TIMES if clause.tense == "past" else _PAST_TIMES)
