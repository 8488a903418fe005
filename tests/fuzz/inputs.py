"""Inputs that are nearly right: sound ones, changed in a few places."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

LITERALS = (
    *("0", "-1", "1e999", "nan", "-inf", "9" * 40, "0x10", "true", "[]", "{}", '""', "''", "[[]]", '"\\u0000"'),
    *('"../../x"', '"/etc/passwd"', '"tiny"', '"lora"', "[0, 0]", '[1, "a"]', "{ r = -1 }", "1979-05-27", '"é\\n"'),
    *('"peft:LoraConfig"', '"lm_eval:../../x"', '{ kind = "warmup" }', '"%s %d {0}"', '"; DROP TABLE runs; --"'),
)
WORDS = (
    "seeds",
    "name",
    "recipe",
    "task",
    "method",
    "grid",
    "tuning",
    "space",
    "start",
    "parameters",
    "epochs",
    "label",
)


@st.composite
def changed_text(draw: DrawFn, text: str) -> str:
    """A text of lines `key = value` with one to five lines changed, left out, doubled, or put in."""
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(("value", "value", "value", "key", "drop", "double", "noise", "insert", "cut")))
        key = lines[at].split("=")[0].strip()
        if kind == "value":
            lines[at] = f"{key} = {draw(st.sampled_from(LITERALS))}"
        elif kind == "key":
            lines[at] = lines[at].replace(key, draw(st.sampled_from(WORDS) | st.text(max_size=8)))
        elif kind == "drop" and len(lines) > 1:
            del lines[at]
        elif kind == "double":
            lines.insert(at, lines[at])
        elif kind == "noise":
            lines[at] = draw(st.text(max_size=30))
        elif kind == "insert":
            lines.insert(at, f"{draw(st.sampled_from(WORDS))} = {draw(st.sampled_from(LITERALS))}")
        elif kind == "cut":
            lines[at] = lines[at][: draw(st.integers(0, max(0, len(lines[at]) - 1)))]
    return "\n".join(lines)


@st.composite
def changed_bytes(draw: DrawFn, content: bytes) -> bytes:
    """A file's bytes: cut short, some of them flipped, blanked, taken out or put in."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1) | st.integers(0, min(200, len(data) - 1)))
        size = draw(st.integers(1, 64) | st.integers(1, len(data)))
        kind = draw(st.sampled_from(("flip", "flip", "blank", "out", "in", "cut", "repeat")))
        if kind == "flip":
            data[at] ^= draw(st.integers(1, 255))
        elif kind == "blank":
            data[at : at + size] = bytes(len(data[at : at + size]))
        elif kind == "out":
            del data[at : at + size]
        elif kind == "in":
            data[at:at] = draw(st.binary(max_size=40))
        elif kind == "cut":
            del data[at:]
        elif kind == "repeat":
            data[at:at] = data[at : at + min(size, 4096)]
    return bytes(data)


def arguments(names: list[str], values: list[str]) -> SearchStrategy[list[str]]:
    """A command's words: options that exist and some that do not, with values of all kinds."""
    value: SearchStrategy[Any] = st.sampled_from(values) | st.text(max_size=12) | st.integers().map(str)
    return st.lists(st.sampled_from(names) | value | value.map(lambda text: f"--{text}"), max_size=6)
