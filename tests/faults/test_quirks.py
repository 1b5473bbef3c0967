"""Quirks of real servers, from recordings and by hand: nothing raises that should not, nothing is lost."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from conftest import run
from openaiasync import APIError, Client, IncompleteStreamError
from real_servers.transcripts import Exchange, read_all
from scripted import LAST_CHUNK, STREAM_HEAD, answer, chunk, event
from wireserver import Peer, Server

from .invariants import at_rest

RECORDED = [exchange for exchange in read_all() if exchange.status == 200 and exchange.is_stream and not exchange.cut]
RESPONSES = [exchange for exchange in RECORDED if exchange.path.endswith("/responses") and not exchange.cut]
UNASKED = [exchange for exchange in RESPONSES if exchange.request and not exchange.request.get("stream")]
CHATS = [exchange for exchange in RECORDED if exchange.path.endswith("/chat/completions")]
HI: Any = [{"role": "user", "content": "hi"}]


def serve(units: list[bytes]) -> Any:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(b"".join(units))
        await peer.writer.drain()

    return script


def names(exchange: Exchange) -> str:
    return exchange.name.replace(" ", "-")


def test_the_recordings_are_there() -> None:
    """Streams of both servers, and answers that came as a stream though nobody had asked."""
    assert len(CHATS) > 20
    assert UNASKED
    assert len(RESPONSES) > len(UNASKED)


@pytest.mark.parametrize("exchange", UNASKED, ids=names)
def test_a_stream_nobody_asked_for_is_the_answer_it_holds(exchange: Exchange) -> None:
    """`responses.create` without `stream` answers the final response, with everything that came in it."""

    async def main() -> None:
        async with Server(serve(exchange.wire())) as server:
            async with Client(api_base=f"http://127.0.0.1:{server.port}/v1", max_retries=0) as client:
                got = await client.responses.create(input="hi", model="m")
                final = next(one["response"] for one in exchange.events if one["type"].startswith("response.comp"))
                assert got.to_dict() == final
                assert got.id == final["id"]
                assert got.meta.status == 200
                assert not at_rest(client)

    run(main())


def test_an_unasked_stream_that_is_cut_is_no_answer() -> None:
    """Cut before its terminal event, or with an error in it, it raises what the stream would have raised."""
    exchange = UNASKED[0]

    async def main() -> None:
        for pieces, error in (
            (exchange.pieces[:-1], IncompleteStreamError),
            ([*exchange.pieces[:1], b'data: {"type": "error", "message": "out of luck"}\n\n'], APIError),
        ):
            whole = answer(b"".join(pieces), content_type="text/event-stream")
            async with Server(serve([whole])) as server:
                async with Client(api_base=f"http://127.0.0.1:{server.port}/v1", max_retries=0) as client:
                    with pytest.raises(APIError) as caught:
                        await client.responses.create(input="hi", model="m")
                    assert type(caught.value) is error

    run(main())


def test_a_chat_nobody_wanted_streamed_is_put_together() -> None:
    """The same for chat completions: the accumulated chunks; truncated streams raise with the received part."""
    words = b"".join(b"data: %b\n\n" % json.dumps(chunk(word)).encode() for word in ("Hel", "lo."))
    stop = b"data: %b\n\n" % json.dumps(chunk(finish="stop")).encode()

    async def main() -> None:
        for body, text in ((words + stop + b"data: [DONE]\n\n", "Hello."), (words + stop, "Hello."), (words, None)):
            async with Server(serve([answer(body, content_type="text/event-stream")])) as server:
                async with Client(api_base=f"http://127.0.0.1:{server.port}/v1", model="m", max_retries=0) as client:
                    if text is not None:
                        assert (await client.chat("hi")).text == text
                        continue
                    with pytest.raises(IncompleteStreamError) as caught:
                        await client.chat("hi")
                    assert caught.value.partial.text == "Hello."

    run(main())


def finished(events: list[Any]) -> bool:
    """Whether every choice that these chunks show has its finish reason."""
    choices = [choice for one in events for choice in one.get("choices") or ()]
    seen = {choice["index"] for choice in choices}
    ended = {choice["index"] for choice in choices if choice.get("finish_reason")}
    return bool(ended) and seen <= ended


@pytest.mark.parametrize("exchange", CHATS, ids=names)
def test_a_recorded_stream_cut_anywhere_is_never_short_and_silent(exchange: Exchange) -> None:
    """Cut after any chunk, in the middle of it, or between: complete exactly if the events that came are."""
    raw = exchange.body
    borders = [at + 2 for at in range(len(raw) - 1) if raw[at : at + 2] == b"\n\n"]
    step = max(1, len(borders) // 6)
    cuts = sorted({0, *borders[::step], *(border - 9 for border in borders[::step]), *borders[-3:]})

    async def main() -> None:
        async def one(cut: int) -> None:
            part = exchange.heads[-1] + (b"%x\r\n%b\r\n" % (cut, raw[:cut]) if cut else b"")
            if exchange.framing != "chunk":
                part = exchange.heads[-1] + raw[:cut]
            came = raw[:cut].rpartition(b"\n\n")[0].split(b"\n\n")
            texts = [line.removeprefix(b"data: ") for line in came if line.startswith(b"data: ")]
            events = [json.loads(text.decode("utf-8", "replace")) for text in texts if text != b"[DONE]"]
            failed = any("error" in event for event in events)
            complete = not failed and (b"[DONE]" in texts or finished(events))
            async with Server(serve([part])) as server:
                async with Client(api_base=f"http://127.0.0.1:{server.port}/v1", model="m", max_retries=0) as client:
                    got: list[Any] = []
                    error: APIError | None = None
                    try:
                        async for piece in await client.chat.completions.create(messages=HI, model="m", stream=True):
                            got.append(piece)
                    except APIError as caught:
                        error = caught
                    assert (error is None) is complete, (cut, error, texts[-1:])
                    assert failed or len(got) == len(events), cut
                    assert not at_rest(client)

        await asyncio.gather(*map(one, cuts))

    run(main())


def call(index: Any = ..., key: Any = ..., name: Any = ..., arguments: Any = ...) -> dict[str, Any]:
    """A tool call's delta with just these fields."""
    function = {"name": name, "arguments": arguments}
    fields = {"index": index, "id": key, "type": "function" if key is not ... else ...}
    made = {field: value for field, value in fields.items() if value is not ...}
    return {**made, "function": {field: value for field, value in function.items() if value is not ...}}


