"""The generated tasks: exact labels, splits without common content, the same rows every time."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from harness.api import DataRoot, GenerationTask, Task
from tasks._content.arithmetic import Problems, equation
from tasks._content.events import Event, Extras, World, clause, sentence
from tasks._content.lexicon import ACTIONS, QUALITIES, TIMES, VOCABULARIES, plural, third_person
from tasks._content.pretraining import decoder_passages, encoder_passages, sample
from tasks._content.relations import Statement, related
from tasks._content.splits import split_of
from tasks._content.syntax import VIOLATIONS, Violation, draw_clause, words
from tasks.acceptability import Acceptability
from tasks.arithmetic import Arithmetic
from tasks.entailment import Entailment
from tasks.paraphrase import Paraphrase
from tasks.similarity import Similarity, similarity

TASKS: tuple[type[Task], ...] = (Acceptability, Entailment, Paraphrase, Similarity, Arithmetic)
TEXT_TASKS = TASKS[:-1]
Frames = dict[str, dict[str, pd.DataFrame]]
"""Of every task, its splits."""

_VERB_FORMS = {
    form: verbs[0].base
    for verbs in ACTIONS
    for verb in verbs
    for form in (verb.base, verb.past, verb.participle, third_person(verb))
}
_PEOPLE = {form: noun for v in VOCABULARIES.values() for noun in v.people for form in (noun, plural(noun))}
_THINGS = {form: noun for v in VOCABULARIES.values() for noun in v.all_things for form in (noun, plural(noun))}


def content_keys(text: str) -> set[str]:
    """Every (person, action, thing) that one sentence could be about, read from its words alone."""
    found = re.findall(r"[a-z]+", text.lower())
    people = [_PEOPLE[word] for word in found if word in _PEOPLE]
    actions = [_VERB_FORMS[word] for word in found if word in _VERB_FORMS]
    things = [_THINGS[word] for word in found if word in _THINGS]
    return {f"{p}/{a}/{t}" for p in people for a in actions for t in things}


@pytest.fixture(scope="module")
def frames() -> Frames:
    return {task.name: dict(task().read(DataRoot())) for task in TASKS}


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_rows_have_unique_ids_the_named_columns_and_legal_labels(task: type[Task], frames: Frames) -> None:
    splits = frames[task.name]
    assert set(splits) == {"train", *task.tests}
    ids = [i for frame in splits.values() for i in frame["id"]]
    assert len(ids) == len(set(ids))
    assert len(splits["train"]) >= 2048
    for frame in splits.values():
        assert {"id", "label", *task.columns} <= set(frame.columns)
        if task.kind == "classification":
            assert set(frame["label"]) == set(range(len(task.labels)))
        elif task.kind == "regression":
            assert frame["label"].between(*task.label_range).all()


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_reading_twice_gives_the_same_rows(task: type[Task], frames: Frames) -> None:
    again = task().read(DataRoot())
    for split, frame in frames[task.name].items():
        pd.testing.assert_frame_equal(frame, again[split])


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_encode_gives_the_text_columns(task: type[Task], frames: Frames) -> None:
    row: Any = frames[task.name]["train"].iloc[0].to_dict()
    made = task()
    text = made.encode(row)
    assert str(row[task.columns[0]]) in text.first
    if isinstance(made, GenerationTask):
        assert made.extract(made.answer(row)) == row["label"]
    else:
        assert text.second == (row[task.columns[1]] if len(task.columns) == 2 else None)


def task_sentences(frames: Frames, split: str) -> Iterator[str]:
    """Every single sentence of the text tasks' frames whose name starts with `split`."""
    for task in TEXT_TASKS:
        for name, frame in frames[task.name].items():
            if name.startswith(split):
                for column in task.columns:
                    yield from frame[column]


def own_keys(text: str, split: str) -> bool:
    """True if one of the triples in the sentence belongs to `split` (an attractor adds further candidates)."""
    return any(split_of(key) == split for key in content_keys(text))


def test_every_text_row_is_about_content_of_its_own_split(frames: Frames) -> None:
    for split in ("train", "test"):
        for text in task_sentences(frames, split):
            if not text.startswith("Somebody") and "somebody" not in text and content_keys(text):
                assert own_keys(text, split), text


def test_train_and_test_share_no_sentence(frames: Frames) -> None:
    for task in TEXT_TASKS:
        splits = frames[task.name]
        for name in task.tests:
            for column in task.columns:
                specific = {t for t in splits[name][column] if content_keys(t)}
                assert not specific & set(splits["train"][column])


def test_rows_of_one_split_are_about_different_events(frames: Frames) -> None:
    """`select` is cut from train by rows: no two rows may have the first sentence's content in common."""
    for task in (Entailment, Paraphrase, Similarity):
        first = frames[task.name]["train"][task.columns[0]]
        keys = [key for text in first for key in content_keys(text)]
        assert len(keys) == len(set(keys)) == len(first)


def test_the_encoders_pretraining_text_holds_no_event_of_a_task(frames: Frames) -> None:
    pretraining = {
        key for passage in sample(encoder_passages, 0, 4000) for text in passage for key in precise_keys(text)
    }
    assert len(pretraining) > 1000
    assert {split_of(key) for key in pretraining} == {"pretrain"}
    for split in ("train", "test"):
        task_keys = {key for text in task_sentences(frames, split) for key in precise_keys(text)}
        assert len(task_keys) > 1000
        assert not task_keys & pretraining


def precise_keys(text: str) -> set[str]:
    """`content_keys` of sentences that can be about one event only (no second person in them)."""
    keys = content_keys(text)
    return keys if len(keys) == 1 else set()


def test_the_decoders_stories_share_no_numbers_with_the_task(frames: Frames) -> None:
    def numbers(text: str) -> str:
        return "/".join(re.findall(r"\d+", text))

    stories = [p[0] for p in sample(decoder_passages, 0, 4000) if re.search(r" had \d", p[0])]
    told = {numbers(re.sub(r" [^.]*\.$", "", text)) for text in stories}
    asked = {split: {numbers(text) for text in frames["arithmetic"][split]["problem"]} for split in ("train", "test")}
    assert len(told) > 500
    assert not told & asked["train"]
    assert not told & asked["test"]
    assert not asked["train"] & asked["test"]
    assert len(asked["train"]) == len(frames["arithmetic"]["train"])


def test_equations_and_problems_are_right() -> None:
    rng = random.Random(0)
    for _ in range(300):
        left, right = equation(rng).split(" = ")
        assert sum(int(t.replace(" ", "")) for t in re.findall(r"[+-]? ?\d+", left)) == int(right)
    problems = Problems("test", random.Random(1))
    for _ in range(200):
        problem = problems.problem()
        signs = {"gain": "++", "loss": "+-", "together": "++", "more": "++", "fewer": "+-"}
        signs |= {"gain_loss": "++-", "loss_gain": "+-+"}
        total = sum(n if s == "+" else -n for s, n in zip(signs[problem.story], problem.numbers, strict=True))
        assert problem.result == total >= 1
        assert str(total) in problem.conclusion


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_each_violation_changes_the_sentence(violation: Violation) -> None:
    world = World("village", "train", random.Random(3))
    for _ in range(100):
        clause_ = draw_clause(world, violation)
        assert words(world, clause_, violation) != words(world, clause_)


def test_agreement_violation_changes_the_verb_alone() -> None:
    world = World("village", "train", random.Random(4))
    for _ in range(50):
        clause_ = draw_clause(world, "agreement")
        good, bad = words(world, clause_).split(), words(world, clause_, "agreement").split()
        assert sum(a != b for a, b in zip(good, bad, strict=True)) == 1


def test_similarity_is_the_weighted_share_of_the_parts_that_agree() -> None:
    world = World("village", "train", random.Random(0))
    event = Event("village", "cook", 0, "hammer", (0, 0), "in the barn")
    said = Statement(event)
    assert similarity(world, said, said) == 1.0
    assert similarity(world, said, Statement(event, denied=True)) == 0.8
    assert similarity(world, said, Statement(replace(event, place=None))) == 0.85
    assert similarity(world, said, Statement(replace(event, thing="saw"))) == 0.9
    assert similarity(world, said, Statement(replace(event, thing="apple"))) == 0.8
    other = Event("village", "nurse", 1, "apple", (1, 0), "in the shop")
    assert similarity(world, said, Statement(other, denied=True)) == 0.0


def parts(text: str) -> tuple[object, ...]:
    """What one sentence says, read from its words: content, quality, place, time, and whether it denies."""
    places = frozenset(p for v in VOCABULARIES.values() for p in v.places if p in text.lower())
    times = frozenset(t for t in TIMES if t in text)
    return frozenset(content_keys(text)), frozenset(_qualities(text)), places, times, " not " in text


def test_paraphrases_say_the_same_and_other_pairs_do_not(frames: Frames) -> None:
    for row in frames["paraphrase"]["train"].head(500).to_dict("records"):
        assert (parts(row["first"]) == parts(row["second"])) == bool(row["label"]), row


def test_a_style_never_changes_which_words_of_content_appear() -> None:
    world = World("harbour", "test", random.Random(5))
    for _ in range(50):
        event = world.event(Extras())
        texts = [sentence(clause(event, world.style())) for _ in range(4)]
        assert all(content_keys(text) == {event.key} for text in texts)


def _qualities(text: str) -> set[tuple[int, int]]:
    of = {word: (row, v) for row, values in enumerate(QUALITIES) for v, ws in enumerate(values) for word in ws}
    return {of[word] for word in text.split() if word in of}


def test_what_follows_says_no_more_and_what_stays_open_says_more() -> None:
    world = World("village", "train", random.Random(6))
    for _ in range(200):
        follows = related(world, world.event(Extras()), "entailment")
        weaker, stronger = follows.second, follows.first
        if "not" in follows.first:
            weaker, stronger = stronger, weaker
        assert _qualities(weaker) <= _qualities(stronger)
        new = related(world, world.event(Extras(quality=0.0, place=1.0, time=1.0)), "neutral")
        assert "not" in new.first or len(_qualities(new.second)) == 1 > len(_qualities(new.first))


def test_what_contradicts_denies_or_exchanges_a_part() -> None:
    world = World("village", "train", random.Random(7))
    for _ in range(200):
        pair = related(world, world.event(Extras(quality=1.0, place=1.0, time=0.0)), "contradiction")
        denied = (" not " in pair.first) != (" not " in pair.second)
        places = [{p for p in world.vocabulary.places if p in text} for text in (pair.first, pair.second)]
        other_place = bool(places[1]) and places[0] != places[1]
        other_quality = bool(_qualities(pair.second)) and _qualities(pair.first) != _qualities(pair.second)
        if " not " in pair.first:
            assert denied, pair
        else:
            assert denied + other_place + other_quality == 1, pair
