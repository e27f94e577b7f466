"""The beginning of a JSON text: what is certain of it, for every beginning of every document."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given, strategies as st

from abstractllm.text.partial import partial_json

TEXTS = st.text(st.characters(codec=None)) | st.text('\\"/\n\t\x00é😀\ud83d\ude00u{}[],:') | st.just("\ud83d")
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
DOCUMENTS = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=12)
STYLES = st.fixed_dictionaries({"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, 1])})


def begins(part: Any, whole: Any) -> bool:
    """Whether a value is a beginning of another one, as the docstring of `partial_json` defines it."""
    if type(part) is not type(whole):
        return False
    if isinstance(part, str):
        return whole.startswith(part)
    if not isinstance(part, (list, dict)):
        return part == whole
    names = list(part) if isinstance(part, dict) else range(len(part))
    if len(part) > len(whole) or (isinstance(part, dict) and list(names) != list(whole)[: len(part)]):
        return False
    exact = all(same(part[name], whole[name]) for name in names[:-1])
    return exact and all(begins(part[name], whole[name]) for name in names[-1:])


def same(one: Any, other: Any) -> bool:
    """Whether values are equal and of the same types, -0.0 and 0.0 told apart."""
    return repr(one) == repr(other)


def closed(text: str) -> str | None:
    """Return a text that stops after a bracket or a comma as a whole one; None where it stops elsewhere."""
    expected, inside, at = [], False, 0
    while at < len(text):
        character = text[at]
        at += 2 if inside and character == "\\" else 1
        if character == '"':
            inside = not inside
        elif not inside and character in "[{":
            expected.append("]" if character == "[" else "}")
        elif not inside and character in "]}":
            expected.pop()
    if inside or text[-1:] not in set("[]{},"):
        return None
    return text.removesuffix(",") + "".join(reversed(expected))


@given(DOCUMENTS, STYLES)
def test_every_beginning_has_a_beginning_of_the_value(document, style):
    text = json.dumps(document, **style)
    whole = json.loads(text)
    before = None
    for size in range(len(text) + 1):
        value = partial_json(text[:size])
        if value is None:
            assert before is None
            continue
        assert begins(value, whole)
        assert before is None or begins(before, value)
        before = value
    if not isinstance(document, (int, float)) or isinstance(document, bool):
        assert same(partial_json(text), whole)
    assert same(partial_json(text + "\n"), whole)


@given(DOCUMENTS, STYLES)
def test_what_is_closed_is_there(document, style):
    text = json.dumps(document, **style)
    for size in range(1, len(text) + 1):
        complete = closed(text[:size])
        if complete is not None:
            assert same(partial_json(text[:size]), json.loads(complete))


@given(st.text('[]{}:,"\\ntrue1.e- u') | st.text())
def test_nothing_is_raised(text):
    partial_json(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        (" \n", None),
        ("tru", None),
        ("true", True),
        ("12", None),
        ("12 ", 12),
        ('"a', "a"),
        ('"a\\', "a"),
        ('"a\\u00e', "a"),
        ('"a\\u00e9', "aé"),
        ('"\\ud83d', ""),
        ('"\\ud83d\\ude0', ""),
        ('"\\ud83d\\ude00', "😀"),
        ('"\\ud83dx', "\ud83dx"),
        ("[", []),
        ("[1", []),
        ("[1,", [1]),
        ("[1, 2.5e3]", [1, 2500.0]),
        ("[nul", []),
        ('{"a', {}),
        ('{"a"', {}),
        ('{"a": ', {}),
        ('{"a": -', {}),
        ('{"a": "b', {"a": "b"}),
        ('{"a": [{"b": "c', {"a": [{"b": "c"}]}),
        ('{"a": 1, "a": [', {"a": []}),
        ("[1 2]", [1]),
        ("[1, 01, 2]", [1]),
        ("[1,]", [1]),
        ('["a\nb"]', ["a"]),
        ('["a\\q"]', ["a"]),
        ("{1: 2}", {}),
        ("[NaN, 1]", []),
        ("[1] [2]", [1]),
        (f"[1, {'9' * 5000}, 2]", [1]),
    ],
)
def test_examples(text, value):
    assert same(partial_json(text), value)


def test_depth_has_no_limit():
    depth = 20 * sys.getrecursionlimit()
    value = partial_json("[" * depth + '"x')
    for _ in range(depth):
        (value,) = value
    assert value == "x"
