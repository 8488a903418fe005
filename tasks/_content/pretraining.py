"""Generated text for pretraining: the language of the tasks, without their labels and without their content.

Everything that has content is drawn from the split "pretrain"; see `tasks._content.splits`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice

from tasks._content.arithmetic import Problem, Problems, equation
from tasks._content.events import Event, Extras, Style, World, adjective, clause, sentence
from tasks._content.lexicon import ACTIONS, Domain
from tasks._content.relations import RELATIONS, belongs, related
from tasks._content.syntax import draw_clause, words

Passage = tuple[str, ...]
"""One or two segments: a text, or a text and its continuation."""

_DOMAINS: tuple[Domain, ...] = ("village", "harbour")
# How a second sentence goes on from the first: the word in front of it. It is left out at times.
_OPENINGS: dict[str, tuple[str, str]] = {
    "entailment": ("therefore", "so"),
    "neutral": ("perhaps", "maybe"),
    "contradiction": ("but", "instead"),
    "same": ("indeed", "truly"),
    "near": ("also", "likewise"),
    "apart": ("later", "next"),
    "far": ("meanwhile", "elsewhere"),
}


def encoder_passages(seed: int) -> Iterator[Passage]:
    """Endless sentences and pairs of sentences for the encoder."""
    rng = random.Random(f"encoder/{seed}")
    worlds = [World(domain, "pretrain", rng, unique=False) for domain in _DOMAINS]
    makers = (_single, _single, _compared, _compared, _compared, _compared, _restated, _beside, _followed, _followed)
    while True:
        yield rng.choice(makers)(rng.choice(worlds))


def decoder_passages(seed: int) -> Iterator[Passage]:
    """Endless lines for the decoder: equations, told stories, and single sentences."""
    rng = random.Random(f"decoder/{seed}")
    problems = Problems("pretrain", rng, unique=False)
    worlds = [World(domain, "pretrain", rng, unique=False) for domain in _DOMAINS]
    while True:
        draw = rng.random()
        if draw < 0.45:
            yield (", ".join(equation(rng) for _ in range(4)) + ".",)
        elif draw < 0.95:
            yield (_story(rng.choice(worlds), problems.problem()),)
        else:
            yield _single(rng.choice(worlds))


def _story(world: World, problem: Problem) -> str:
    """The facts of a problem, at times something beside the point, and how it ended."""
    rng = world.rng
    parts = [problem.premise]
    if rng.random() < 0.15:
        parts = [*_single(world), *parts]
    if rng.random() < 0.3:
        parts.extend(_single(world))
    if rng.random() < 0.4:
        parts.append(f"{rng.choice(problem.names)} counted the {problem.things}.")
    endings = (problem.conclusion, f"The number was {problem.result}.", f"The count: {problem.result}.")
    return " ".join([*parts, rng.choice(endings)])


def sample(passages: Callable[[int], Iterator[Passage]], seed: int, count: int) -> list[Passage]:
    """The first `count` passages."""
    return list(islice(passages(seed), count))


def _single(world: World) -> Passage:
    if world.rng.random() < 0.1:
        return (sentence(belongs(world, world.event(Extras()))),)
    return (sentence(words(world, draw_clause(world))),)


def _restated(world: World) -> Passage:
    """The same event in two wordings."""
    event = world.event(Extras())
    return _sentences(event, event, world, "same")


def _followed(world: World) -> Passage:
    """What follows, may be, or cannot be, said with a word of conclusion, doubt or denial or without."""
    relation = world.rng.choice(RELATIONS)
    pair = related(world, world.event(Extras()), relation)
    return sentence(pair.first), sentence(_opened(world, relation, pair.second))


def _beside(world: World) -> Passage:
    """Two events that differ in one, two or more of their parts."""
    first = world.event(Extras())
    changes = world.rng.randint(1, 3)
    return _sentences(first, _changed(world, first, changes), world, ("near", "apart", "far")[changes - 1])


def _compared(world: World) -> Passage:
    """Two events, the second one told with what is new and what is not: "that cook again bought another bowl"."""
    first = world.event(Extras(time=0.0))
    second = _changed(world, first, world.rng.randint(0, 4))
    return sentence(clause(first, world.style())), sentence(_told_after(first, second, world.style()))


def _changed(world: World, event: Event, parts: int) -> Event:
    """The event with about `parts` of its parts exchanged."""
    changes: list[Callable[[World, Event], Event]] = [_with_person, _with_action, _with_thing]
    if event.place is not None:
        changes.append(World.other_place)
    if event.quality is not None:
        changes.append(World.other_quality)
    for change in world.rng.sample(changes, min(parts, len(changes))):
        event = change(world, event)
    return event


def _told_after(first: Event, second: Event, style: Style) -> str:
    """The second event with a word in front of each part that says whether the first one had it too."""

    def which(part: str) -> str:
        return "that" if getattr(first, part) == getattr(second, part) else "another"

    verbs = ACTIONS[second.action]
    verb = verbs[style.verb % len(verbs)]
    person = f"{which('person')} {second.person}"
    thing = f"{which('thing')} {second.thing}"
    if second.quality is not None:
        degree = "equally" if first.quality == second.quality else "rather"
        thing = f"{which('thing')} {degree} {adjective(second.quality, style)} {second.thing}"
    again = "again" if first.action == second.action else "then"
    core = f"{thing} was {again} {verb.participle} by {person}" if style.passive else ""
    core = core or f"{person} {again} {verb.past} {thing}"
    if second.place is None:
        return core
    place = second.place.replace("the ", which("place") + " ")
    return f"{place}, {core}" if style.fronted else f"{core} {place}"


def _sentences(first: Event, second: Event, world: World, relation: str) -> Passage:
    return (
        sentence(clause(first, world.style())),
        sentence(_opened(world, relation, clause(second, world.style()))),
    )


def _opened(world: World, relation: str, text: str) -> str:
    """The clause, mostly behind a word that says how it goes on from the sentence before."""
    return f"{world.rng.choice(_OPENINGS[relation])} {text}" if world.rng.random() < 0.8 else text


def _with_person(world: World, event: Event) -> Event:
    return world.other_person(event) or event


def _with_action(world: World, event: Event) -> Event:
    return world.other_action(event) or event


def _with_thing(world: World, event: Event) -> Event:
    return world.other_thing(event, same_kind=world.rng.random() < 0.5) or event
