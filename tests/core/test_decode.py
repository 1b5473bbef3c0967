"""Bytes to answers: strict, lenient, and what is an error."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any, ClassVar, Generic, Literal, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.core.codec.decode import (
    DecodeError,
    Decoder,
    decoder_for,
    keep,
)
from openaiasync.core.http.sse import SSEDecoder
from openaiasync.core.model.base import BaseModel, OpenModel, one_of
from openaiasync.core.model.mixins import return_base64
from openaiasync.types import Completion, CreateEmbeddingResponse
from openaiasync.types.chat import ChatCompletion, ChatCompletionChunk
from openaiasync.types.responses import Response, ResponseStreamEvent
from real_servers.transcripts import read_all

T = TypeVar("T")


class Delta(BaseModel, kw_only=True):
    content: str | None = None


class Choice(BaseModel, kw_only=True):
    index: int
    delta: Delta
    score: float | None = None


class Chunk(BaseModel, kw_only=True):
    id: str
    choices: list[Choice]
    labels: dict[str, Any] | None = None


class Page(BaseModel, Generic[T], kw_only=True):
    data: list[T]
    after: str | None = None


class A(BaseModel, kw_only=True, tag_field="type", tag="a"):
    type: ClassVar[Literal["a"]] = "a"
    x: int


class B(BaseModel, kw_only=True, tag_field="type", tag="b"):
    type: ClassVar[Literal["b"]] = "b"
    y: int


GOOD = b'{"id":"i","choices":[{"index":0,"delta":{"content":"hi"},"score":1}],"labels":{"k":{"v":1}}}'


def test_an_answer_as_described_is_decoded() -> None:
    """Free-form maps stay dicts, declared objects are Structs."""
    chunk = decoder_for(Chunk).decode(GOOD)
    assert chunk.choices[0].delta.content == "hi"
    assert chunk.labels == {"k": {"v": 1}}


def test_the_decoder_of_a_type_is_made_once() -> None:
    """Making one is dear: all calls share it, strict ones another."""
    assert decoder_for(Chunk) is decoder_for(Chunk)
    assert decoder_for(Chunk) is not decoder_for(Chunk, strict=True)


def test_strict_and_lenient_give_the_same_for_what_keeps_to_the_description() -> None:
    """Which way an answer took cannot be seen from it."""
    decoder: Decoder[Chunk] = decoder_for(Chunk)
    strict, lenient = decoder.decode(GOOD), decoder.lenient(GOOD)
    assert strict == lenient
    assert type(lenient.choices[0].score) is float


@pytest.mark.parametrize(
    ("body", "check"),
    [
        (b'{"id":"i","choices":[],"new":{"a":[1]}}', lambda c: c.extra == {"new": {"a": [1]}} and c.new == {"a": [1]}),
        (b'{"id":5,"choices":[]}', lambda c: c.id == 5),
        (b'{"id":"i"}', lambda c: c.choices == []),
        (b'{"id":"i","choices":null}', lambda c: c.choices == []),
        (b'{"id":"i","choices":{"index":1}}', lambda c: c.choices == {"index": 1}),
        (b'{"id":"i","choices":["x",null,{"index":1.5}]}', lambda c: c.choices[:2] == ["x", None]),
        (b'{"id":"i","choices":[{"index":1.5}]}', lambda c: c.choices[0].index == 1.5 and c.choices[0].delta is None),
        (b'{"id":"i","choices":[{"index":0,"delta":{"z":1}}]}', lambda c: c.choices[0].delta.z == 1),
        (b'{"id":"i","choices":[{"index":"1"}]}', lambda c: c.choices[0].index == 1),
        (b'{"id":"i","choices":[{"index":"one"}]}', lambda c: c.choices[0].index == "one"),
        (b'{"id":"\xff","choices":[]}', lambda c: c.id == "�"),
        (b'{"id":"\\ud800","choices":[]}', lambda c: c.id == "\ud800"),
        (b'{"id":NaN,"choices":[]}', lambda c: math.isnan(c.id)),
        (b'\xef\xbb\xbf{"id":"i","choices":[]}', lambda c: c.id == "i"),
        (b'{"id":"i","choices":[],"labels":{"x":1e999}}', lambda c: c.labels == {"x": math.inf}),
        (
            b'{"id":"i","choices":[{"index":"1","score":1%b},{"index":2,"score":-1%b}]}' % (b"0" * 400, b"0" * 400),
            lambda c: [one.score for one in c.choices] == [math.inf, -math.inf],
        ),
        (b'{"id":"i","choices":[],"to_dict":1}', lambda c: c.to_dict()["to_dict"] == 1),
        (b'{"id":"i","choices":[],"_raw":1,"_meta":2}', lambda c: c.extra == {"_raw": 1, "_meta": 2}),
    ],
)
def test_an_answer_that_strays_is_built_leniently(body: bytes, check: Any) -> None:
    """Values of wrong types are unchanged, missing ones `None`, unknown ones attributes: the result is always a Struct.

    A list that is missing or null is empty, and a number in quotes is a number.
    """
    chunk = decoder_for(Chunk).decode(body)
    assert type(chunk) is Chunk
    assert check(chunk)


def test_nothing_is_lost_or_added_on_the_lenient_way() -> None:
    """A kept answer dumps the received fields, however far it deviates from the description."""
    body = b'{"id":null,"choices":[{"index":"x","delta":[],"extra":1},7],"labels":3,"more":[{"a":null}]}'
    decoder = decoder_for(Chunk)
    chunk = keep(decoder.decode(body), body, None)
    assert chunk.to_dict() == {
        "id": None,
        "choices": [{"index": "x", "delta": [], "extra": 1}, 7],
        "labels": 3,
        "more": [{"a": None}],
    }


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"null", "null instead of an object"),
        (b"[1]", "an array instead of an object"),
        (b'"text"', "a string instead of an object"),
        (b"17", "a number instead of an object"),
        (b"1.5", "a number instead of an object"),
        (b"true", "a boolean instead of an object"),
        (b"<html>", "not JSON"),
        (b'{"id":"i","choices":[]', "not JSON"),
        (b'{"id":"i","choices":[]} trailing', "not JSON"),
        (b'{"id":"i","n":' + b"1" * 5000 + b"}", "too many digits"),
        (b'{"id":"i","n":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
        (b'{"choices":' + b'[{"delta":' * 50_000 + b"1" + b"}]" * 50_000 + b"}", "nested too deeply"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("strict", [False, True])
def test_what_is_no_answer_at_all_is_an_error(body: bytes, reason: str, strict: bool) -> None:
    """Never a string, a list or `None` in an object's place; the text quotes 200 characters at most."""
    with pytest.raises(DecodeError) as caught:
        decoder_for(Chunk, strict=strict).decode(body)
    assert caught.value.raw == body
    assert len(str(caught.value)) < 600
    if not strict:
        assert reason in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.raw) == (str(caught.value), body)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"id":"i","choices":[{"index":"0","delta":{}}]}', "$.choices[0].index"),
        (b'{"id":"i"}', None),
        (b'{"new":1,"id":"i","choices":[{"index":"0","delta":{}}]}', "$.choices[0].index"),
        (b'{"new":1,"id":"i"}', None),
        (b'{"id":"\xff","choices":[]}', None),
    ],
)
def test_strict_raises_where_others_stray_and_names_the_place(body: bytes, path: str | None) -> None:
    """`strict=True` wants required fields and right types, also where unknown fields came."""
    with pytest.raises(DecodeError) as caught:
        decoder_for(Chunk, strict=True).decode(body)
    assert caught.value.path == path
    assert path is None or path in str(caught.value)
    assert decoder_for(Chunk).decode(body).choices is not NotImplemented


