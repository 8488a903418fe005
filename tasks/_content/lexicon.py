"""The words of the generated world: two domains of people, things and places; shared verbs and adjectives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Domain = Literal["village", "harbour"]


@dataclass(frozen=True)
class Verb:
    """The forms of one transitive verb."""

    base: str
    past: str
    participle: str


@dataclass(frozen=True)
class Vocabulary:
    """The nouns of one domain."""

    people: tuple[str, ...]
    things: dict[str, tuple[str, ...]]
    """Things by the noun that covers them all: every hammer is a tool."""
    places: tuple[str, ...]
    """Prepositional phrases."""

    @cached_property
    def kind_of(self) -> dict[str, str]:
        """The covering noun of each thing."""
        return {thing: kind for kind, things in self.things.items() for thing in things}

    @cached_property
    def all_things(self) -> tuple[str, ...]:
        return tuple(thing for things in self.things.values() for thing in things)


def _regular(base: str) -> Verb:
    past = base + "d" if base.endswith("e") else base + "ed"
    return Verb(base, past, past)


# One row is one action; the verbs of a row mean the same.
ACTIONS: tuple[tuple[Verb, ...], ...] = (
    (Verb("buy", "bought", "bought"), _regular("purchase")),
    (_regular("mend"), _regular("repair")),
    (Verb("hide", "hid", "hidden"), _regular("conceal")),
    (Verb("find", "found", "found"), _regular("discover")),
    (Verb("break", "broke", "broken"), _regular("smash")),
    (Verb("take", "took", "taken"), Verb("grab", "grabbed", "grabbed")),
    (_regular("pull"), Verb("drag", "dragged", "dragged")),
    (_regular("lift"), _regular("raise")),
    (_regular("examine"), _regular("inspect")),
    (_regular("clean"), _regular("wash")),
    (Verb("choose", "chose", "chosen"), _regular("pick")),
    (Verb("draw", "drew", "drawn"), _regular("sketch")),
    (Verb("sell", "sold", "sold"),),
    (Verb("lose", "lost", "lost"),),
    (Verb("steal", "stole", "stolen"),),
    (_regular("paint"),),
    (Verb("carry", "carried", "carried"),),
    (Verb("drop", "dropped", "dropped"),),
    (Verb("wrap", "wrapped", "wrapped"),),
    (_regular("measure"),),
)

# One row is one quality of a thing; its values exclude each other; the words of a value mean the same.
QUALITIES: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("big", "large"), ("small", "little")),
    (("old", "ancient"), ("new", "modern")),
    (("cheap",), ("costly", "expensive")),
    (("heavy",), ("light",)),
    (("spotless",), ("dirty", "filthy")),
    (("pretty", "lovely"), ("ugly",)),
    (("wet", "damp"), ("dry",)),
    (("red",), ("blue",), ("green",), ("white",), ("black",), ("brown",), ("yellow",), ("grey",)),
)

TIMES: tuple[str, ...] = (
    "in the morning",
    "in the evening",
    "at noon",
    "at night",
    "on Monday",
    "on Friday",
    "on Sunday",
    "in winter",
    "in summer",
    "in spring",
)

VOCABULARIES: dict[Domain, Vocabulary] = {
    "village": Vocabulary(
        people=(
            *("cook", "baker", "teacher", "farmer", "doctor", "tailor", "painter", "singer", "driver", "gardener"),
            *("nurse", "clerk", "miller", "hunter", "priest", "judge", "boy", "girl", "widow", "maid"),
            *("barber", "butcher", "lawyer", "student", "writer", "shepherd", "smith", "weaver"),
        ),
        things={
            "tool": ("hammer", "saw", "spade", "knife", "rake", "needle"),
            "garment": ("coat", "shirt", "hat", "scarf", "glove", "dress"),
            "fruit": ("apple", "pear", "plum", "lemon", "melon", "cherry"),
            "dish": ("bowl", "cup", "plate", "jug", "pot", "kettle"),
            "toy": ("doll", "kite", "drum", "ball", "puppet", "whistle"),
            "seat": ("chair", "stool", "bench", "sofa", "cushion", "saddle"),
        },
        places=(
            *("in the kitchen", "in the garden", "at the market", "at the school", "in the church", "in the barn"),
            *("at the mill", "in the shop", "in the street", "in the forest", "near the river", "on the farm"),
        ),
    ),
    "harbour": Vocabulary(
        people=(
            *("sailor", "captain", "pilot", "fisher", "diver", "merchant", "soldier", "guard", "officer", "porter"),
            *("trader", "pirate", "prince", "king", "queen", "knight", "thief", "spy", "beggar", "stranger"),
            *("traveller", "servant", "prisoner", "hermit", "envoy", "scholar", "monk", "archer"),
        ),
        things={
            "boat": ("canoe", "ferry", "raft", "barge", "yacht", "dinghy"),
            "weapon": ("sword", "spear", "rifle", "dagger", "cannon", "pistol"),
            "jewel": ("ring", "pearl", "crown", "necklace", "ruby", "brooch"),
            "fish": ("mackerel", "sturgeon", "crab", "herring", "eel", "shark"),
            "container": ("barrel", "crate", "sack", "chest", "basket", "bottle"),
            "instrument": ("flute", "violin", "horn", "harp", "trumpet", "guitar"),
        },
        places=(
            *("on the beach", "at the harbour", "on the deck", "on the island", "in the castle", "in the camp"),
            *("in the tower", "in the cellar", "on the bridge", "in the cave", "at the inn", "near the cliff"),
        ),
    ),
}


def plural(noun: str) -> str:
    """The regular plural of an English noun."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    if noun == "knife":
        return "knives"
    if noun == "thief":
        return "thieves"
    return noun + ("es" if noun.endswith(("s", "sh", "ch", "x")) else "s")


def third_person(verb: Verb) -> str:
    """The third person singular of the present tense."""
    return plural(verb.base)


def with_article(phrase: str) -> str:
    """The phrase after "a" or "an". Every word of this world that starts with a vowel letter takes "an"."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase
