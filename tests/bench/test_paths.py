"""The fast paths that usual calls take do what the general paths do.

Others are held elsewhere: a response that is complete in one read (`tests/core/test_http1.py`), events that arrive
whole (`tests/core/test_sse.py`), and the compiled checks of the server (`tests/server/test_check.py`).
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from openaiasync import AsyncOpenAI, Client, OpenAIError
from openaiasync.core.codec.encode import encode_json, plain
from openaiasync.core.codec.endpoint import Endpoint
from openaiasync.core.model.omitted import omit
from openaiasync.endpoints import CHAT_COMPLETIONS_CREATE
from openaiasync.engine import call
from openaiasync.server import Server
from openaiasync.server.chat import ChoiceWriter
from openaiasync.testing import FakeAnswer, FakeTransport

from .test_budgets import COMMON, MESSAGES, client, server

SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(0, 1) | st.text(max_size=5) | st.just(omit)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FLAT = st.lists(st.dictionaries(st.sampled_from(["role", "content", "name"]), SCALARS, max_size=3), max_size=4)


def outcome(endpoint: Endpoint, params: dict[str, Any], stream: bool | None) -> Any:
    """The request as plain values, or the kind of error."""
    try:
        made = endpoint.request(params, stream=stream)
    except (TypeError, ValueError) as error:
        return type(error), str(error)
    return {name: getattr(made, name) for name in made.__struct_fields__ if name != "endpoint"}


@given(
    params=st.fixed_dictionaries(
        {"messages": FLAT | VALUES, "model": st.just("m") | st.just(omit)},
        optional={"temperature": SCALARS, "tools": VALUES, "metadata": VALUES, "max_retries": st.integers(0, 3)},
    ),
    stream=st.none() | st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_requests_of_both_ways_are_equal(params: dict[str, Any], stream: bool | None) -> None:
    """A plain JSON request is built in one step, and is what the general way makes of the same parameters."""
    usual = CHAT_COMPLETIONS_CREATE
    assert usual.simple_body
    general = copy.copy(usual)
    general.simple_body = False
    assert outcome(usual, params, stream) == outcome(general, params, stream)


@given(FLAT | VALUES)
@settings(max_examples=80, deadline=None)
def test_what_is_told_plain_is_encoded_as_the_walk_would(value: Any) -> None:
    """The short check lets nothing through that the walk would have changed: no marker is ever in what is sent."""

    def encoded(params: dict[str, Any]) -> Any:
        try:
            return encode_json(params)
        except (TypeError, ValueError) as error:
            return type(error)

    assert encoded({"value": value}) == encoded(dict(plain({"value": value})))


async def events(made: Client, short: bool) -> tuple[list[Any], Any]:
    """What a stream gives, and how it ends; without `short` every event takes the general way."""
    stream = await made.chat.completions.create(messages=MESSAGES, stream=True)
    if not short:
        stream._strictly = None  # pyright: ignore[reportPrivateUsage]
    got: list[Any] = []
    try:
        async for chunk in stream:
            got.append(chunk.to_dict())
    except Exception as error:
        return got, (type(error), str(error).partition(" (")[0])
    return got, None


EVENT = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"index": st.integers(0, 2), "delta": st.just({"content": "x"})}))},
    optional={"usage": st.none(), "strange": st.text(max_size=3), "error": st.just({"message": "no"})},
)


@given(st.lists(EVENT, max_size=5), st.sampled_from([b"data: [DONE]\n\n", b"", b"data: {oops\n\n", b": ping\n\n"]))
@settings(max_examples=12, deadline=None)
def test_streams_of_both_ways_are_equal(chosen: list[dict[str, Any]], end: bytes) -> None:
    """For conforming and other chunks, errors and broken ends, both paths give the same events and the same end."""
    data = b"".join(
        b"data: %b\n\n" % json.dumps({**COMMON, "object": "chat.completion.chunk", **event}).encode()
        for event in chosen
    )
    body = data + end
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def main(base: str) -> None:
        async with client(base) as made:
            assert await events(made, short=True) == await events(made, short=False)

    with server(answer) as base:
        asyncio.run(main(base))


# ---------------------------------------------------------------- the driver: slots and prepared requests

TEXTS = st.text(st.characters(codec="latin-1", exclude_categories=["C", "Z"]), min_size=1, max_size=8)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "api_key": TEXTS.map("k{}".format),
        "organization": TEXTS,
        "default_headers": st.dictionaries(
            st.sampled_from(["X-A", "X-B", "Authorization", "Accept"]), TEXTS, max_size=2
        ),
        "default_query": st.dictionaries(st.sampled_from("ab"), TEXTS, max_size=2),
    },
)


async def sent(options: dict[str, Any], calls: int) -> list[Any]:
    """The requests of so many equal calls, and what was said of each in `.meta`."""
    answer = FakeAnswer(json={**COMMON, "object": "chat.completion", "choices": [CHOICE]})
    fake = FakeTransport(lambda request: answer)
    given: dict[str, Any] = {"api_key": "k", "base_url": "http://h/v1", "http_other": {"transport": fake}, **options}
    metas: list[Any] = []
    async with AsyncOpenAI(**given) as made:
        for _ in range(calls):
            done = await made.chat.completions.create(model="m", messages=MESSAGES)
            assert done.meta is not None
            metas.append((done.meta.tries, done.meta.url, done.meta.request.content, dict(done.meta.request.headers)))
    return [
        ((one.method, one.url, one.body, list(one.headers_with_credentials().raw_pairs())), meta)
        for one, meta in zip(fake.requests, metas, strict=True)
    ]


CHOICE = {"index": 0, "message": {"role": "assistant", "content": "x", "refusal": None}, "finish_reason": "stop"}


@given(OPTIONS)
@settings(max_examples=25, deadline=None)
def test_prepared_requests_are_those_that_are_composed(options: dict[str, Any]) -> None:
    """The first call of a client composes its request, the second copies it, and both send the same, with or without
    a slot that is taken on the way."""
    first, second = asyncio.run(sent(options, 2))
    assert first == second
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(call, "_PLAIN", frozenset())  # every body takes the general path, to the slot and to the wire
        assert asyncio.run(sent(options, 2)) == [first, second]


# ---------------------------------------------------------------- whole answers

ANSWERS = st.fixed_dictionaries(
    {"choices": st.lists(st.just(CHOICE) | st.just({"index": "0", "message": {"content": "x"}}), max_size=2)},
    optional={
        "usage": st.none(),
        "strange": st.text(max_size=3),
        "error": st.just({"message": "no"}),
        "object": st.sampled_from(["chat.completion", "error"]),
        "created": st.just("later"),
    },
)


async def decoded(body: dict[str, Any], short: bool) -> Any:
    """The answer to a call, or its error; without `short` it is decoded by the general path."""
    fake = FakeTransport(lambda request: FakeAnswer(json=body))
    async with AsyncOpenAI(api_key="k", base_url="http://h/v1", http_other={"transport": fake}) as made:
        codec = made._calls.codec(CHAT_COMPLETIONS_CREATE)  # pyright: ignore[reportPrivateUsage]
        assert codec.strictly is not None
        if not short:
            codec.strictly = None
        try:
            answer = await made.chat.completions.create(model="m", messages=MESSAGES)
        except OpenAIError as error:
            return type(error), str(error).partition(" (")[0]
        return answer.to_dict(), answer.model_dump(), repr(answer)


@given(ANSWERS)
@settings(max_examples=40, deadline=None)
def test_answers_of_both_ways_are_equal(answer: dict[str, Any]) -> None:
    """What the strict decoder takes is what the general path makes of it; errors and empty answers are left to that."""
    body = {**COMMON, "object": "chat.completion", **answer}
    assert asyncio.run(decoded(body, short=True)) == asyncio.run(decoded(body, short=False))


# ---------------------------------------------------------------- the server

PIECES = st.lists(st.text(max_size=4) | st.sampled_from(['"\u2028', "STOP", "ST"]), max_size=6)


@given(PIECES, st.sampled_from([{}, {"stop": "STOP"}, {"max_tokens": 3}, {"n": 2}]))
@settings(max_examples=20, deadline=None)
def test_pieces_of_both_ways_are_equal(pieces: list[str], more: dict[str, Any]) -> None:
    """Texts that pass through a stream or a whole answer at once are written as those that are looked at."""

    async def reply(request: Any) -> AsyncIterator[str]:
        for piece in pieces:
            yield piece

    async def answers() -> list[Any]:
        app = Server()
        app.chat("m")(reply)
        async with app.serving() as base, AsyncOpenAI(api_key="k", base_url=base) as made:
            request: Any = {"model": "m", "messages": MESSAGES, **more}
            got: list[Any] = []
            for stream in (False, True):
                response = await made.with_raw_response.post(
                    "/chat/completions", body={**request, "stream": stream}, cast_to=bytes
                )
                text = re.sub(rb'"(id|created)":("[^"]*"|[0-9]+)', b"", response.content)
                got.append(sorted(text.split(b"\n\n")))  # several choices may take turns in any order
            return got

    usual = asyncio.run(answers())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChoiceWriter, "passes", lambda writer, item: False)
        assert asyncio.run(answers()) == usual
