"""Values of texts that still grow: consistent with the final value at every cut, in linear time."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cputime import cpu_seconds
from openaiasync.core.codec.partial_json import PartialJSON

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


def parsed(*pieces: str, skip_prose: bool = False) -> Any:
    parser = PartialJSON(skip_prose=skip_prose)
    for piece in pieces:
        parser.feed(piece)
    return parser.value


def same(one: Any, other: Any) -> bool:
    """Equality that tells 1, 1.0 and True apart."""
    return json.dumps(one) == json.dumps(other)


def begins(part: Any, whole: Any) -> bool:
    """Whether a value can still grow into another: texts and lists are beginnings, all else is as it will be."""
    if isinstance(part, str):
        return isinstance(whole, str) and whole.startswith(part)
    if isinstance(part, list):
        if not isinstance(whole, list) or len(part) > len(whole):
            return False
        return all(same(a, b) for a, b in zip(part[:-1], whole, strict=False)) and (
            not part or begins(part[-1], whole[len(part) - 1])
        )
    if isinstance(part, dict):
        if not isinstance(whole, dict) or list(part) != list(whole)[: len(part)]:
            return False
        names = list(part)
        return all(same(part[name], whole[name]) for name in names[:-1]) and (
            not names or begins(part[names[-1]], whole[names[-1]])
        )
    return same(part, whole)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_every_prefix_is_a_beginning_of_the_whole(value: Any, ascii: bool, indent: int | None) -> None:
    """At every cut the value so far can still become the final one; when the text ends, it is the final one."""
    text = json.dumps(value, ensure_ascii=ascii, indent=indent)
    parser = PartialJSON()
    for i, char in enumerate(text):
        so_far = parser.value
        assert so_far is None or begins(so_far, value), text[:i]
        parser.feed(char)
    parser.finish()
    assert parser.complete
    assert same(parser.value, value)


@given(VALUES, st.lists(st.integers(0, 400)))
def test_the_cuts_change_nothing(value: Any, cuts: list[int]) -> None:
    """However a text is cut, and whenever the value is read, the same text gives the same value."""
    text = json.dumps(value)
    for length in {len(text), len(text) // 2}:
        whole = PartialJSON()
        whole.feed(text[:length])
        cut = PartialJSON()
        edges = [0, *sorted(min(one, length) for one in cuts), length]
        for start, end in pairwise(edges):
            cut.feed(text[start:end])
            assert not (cut.complete and end < length and cut.value is None and value is not None)
        assert same(whole.value, cut.value)
        assert whole.complete == cut.complete


@given(st.text('{}[]",:\\u0123abtrue-. \n'), st.booleans())
def test_no_text_is_too_strange(text: str, skip_prose: bool) -> None:
    """Whatever comes, nothing is raised; what is taken for complete is what the standard library reads."""
    parser = PartialJSON(skip_prose=skip_prose)
    for char in text:
        parser.feed(char)
    parser.finish()
    if not skip_prose:
        try:
            whole = json.loads(text)
        except ValueError:
            return
        if "\\u" not in text:  # half a pair is replaced here
            assert parser.complete
            assert same(parser.value, whole)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("{", {}),
        ('{"a', {}),
        ('{"a"', {}),
        ('{"a":', {}),
        ('{"a":"', {"a": ""}),
        ('{"a":"x\\', {"a": "x"}),
        ('{"a":"x\\u00e', {"a": "x"}),
        ('{"a":"x\\u00e4', {"a": "xä"}),
        ('{"a":12', {}),
        ('{"a":12,', {"a": 12}),
        ('{"a":tru', {}),
        ('{"a":true', {"a": True}),
        ('{"a":null', {"a": None}),
        ("[1,[2,{", [1, [2, {}]]),
        ('["\\ud83d', [""]),
        ('["\\ud83d\\ude00', ["😀"]),
        ('["\\ud83dx', ["\ufffdx"]),
        ('["\\ude00"', ["\ufffd"]),
        ('"tor', "tor"),
        ("[1, 2] and more", [1, 2]),
    ],
)
def test_what_a_torn_text_gives(text: str, value: Any) -> None:
    """Unfinished texts are included so far, numbers once something follows them, entries once they have a value."""
    assert parsed(text) == value
    assert parsed(*text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a" 1}', {}),
        ("[1,,2]", [1]),
        ("{1:2}", {}),
        ("[1}", [1]),
        ('["x\\x"]', ["x"]),
        ('["x\\u12g4"]', ["x"]),
        ("[01]", []),
        ("[tru]", []),
        ("]", None),
        (f"[{'9' * 4_900}]", []),
        (f"[{'9' * 6_000}]", []),
    ],
)
def test_text_that_is_no_json_ends_it(text: str, value: Any) -> None:
    """Nothing after the first error is parsed; the value before it stays."""
    for pieces in ([text], text):
        parser = PartialJSON()
        for piece in pieces:
            parser.feed(piece)
        parser.feed(' {"b": 1}')
        assert parser.broken
        assert not parser.complete
        assert parser.value == value


@pytest.mark.parametrize(
    "text", ['```json\n{"a": [1]}\n```', 'Here {you} [are]: {"a": [1]}', 'Sure!\n\n{"a": [1]}. Anything else?']
)
def test_prose_is_passed_over(text: str) -> None:
    """Words, fences and brackets that begin nothing are skipped when asked for."""
    assert parsed(text, skip_prose=True) == {"a": [1]}
    assert parsed(*text, skip_prose=True) == {"a": [1]}
    parser = PartialJSON(skip_prose=True)
    for char in text:
        parser.feed(char)
    assert text[slice(*parser.span)] == '{"a": [1]}'


def test_the_value_grows_in_place() -> None:
    """Lists and dicts are the same objects at every reading, which is why reading costs nothing."""
    parser = PartialJSON()
    parser.feed('{"a": ["x')
    first = parser.value
    parser.feed('y", 1')
    assert parser.value is first
    assert first == {"a": ["xy"]}


def test_depth_needs_no_stack() -> None:
    """A hundred thousand brackets are a value like any other."""
    parser = PartialJSON()
    parser.feed("[" * 100_000)
    parser.feed("]" * 100_000)
    assert parser.complete
    value = parser.value
    while value:  # taken apart from the outside, or freeing it would recurse
        value = value.pop()


def test_depth_among_words_is_limited() -> None:
    """In a text of words a value that no decoder takes ends where it is too deep: most brackets are never looked at."""
    parser = PartialJSON(skip_prose=True)
    parser.feed("Here: " + "[" * 100_000)
    assert parser.broken
    parser = PartialJSON(skip_prose=True)
    parser.feed("Here: " + "[" * 400 + "]" * 400)
    assert parser.complete


def fed(pieces: int) -> float:
    """Seconds of CPU to take so many pieces of one long text, its value read after each."""
    parser = PartialJSON()
    parser.feed('{"text": "')
    start = time.process_time()
    for _ in range(pieces):
        parser.feed("abcd")
        assert parser.value
    return time.process_time() - start


def test_a_long_text_is_read_in_linear_time() -> None:
    """Sixteen times the pieces cost about sixteen times as much, not 256 times."""
    fed(10_000)
    short = min(fed(20_000) for _ in range(3))
    assert fed(320_000) < 16 * 4 * short + 0.5


@pytest.mark.parametrize("piece", ["{", "[", '{"a"', '{""', "[a]", "[]", "{ ", '{"a":{}', "[\n"])
def test_a_hostile_text_costs_no_more_than_an_honest_one(piece: str) -> None:
    """Brackets that begin nothing take no longer than a list of numbers: no text of 64 kB holds the event loop."""
    size = 64_000
    honest, hostile = "[" + "1," * (size // 2), piece * (size // len(piece))

    def parse(text: str) -> None:
        PartialJSON(skip_prose=True).feed(text)

    times = cpu_seconds(lambda: parse(honest))
    assert cpu_seconds(lambda: parse(hostile)) < 1.5 * times


def test_false_starts_are_counted() -> None:
    """A value is found behind 4,000 brackets that look like one, and behind any number of those that do not."""
    for prose, found in (('{"a" ' * 4_000, True), ('{"a" ' * 4_001, False), ("{x} [^1] [.] " * 10_000, True)):
        parser = PartialJSON(skip_prose=True)
        parser.feed(prose + '{"b": 1}')
        assert (parser.value == {"b": 1}) is found
        assert parser.broken is not found