def test_the_text_of_an_error_is_short_whatever_the_body() -> None:
    """A body may be megabytes, with the fault's text itself quoting it."""
    body = b'{"choices":[],"' + b"k" * 1_000_000 + b'":1}'
    with pytest.raises(DecodeError) as caught:
        decoder_for(Chunk, strict=True).decode(body)
    assert len(str(caught.value)) < 700


def test_after_an_event_that_does_not_conform_decoding_is_lenient() -> None:
    """The strict try is not repeated for the rest of the stream; other streams are not affected."""
    decoder = decoder_for(Chunk)
    stream = decoder.stream()
    assert stream.decode(GOOD).id == "i"
    assert stream.conforming
    assert stream.decode(b'{"id":"i","choices":[],"new":1}').extra == {"new": 1}
    assert not stream.conforming
    assert stream.decode(GOOD) == decoder.decode(GOOD)
    assert decoder.stream().conforming
    with pytest.raises(DecodeError):
        stream.decode(b"oops")


def test_a_strict_stream_raises() -> None:
    """Also after it has raised before."""
    stream = decoder_for(Chunk, strict=True).stream()
    for _ in range(2):
        with pytest.raises(DecodeError):
            stream.decode(b'{"id":"i","new":1}')
    assert stream.decode(GOOD).id == "i"
    assert stream.decode(b'{"id":"i","choices":[],"new":1}').extra == {"new": 1}


class Named(BaseModel, kw_only=True):
    name: str
    more: dict[str, A] | None = None
    parts: list[A | B] | None = None


class Counted(BaseModel, kw_only=True):
    count: int


UNION = one_of("UNION", lambda: (Named, Counted))


def test_strict_keeps_unknown_fields_at_any_depth() -> None:
    """In parts, in the values of mappings, in members of unions that a tag or only their fields tell apart."""
    strict: Decoder[Any] = decoder_for(UNION, strict=True)
    assert strict.decode(b'{"count":1,"odd":2}').extra == {"odd": 2}
    named = strict.decode(
        b'{"name":"n","odd":[1],"more":{"u":{"type":"a","x":1,"odd":3}},"parts":[{"type":"b","y":2,"z":4}]}'
    )
    assert (named.extra, named.more["u"].extra, named.parts[0].extra) == ({"odd": [1]}, {"odd": 3}, {"z": 4})
    assert isinstance(named.parts[0], B)
    for wrong in (
        b'{"count":"1","odd":2}',
        b'{"odd":2}',
        b'{"name":"n","more":{"u":{"odd":3}}}',
        b'{"name":"n","parts":[{"type":"c"}]}',
    ):
        with pytest.raises(DecodeError):
            strict.decode(wrong)


def test_a_union_at_the_top() -> None:
    """Events of a stream: known ones typed, unknown ones open, none a dict."""
    decoder: Decoder[Any] = decoder_for(A | B)  # type: ignore[arg-type]
    assert decoder.decode(b'{"type":"b","y":1}') == B(y=1)
    unknown = decoder.decode(b'{"type":"c","y":{"z":[{"q":1}]}}')
    assert (type(unknown), unknown.type, unknown.y.z[0].q) == (OpenModel, "c", 1)
    with pytest.raises(DecodeError, match="a string instead of an object"):
        decoder.decode(b'"x"')


def test_an_open_answer() -> None:
    """Operations without a schema answer an object with attributes."""
    decoder = decoder_for(OpenModel)
    model = decoder.decode(b'{"id":"i","data":[{"id":"j"}]}')
    assert (type(model), vars(model)["id"], vars(model)["data"][0].id) == (OpenModel, "i", "j")
    assert decoder.decode(b"{}") == OpenModel()
    with pytest.raises(DecodeError):
        decoder.decode(b"[]")


def test_a_generic_page_of_items() -> None:
    """Pages are generic Structs: their items are built leniently too."""
    decoder: Decoder[Page[Choice]] = decoder_for(Page[Choice])
    page = decoder.decode(b'{"data":[{"index":1,"delta":{},"new":2}],"object":"list"}')
    assert type(page) is Page
    assert page.extra == {"object": "list"}
    assert page.data[0].extra == {"new": 2}
    with pytest.raises(DecodeError, match="an array instead of an object"):
        decoder.decode(b"[]")


