"""Parameters as JSON and query strings: exactly as given, or refused before anything is sent."""

from __future__ import annotations

import datetime
import json
import math
from collections import OrderedDict
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.core.codec.encode import (
    encode_json,
    encode_query,
    merge_queries,
    plain,
)
from openaiasync.core.model.base import BaseModel
from openaiasync.core.model.omitted import NOT_GIVEN, omit

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


class Answer(BaseModel, kw_only=True):
    role: str
    content: str | None = None
    refusal: str | None = None


@given(JSON)
def test_what_json_can_say_arrives_unchanged(value: Any) -> None:
    """Every JSON value survives, and plain values are not even copied."""
    assert json.loads(encode_json(value)) == value
    assert plain(value) is value


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_refused(bad: float) -> None:
    """NaN and infinities are a `ValueError` wherever they stand, never a silent null."""
    for value in (bad, [bad], {"a": {"b": [1, bad]}}):
        with pytest.raises(ValueError, match="JSON has no NaN"):
            encode_json(value)


def test_half_a_surrogate_pair_is_refused() -> None:
    """Text that UTF-8 cannot carry is a clear `ValueError`."""
    with pytest.raises(ValueError, match="surrogate"):
        encode_json({"content": "\ud83d"})


def test_markers_vanish_at_every_depth() -> None:
    """`omit` and `NOT_GIVEN` (ours or of a namesake class) leave no trace, and the caller's dict stays as it was."""

    class Omit:
        """The marker of another library."""

    given_by_user = {"a": 1, "b": omit, "c": {"d": NOT_GIVEN, "e": [{"f": Omit()}]}}
    assert json.loads(encode_json(given_by_user)) == {"a": 1, "c": {"e": [{}]}}
    assert given_by_user["b"] is omit


def test_answers_may_be_sent_back() -> None:
    """An answer in the parameters is sent unchanged: unknown fields kept, unset ones left out."""
    message = Answer(role="assistant", content="hi")
    message.reasoning_content = "hm"  # type: ignore[attr-defined]
    sent = json.loads(encode_json({"messages": [message]}))
    assert sent == {"messages": [{"role": "assistant", "content": "hi", "reasoning_content": "hm"}]}


def test_other_libraries_objects_are_asked_for_json() -> None:
    """Anything with `model_dump` (pydantic, the official client) is dumped without what was not set."""

    class Foreign:
        def model_dump(self, **options: Any) -> dict[str, Any]:
            assert options["exclude_unset"]
            return {"x": 1}

    assert json.loads(encode_json([Foreign()])) == [{"x": 1}]


def test_containers_of_all_kinds() -> None:
    """Tuples, sets, generators, mappings, dataclass-likes and dates are sent as JSON has them."""
    sent = json.loads(
        encode_json(
            {
                "t": (1, 2),
                "s": {3},
                "g": (n for n in [4, 5]),
                "m": MappingProxyType({"k": omit, "v": OrderedDict(a=1)}),
                "d": datetime.date(2026, 1, 2),
            }
        )
    )
    assert sent == {"t": [1, 2], "s": [3], "g": [4, 5], "m": {"v": {"a": 1}}, "d": "2026-01-02"}


def test_what_has_no_json_is_a_type_error() -> None:
    """An object that nobody can encode is named."""
    with pytest.raises(TypeError, match="object objects cannot be sent"):
        encode_json({"x": object()})


def test_endless_nesting_is_refused() -> None:
    """A list that contains itself ends in a `ValueError`, not in a crash."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested too deeply"):
        encode_json(loop)


def test_structs_of_the_user_are_sent() -> None:
    """msgspec Structs of the caller's own are JSON too."""

    class Point(msgspec.Struct):
        x: int

    assert encode_json({"p": Point(1)}) == b'{"p":{"x":1}}'


@pytest.mark.parametrize(
    ("pairs", "query"),
    [
        ([("after", "a b&c")], "after=a%20b%26c"),
        ([("n", 3), ("yes", True), ("no", False)], "n=3&yes=true&no=false"),
        ([("none", None), ("deep", {"none": None, "list": [None, 1]}), ("empty", "")], "deep[list][]=1&empty="),
        ([("include", ["a", "b"])], "include[]=a&include[]=b"),
        ([("include[]", ["a"])], "include[]=a"),
        ([("metadata", {"k": "v", "deep": {"x": 1}})], "metadata[k]=v&metadata[deep][x]=1"),
        ([("gone", omit), ("x", {"y": NOT_GIVEN})], ""),
        ([("when", datetime.date(2026, 1, 2))], "when=2026-01-02"),
        ([("ü", "é")], "%C3%BC=%C3%A9"),
    ],
)
def test_queries(pairs: list[tuple[str, Any]], query: str) -> None:
    """Nested values get brackets, everything is percent-encoded as UTF-8."""
    assert encode_query(pairs) == query


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ("", "", ""),
        ("a=1", "", "a=1"),
        ("", "b=2", "b=2"),
        ("a=1&b=1&ab=1", "b=2&c=3", "a=1&ab=1&b=2&c=3"),
        ("a[]=1&a[]=2&d[x]=1", "a[]=3&d=4", "a[]=3&d=4"),
        ("%C3%BC=1&a=1", "ü=2", "a=1&ü=2"),
    ],
)
def test_queries_merge(first: str, second: str, merged: str) -> None:
    """What the second query names is not asked for twice; everything else stays."""
    assert merge_queries(first, second) == merged


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_any_text_comes_back_from_a_query(values: dict[str, str]) -> None:
    """Names and values survive the encoding, whatever they hold."""
    encodable = {k: v for k, v in values.items() if _is_unicode(k + v)}
    assert (
        dict(parse_qsl(encode_query(encodable.items()), keep_blank_values=True, strict_parsing=bool(encodable)))
        == encodable
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize("value", [b"text", bytearray(b"text"), memoryview(b"text")])
def test_bytes_are_refused(value: Any) -> None:
    """Text that was read as bytes would reach the model as base64."""
    with pytest.raises(TypeError, match=type(value).__name__) as caught:
        encode_json({"messages": [{"role": "user", "content": value}]})
    assert "decode text first" in str(caught.value)


@pytest.mark.parametrize("key", [(1, 2), None, True])
def test_keys_that_are_not_strings_are_named(key: Any) -> None:
    """A mapping with such a key has no JSON form."""
    with pytest.raises(TypeError, match="keys are strings"):
        encode_json({"a": {key: 1}})


def test_nan_in_a_set_is_refused() -> None:
    """It would be sent as null."""
    with pytest.raises(ValueError, match="JSON has no NaN"):
        encode_json({"a": {float("nan")}})


def test_queries_that_cannot_be_sent() -> None:
    """A value that contains itself and half a surrogate pair are errors that say so."""
    loop: dict[str, Any] = {}
    loop["a"] = loop
    with pytest.raises(ValueError, match="contain themselves"):
        encode_query(loop.items())
    with pytest.raises(ValueError, match="surrogate pair"):
        encode_query([("a", "\ud800")])
