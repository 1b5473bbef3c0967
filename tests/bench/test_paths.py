"""The short ways that usual calls take do what the general ways do."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from openaiasync import Client
from openaiasync.core.codec.encode import encode_json, plain
from openaiasync.core.codec.endpoint import Endpoint
from openaiasync.core.model.omitted import omit
from openaiasync.endpoints import CHAT_COMPLETIONS_CREATE

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
    names = {*vars(made), "as_base64", "max_retries", "response_format"} - {"endpoint", "timeout", "deadline"}
    return {name: getattr(made, name) for name in names}


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
    """The passes in C let nothing through that the walk would have changed: no marker is ever in what is sent."""

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
