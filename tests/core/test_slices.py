"""Decoding in slices gives what decoding at once gives, whatever the bytes are, and its steps are short."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openaiasync.core.codec import slices
from openaiasync.core.codec.decode import DecodeError, decoder_for
from openaiasync.core.codec.slices import decode_in_slices
from openaiasync.endpoints import MODELS_LIST
from openaiasync.engine.pagination import page_type
from openaiasync.types import CreateEmbeddingResponse
from openaiasync.types.chat import ChatCompletion

ModelListPage: Any = page_type(MODELS_LIST)
KINDS: list[Any] = [CreateEmbeddingResponse, ModelListPage, ChatCompletion]


@pytest.fixture(autouse=True)
def small_groups() -> Iterator[None]:
    """A few bytes are many here."""
    with patch.object(slices, "_GROUP", 30):
        yield


def outcome(kind: Any, body: bytes, *, sliced: bool, strict: bool = False) -> tuple[Any, ...]:
    """What comes of a body, as values that can be compared."""
    decoder = decoder_for(kind, strict=strict)
    try:
        answer = taken(decode_in_slices(decoder, body))[0] if sliced else decoder.decode(body)
    except DecodeError as error:
        return (str(error), error.raw)
    return (answer, repr(answer), type(answer))


def taken(steps: Any) -> tuple[Any, int]:
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, count
        count += 1


scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8) | st.floats(allow_nan=False)
anything = st.recursive(
    scalars | st.sampled_from(['"', "]", '\\"', "},{", '"]},{"', "\\", "\u2028"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('ab"\\]}', max_size=3), inner, max_size=4),
    max_leaves=12,
)
vectors = st.fixed_dictionaries(
    {"object": st.just("embedding"), "index": st.integers(0, 9), "embedding": st.lists(st.floats(-1, 1), max_size=9)},
    optional={"more": anything},
)
models = st.fixed_dictionaries(
    {
        "id": st.text(max_size=9),
        "object": st.just("model"),
        "created": st.integers(0, 9),
        "owned_by": st.text(max_size=5),
    },
    optional={"more": anything},
)
bodies = st.fixed_dictionaries(
    {"object": st.just("list"), "data": st.lists(vectors | models | anything, max_size=9)},
    optional={"model": st.text(max_size=4), "usage": anything, "extra": anything, "choices": st.lists(anything)},
)


def dumped(value: Any, spaces: int) -> bytes:
    return json.dumps(value, ensure_ascii=bool(spaces % 2), indent=spaces or None).encode("utf-8", "surrogatepass")


@settings(max_examples=300)
@given(bodies, st.integers(0, 3), st.sampled_from(KINDS), st.booleans())
def test_slices_make_what_the_whole_makes(body: Any, spaces: int, kind: Any, strict: bool) -> None:
    """Answers of any content, as described and not, strictly and leniently."""
    data = dumped(body, spaces)
    assert outcome(kind, data, sliced=True, strict=strict) == outcome(kind, data, sliced=False, strict=strict)


@settings(max_examples=300)
@given(
    bodies,
    st.integers(0, 10_000),
    st.sampled_from([b"", b'"', b"]", b"[", b"}", b"{", b",", b"\\", b":", b"\xff", b"1"]),
)
def test_damaged_bodies_fail_alike(body: Any, place: int, spoilt: bytes) -> None:
    """Cut anywhere, a byte put in, a byte replaced: the same answer or the same error."""
    data = dumped(body, 0)
    place %= len(data) + 1
    for one in (data[:place], data[:place] + spoilt + data[place:], data[:place] + spoilt + data[place + 1 :]):
        assert outcome(CreateEmbeddingResponse, one, sliced=True) == outcome(CreateEmbeddingResponse, one, sliced=False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"data":[1,"]},{\\"v\\":[2"]}',
        b'{"data":[{"embedding":[1,"]},{\\"embedding\\":[2"],"index":0,"object":"embedding"}],"object":"list"}',
        b'{"data":[{"id":"a"}],"data":[{"id":"b"}],"object":"list"}',
        b'{"data":[{"id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},{"id":"b"}],"data":[{"id":"c"}],"object":"list"}',
        b'{"data":[{"id":"c"}],"data":[{"id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},{"id":"b"}],"object":"list"}',
        b'{"data":[{"id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},{"id":"b"}],"data":7,"object":"list"}',
        b'{"d\\u0061ta":[{"id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},{"id":"b"}],"object":"list"}',
        b'{"data":[{"id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},],"object":"list"}',
        b'{"data":[{"id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},{"id":"b"}],"object":"list"}',
        b'{"data":[{"id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},{"id":"b"}],"object":"list"} x',
        b'{"data":[{"id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},{"id":"b"}]',
        b'{"data":[' + b"[" * 5000,
    ],
)
def test_hostile_bodies(body: bytes) -> None:
    """Contents that could mislead a search for element borders."""
    for kind in KINDS:
        assert outcome(kind, body, sliced=True) == outcome(kind, body, sliced=False)


def test_a_step_takes_a_group() -> None:
    """A long list is taken in many steps; one that is short, or a single large element, in few."""
    one = {"id": "m" * 10, "object": "model", "created": 1, "owned_by": "x"}
    many = dumped({"object": "list", "data": [one] * 200}, 0)
    answer, steps = taken(decode_in_slices(decoder_for(ModelListPage), many))
    assert (len(answer.data), answer.data[0].id) == (200, "m" * 10)
    assert steps >= 200
    large = dumped({"object": "list", "data": [{**one, "more": [[[{}]]] * 100}]}, 0)
    assert taken(decode_in_slices(decoder_for(ModelListPage), large))[1] < 5


def test_looking_for_borders_is_linear() -> None:
    """A tail of backslashes or brackets costs no more for being long."""
    for tail in (b"\\" * 300_000, b'\\"' * 150_000, b"[" * 300_000, b'"' * 300_000):
        body = b'{"data":[{"id":"' + tail
        assert outcome(ModelListPage, body, sliced=True) == outcome(ModelListPage, body, sliced=False)