def test_other_kinds_of_answers() -> None:
    """Lists and free-form values have decoders too."""
    lists: Decoder[list[Delta]] = decoder_for(list[Delta])
    assert lists.decode(b'[{"content":"a"},{"odd":1}]')[1].extra == {"odd": 1}
    with pytest.raises(DecodeError, match="an object instead of an array"):
        lists.decode(b"{}")
    anything: Decoder[Any] = decoder_for(dict[str, Any])
    assert anything.decode(b'{"a":NaN}').keys() == {"a"}


KINDS: dict[str, tuple[Any, Any]] = {
    "/v1/chat/completions": (ChatCompletion, ChatCompletionChunk),
    "/v1/completions": (Completion, Completion),
    "/v1/embeddings": (CreateEmbeddingResponse, None),
    "/v1/responses": (Response, ResponseStreamEvent),
}


def real_answers() -> list[tuple[str, Any, bytes]]:
    """Path, type and JSON of all that real servers answered on the paths in `KINDS`."""
    found: list[tuple[str, Any, bytes]] = []
    for exchange in read_all():
        if exchange.path not in KINDS or not exchange.heads or exchange.status != 200 or exchange.cut:
            continue
        whole, event = KINDS[exchange.path]
        if exchange.is_stream:
            events = SSEDecoder().feed(exchange.body)
            datas = [item if isinstance(item, bytes) else item.data for item in events]
            found += [(exchange.path, event, data) for data in datas if data != b"[DONE]"]
        else:
            found.append((exchange.path, whole, exchange.body))
    return found


def test_answers_of_real_servers_lose_nothing() -> None:
    """What llama.cpp and transformers sent is what the decoded answers dump; base64 becomes numbers."""
    answers = real_answers()
    assert len(answers) > 300
    for _, kind, body in answers:
        answer: Any = keep(decoder_for(kind).decode(body), body, None)
        if kind is CreateEmbeddingResponse:
            return_base64(answer)
        assert answer.to_dict() == json.loads(body)


def test_usual_answers_of_real_servers_stay_on_the_fast_way() -> None:
    """The dialects' fields are declared, so that chat, completions and embeddings need no second look."""
    for path, kind, body in real_answers():
        if path != "/v1/responses":
            decoder_for(kind, strict=True).decode(body)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5).filter(lambda text: not text.strip("-").isdigit()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "choices", "index", "delta", "content", "labels", "copy", "type", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_object_survives_the_round_trip(value: Any) -> None:
    """Any object becomes a Chunk that dumps as received; any other value is a DecodeError."""
    import msgspec

    body = msgspec.json.encode(value)
    decoder = decoder_for(Chunk)
    if not isinstance(value, dict):
        with pytest.raises(DecodeError):
            decoder.decode(body)
        return
    chunk = keep(decoder.decode(body), body, None)
    assert chunk.to_dict() == msgspec.json.decode(body)
    assert type(chunk) is Chunk


@given(st.binary(max_size=40))
def test_any_bytes_are_an_answer_or_a_decode_error(body: bytes) -> None:
    """No other exception leaves a decoder."""
    for strict in (True, False):
        try:
            made: Any = decoder_for(Chunk, strict=strict).decode(body)
        except DecodeError as error:
            made = error.raw == body and error
        assert isinstance(made, Chunk | DecodeError)


@pytest.mark.parametrize("strict", [False, True])
def test_half_a_character_where_base64_belongs(strict: bool) -> None:
    """The value stays unchanged; `strict` refuses it."""
    value = {"object": "list", "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    body = json.dumps({**value, "data": [{"object": "embedding", "index": 0, "embedding": "AAAA\ud800"}]}).encode()
    decoder = decoder_for(CreateEmbeddingResponse, strict=strict)
    if strict:
        with pytest.raises(DecodeError):
            decoder.decode(body)
    else:
        assert decoder.decode(body).to_dict()["data"][0]["embedding"] == "AAAA\ud800"