PARIS = [("get_weather", '{"city": "Paris"}')]
TWO = [*PARIS, ("get_time", "{}")]
DIALECTS: dict[str, tuple[list[list[dict[str, Any]]], list[tuple[str, str]]]] = {
    "as described": ([[call(0, "a", "get_weather", "")], [call(0, arguments='{"city":')],
                      [call(0, arguments=' "Paris"}')]], PARIS),
    "no index": ([[call(..., "a", "get_weather", "")], [call(arguments='{"city": "Paris"}')]], PARIS),
    "index from 1": ([[call(1, "a", "get_weather", "")], [call(1, arguments='{"city": "Paris"}')]], PARIS),
    "index of null": ([[call(None, "a", "get_weather", "")], [call(None, arguments='{"city": "Paris"}')]], PARIS),
    "two entries of one index": ([[call(0, "a", "get_weather", ""), call(0, arguments='{"city": "Paris"}')]], PARIS),
    "null names": ([[call(0, "a", "get_weather", None)], [call(0, None, None, '{"city": "Paris"}')]], PARIS),
    "the id again and again": ([[call(0, "a", "get_weather", "")], [call(0, "a", ..., '{"city": "Paris"}')]], PARIS),
    "empty names": ([[call(0, "a", "get_weather", "")], [call(0, "", "", '{"city": "Paris"}')]], PARIS),
    "two, both of index 0": ([[call(0, "a", "get_weather", '{"city": "Paris"}')],
                              [call(0, "b", "get_time", "{}")]], TWO),
    "two, mixed": ([[call(0, "a", "get_weather", ""), call(1, "b", "get_time", "")],
                    [call(1, arguments="{}"), call(0, arguments='{"city": "Paris"}')]], TWO),
    "whole in one": ([[call(0, "a", "get_weather", '{"city": "Paris"}'), call(1, "b", "get_time", "{}")]], TWO),
}  # fmt: skip


@pytest.mark.parametrize("name", list(DIALECTS))
@pytest.mark.parametrize("together", [False, True], ids=["finish apart", "finish with the call"])
def test_tool_calls_of_every_dialect_are_put_together(name: str, together: bool) -> None:
    """Names and arguments come out whole and in order, over a socket, whatever marks the server uses."""
    deltas, calls = DIALECTS[name]
    chunks = [chunk() for _ in deltas]
    for one, delta in zip(chunks, deltas, strict=True):
        one["choices"][0]["delta"] = {"content": None, "tool_calls": delta}
    if together:
        chunks[-1]["choices"][0]["finish_reason"] = "tool_calls"
    else:
        chunks.append(chunk(finish="tool_calls"))

    async def main() -> None:
        body = STREAM_HEAD + b"".join(map(event, chunks)) + LAST_CHUNK  # and no [DONE]
        async with Server(serve([body])) as server:
            async with Client(api_base=f"http://127.0.0.1:{server.port}/v1", model="m") as client:
                message: Any = (await client.chat.stream("hi").final()).choices[0].message
                got = [(one.function.name, one.function.arguments) for one in message.tool_calls]
                assert got == calls

    run(main())
