"""`openaiasync.bridge.bridged_response`: event streams through the bridge are complete or an error."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

import wireserver
from conftest import run
from openaiasync import APIConnectionError
from openaiasync.bridge import bridged_response as answers
from openaiasync.core.http import sse
from openaiasync.core.http.sse import SSEDecoder
from openaiasync.endpoints import CHAT_COMPLETIONS_CREATE
from scripted import (
    CHAT,
    LAST_CHUNK,
    STREAM_HEAD,
    Seen,
    answer,
    chat,
    chunk,
    event,
    events,
    head,
    json_answer,
    scripted,
)

from .bridging import bridged, cut, in_turn, stuck


def raw_event(text: str) -> bytes:
    """One chunk of a chunked body, as it is."""
    raw = text.encode()
    return b"%x\r\n%s\r\n" % (len(raw), raw)


FIRST = STREAM_HEAD + event(chunk("Hel"))
ENDED = FIRST + event(chunk(finish="stop"))
RESPONSE = STREAM_HEAD + raw_event('event: response.created\ndata: {"type": "response.created", "response": {}}\n\n')
ASSISTANT = STREAM_HEAD + raw_event('event: thread.run.created\ndata: {"id": "run_1"}\n\n')

COMPLETE = {
    "[DONE]": FIRST + event("[DONE]") + LAST_CHUNK,
    "finish reason without [DONE]": ENDED + LAST_CHUNK,
    "finish reason, and then the connection breaks": ENDED,
    "two choices": STREAM_HEAD + event(chunk("a", "stop", 0)) + event(chunk("b", "stop", 1)) + LAST_CHUNK,
    "response.completed": RESPONSE + event({"type": "response.completed", "response": {}}) + LAST_CHUNK,
    "an assistant's done": ASSISTANT + raw_event("event: done\ndata: [DONE]\n\n") + LAST_CHUNK,
    "an assistant's run": ASSISTANT + raw_event("event: thread.run.completed\ndata: {}\n\n") + LAST_CHUNK,
    "an error object, which the reader raises": FIRST + event({"error": {"message": "no"}}) + LAST_CHUNK,
    "an error event": FIRST + raw_event('event: error\ndata: {"message": "no"}\n\n') + LAST_CHUNK,
    "carriage returns": FIRST + raw_event("data: [DONE]\r\n\r\n") + LAST_CHUNK,
    "one of two choices ends, exactly": ENDED + event(chunk("b", index=1)) + LAST_CHUNK,
    "blanks around [DONE]": ENDED + raw_event("data:  [DONE] \n\n") + LAST_CHUNK,
    "frames that say nothing": FIRST
    + raw_event("data:\n\nevent: ping\ndata: {}\n\ndata: null\n\n")
    + event(chunk(finish="stop"))
    + LAST_CHUNK,
    "numbers that count up": FIRST + event(chunk("lo", index=1)) + event(chunk(finish="stop", index=2)),
}
BROKEN = {
    "a clean end without finish reason": FIRST + LAST_CHUNK,
    "[DONE] without a finish reason, cut": FIRST + event("[DONE]"),
    "words of the server in the middle": FIRST + raw_event("out of luck\n") + LAST_CHUNK,
    "an event cut in the middle": FIRST + raw_event("data: [DO") + LAST_CHUNK,
    "a response without its end": RESPONSE + LAST_CHUNK,
    "an assistant without its end": ASSISTANT + LAST_CHUNK,
    "events that are no objects": FIRST + event("7") + event("nonsense") + LAST_CHUNK,
    "the connection is closed": FIRST,
    "the connection is closed in a chunk": FIRST + b"20\r\ndata: ",
    "framing that is none": FIRST + b"zzz\r\n",
}


async def read(http: httpx2.AsyncClient, got: list[bytes], path: str = "/chat/completions") -> None:
    async with http.stream("POST", path, json={"stream": True}) as response:
        assert response.status_code == 200
        async for piece in response.aiter_bytes():
            got.append(piece)


def body_of(raw: bytes) -> bytes:
    """The events of a scripted stream, without head and chunks."""
    body, left = b"", raw.split(b"\r\n\r\n", 1)[1]
    while left and not left.startswith(b"0\r\n"):
        size, left = left.split(b"\r\n", 1)
        body, left = body + left[: int(size, 16)], left[int(size, 16) + 2 :]
    return body


@pytest.mark.parametrize("name", COMPLETE)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_complete_stream_ends(name: str, at_once: bool) -> None:
    """Each way in which an answer may end is an end, and every byte came through."""
    raw = COMPLETE[name]

    async def piecemeal(seen: Seen, writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(raw), 7):
            writer.write(raw[start : start + 7])
            await asyncio.sleep(0)
            await writer.drain()
        writer.close()

    async def main() -> None:
        async with scripted(cut(raw) if at_once else piecemeal) as server, bridged(server.url) as http:
            got: list[bytes] = []
            await read(http, got)
            assert b"".join(got) == body_of(raw)

    run(main())


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_stream_raises(name: str) -> None:
    """Any other end of a stream raises after the received events were delivered, without a retry."""

    async def main() -> None:
        async with scripted(cut(BROKEN[name])) as server, bridged(server.url, max_retries=2) as http:
            got: list[bytes] = []
            with pytest.raises(httpx2.RemoteProtocolError) as caught:
                await read(http, got)
            assert b"".join(got).startswith(b"data: {" if b"data: {" in got[0][:7] else b"event: ")
            assert caught.value.request.url.path == "/v1/chat/completions"
            assert len(server.seen) == 1

    run(main())


def test_a_reset_is_a_read_error() -> None:
    """A connection that is reset in mid-stream is a ReadError."""

    async def script(peer: wireserver.Peer) -> None:
        await peer.request()
        await peer.send(FIRST)
        await asyncio.sleep(0.05)
        peer.reset()

    async def main() -> None:
        async with wireserver.Server(script) as server, bridged(f"http://127.0.0.1:{server.port}") as http:
            got: list[bytes] = []
            with pytest.raises(httpx2.ReadError):
                await read(http, got)
            assert got

    run(main())


def test_a_stream_that_stops_is_a_read_timeout() -> None:
    """Without an event for as long as `read` allows, and be it that comments come, the stream times out."""

    async def pings(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(FIRST)
        while True:
            writer.write(raw_event(": ping\n\n"))
            await writer.drain()
            await asyncio.sleep(0.01)

    async def main() -> None:
        async with scripted(in_turn(stuck(FIRST), pings)) as server:
            async with bridged(server.url, httpx2.Timeout(30.0, read=0.2)) as http:
                for _ in range(2):
                    got: list[bytes] = []
                    with pytest.raises(httpx2.ReadTimeout):
                        await read(http, got)
                    assert b"Hel" in got[0]

    run(main())


def test_events_that_keep_coming_outlast_the_read_timeout() -> None:
    """Each event begins the stall clock anew."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        for _ in range(12):
            writer.write(event(chunk("a")))
            await writer.drain()
            await asyncio.sleep(0.1)
        writer.write(event(chunk(finish="stop")) + LAST_CHUNK)

    async def main() -> None:
        async with scripted(script) as server:
            async with bridged(server.url, httpx2.Timeout(30.0, read=1.0)) as http:
                got: list[bytes] = []
                await read(http, got)
                assert b"".join(got).count(b"data:") == 13

    run(main())


@pytest.mark.parametrize("first", [cut(STREAM_HEAD), cut(STREAM_HEAD + raw_event(": ping\n\n")), cut(b"")])
def test_what_breaks_before_the_first_event_is_tried_again(first: Any) -> None:
    """Until an event came nothing is handed out, and the caller sees one answer."""

    async def main() -> None:
        async with scripted(in_turn(first, chat)) as server, bridged(server.url, max_retries=1) as http:
            got: list[bytes] = []
            await read(http, got)
            assert b"".join(got).endswith(b"data: [DONE]\n\n")
            assert len(server.seen) == 2

    run(main())


def test_a_retry_leaves_its_slot_during_its_pause() -> None:
    """What is tried again before its first event still counts: nobody else comes between."""

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.method == "POST":
            writer.write(FIRST)
            await writer.drain()
            await asyncio.sleep(0.2)
            gc.collect()  # what is left of the first try must not end the second
            await asyncio.sleep(0.1)
            writer.write(event("[DONE]") + LAST_CHUNK)
        else:
            writer.write(json_answer({}))

    async def torn(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    async def main() -> None:
        async with scripted(in_turn(torn, slow)) as server:
            async with bridged(server.url, http_max_in_flight=1, max_retries=1) as http:
                stream = asyncio.create_task(read(http, []))
                await wireserver.until(lambda: bool(server.seen))
                await http.get("/models")
                await stream
                assert ([one.method for one in server.seen], server.peak) == (["POST", "GET", "POST"], 1)

    run(main())


def test_the_cause_is_told() -> None:
    """Behind the exception of httpx2 stands ours, whether anything was handed out or not."""

    async def main() -> None:
        async with scripted(in_turn(cut(b""), cut(FIRST))) as server, bridged(server.url) as http:
            for _ in range(2):
                with pytest.raises(httpx2.RemoteProtocolError) as caught:
                    await read(http, [])
                assert isinstance(caught.value.__cause__, APIConnectionError)

    run(main())


def test_a_stream_without_any_event_raises() -> None:
    """An event stream that ends properly without an event is not an answer."""

    async def main() -> None:
        async with scripted(in_turn(STREAM_HEAD + LAST_CHUNK)) as server, bridged(server.url) as http:
            with pytest.raises(httpx2.RemoteProtocolError, match="complete"):
                await read(http, [])

    run(main())


@pytest.mark.parametrize("raw", [json_answer({"error": {"message": "no such key: sk-secret-key"}}), answer(b"<html>")])
def test_no_events_where_events_were_asked_for(raw: bytes) -> None:
    """Anything but events raises, where the official client would read an empty stream; the key is not quoted."""

    async def main() -> None:
        async with scripted(in_turn(raw)) as server, bridged(server.url) as http:
            http.headers["Authorization"] = "Bearer sk-secret-key"
            with pytest.raises(httpx2.RemoteProtocolError) as caught:
                await read(http, [])
            assert "sk-secret-key" not in str(caught.value)

    run(main())


def test_a_packed_stream_is_watched_too() -> None:
    """A gzipped stream is unpacked on its way, and raises when it is short."""

    async def main() -> None:
        def packed(body: bytes) -> bytes:
            raw = gzip.compress(body)
            fields = {"Content_Type": "text/event-stream", "Content_Encoding": "gzip"}
            return head(Content_Length=str(len(raw)), **fields) + raw

        whole, short = body_of(COMPLETE["[DONE]"]), body_of(BROKEN["a clean end without finish reason"])
        async with scripted(in_turn(packed(whole), packed(short))) as server, bridged(server.url) as http:
            got: list[bytes] = []
            await read(http, got)
            assert b"".join(got) == whole
            with pytest.raises(httpx2.RemoteProtocolError):
                await read(http, [])

    run(main())


def test_a_connection_is_used_again_after_done() -> None:
    """Who stops reading at [DONE], as the official client does, gives the connection back in good order."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(events([chunk("a"), chunk(finish="stop")])[: -len(LAST_CHUNK)])
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(LAST_CHUNK)

    async def main() -> None:
        async with scripted(script) as server, bridged(server.url) as http:
            for _ in range(3):
                async with http.stream("POST", "/chat/completions", json={"stream": True}) as response:
                    lines = response.aiter_lines()
                    while await anext(lines) != "data: [DONE]":
                        pass
            assert server.connections == 1

    run(main())


def test_leaving_early_frees_place_and_connection() -> None:
    """A stream that is left before its end is dropped at once."""

    async def main() -> None:
        async with wireserver.Server(_endless) as server:
            async with bridged(f"http://127.0.0.1:{server.port}", http_max_in_flight=1) as http:
                for _ in range(2):
                    async with http.stream("POST", "/chat/completions", json={"stream": True}) as response:
                        assert b"data" in await anext(response.aiter_raw())
                    await server.settled()

    run(main())


async def _endless(peer: wireserver.Peer) -> None:
    await peer.request()
    await peer.send(STREAM_HEAD)
    with contextlib.suppress(OSError):
        while True:
            await peer.send(event(chunk("a")))
            await asyncio.sleep(0.005)


def test_events_have_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event over the cap ends the stream instead of filling the memory."""
    monkeypatch.setattr(sse, "SSEDecoder", lambda: SSEDecoder(max_event=1000))

    async def main() -> None:
        long = STREAM_HEAD + event(chunk("x" * 2000)) + event("[DONE]") + LAST_CHUNK
        async with scripted(in_turn(long)) as server, bridged(server.url) as http:
            with pytest.raises(httpx2.RemoteProtocolError, match="larger than 1000"):
                await read(http, [])

    run(main())


EVENTS: list[tuple[str, Callable[[answers.Watch], bool]]] = [
    ('{"choices": 7, "type": {"a": 1}}', lambda watch: not watch.complete),
    ('{"choices": [{"index": 0, "finish_reason": "stop"}]}', lambda watch: watch.complete),
    ('{"choices": [{"index": 0, "delta": {}}]}', lambda watch: not watch.complete),
    ('{"type": "response.failed"}', lambda watch: watch.complete),
    ("[DONE]", lambda watch: watch.done and watch.verdict(exact=True) == "short"),
]


@pytest.mark.parametrize(("data", "holds"), EVENTS, ids=[data[:30] for data, _ in EVENTS])
def test_what_is_seen_of_an_event(data: str, holds: Callable[[answers.Watch], bool]) -> None:
    """Chunks, typed events and other data are distinguished, in pieces of any size."""
    watch = answers.Watch(CHAT_COMPLETIONS_CREATE, b"{}")
    for byte in f"data: {data}\n\n".encode():
        watch.feed(bytes([byte]))
    assert watch.events == 1
    assert holds(watch)


LABELS = ["text/plain", "application/json", "application/octet-stream", ""]
WHOLE = [chunk("Hel"), chunk("lo."), chunk(finish="stop")]
EVENTS_OF = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in WHOLE) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("label", LABELS)
def test_events_are_passed_on_under_any_label(label: str) -> None:
    """Byte for byte; cut ones raise under any label, too."""

    async def main() -> None:
        raw = answer(EVENTS_OF, content_type=label)
        async with scripted(in_turn(raw)) as server, bridged(server.url) as http:
            got: list[bytes] = []
            await read(http, got)
            assert b"".join(got) == EVENTS_OF
        short = answer(EVENTS_OF[: EVENTS_OF.index(b"lo.")], content_type=label)
        async with scripted(in_turn(short)) as server, bridged(server.url) as http:
            with pytest.raises(httpx2.RemoteProtocolError):
                await read(http, [])

    run(main())


@pytest.mark.parametrize("label", ["application/json", "text/event-stream"])
def test_a_whole_object_becomes_events(label: str) -> None:
    """Where a stream was asked for: one chunk, and `[DONE]`."""

    async def main() -> None:
        raw = answer(json.dumps(CHAT).encode(), content_type=label)
        async with scripted(in_turn(raw)) as server, bridged(server.url) as http:
            async with http.stream("POST", "/chat/completions", json={"stream": True}) as response:
                assert response.headers["content-type"] == "text/event-stream"
                first, done, rest = (await response.aread()).split(b"\n\n")
            made = json.loads(first.removeprefix(b"data: "))
            assert made["choices"][0]["delta"]["content"] == "Hello."
            assert made["choices"][0]["finish_reason"] == "stop"
            assert (done, rest) == (b"data: [DONE]", b"")

    run(main())


@pytest.mark.parametrize("label", ["application/json", "text/event-stream"])
def test_events_nobody_asked_for_become_the_answer(label: str) -> None:
    """Where one object was asked for: the chunks put together, as JSON; short ones raise."""

    async def main() -> None:
        async with scripted(in_turn(answer(EVENTS_OF, content_type=label))) as server, bridged(server.url) as http:
            response = await http.post("/chat/completions", json={"messages": []})
            assert response.headers["content-type"] == "application/json"
            assert response.json()["choices"][0]["message"]["content"] == "Hello."
        short = answer(EVENTS_OF[: EVENTS_OF.index(b"data: [DONE]") // 3], content_type=label)
        async with scripted(in_turn(short)) as server, bridged(server.url) as http:
            with pytest.raises(httpx2.RemoteProtocolError):
                await http.post("/chat/completions", json={"messages": []})

    run(main())


def test_the_end_of_the_message_decides_where_no_endpoint_is_named() -> None:
    """A server's own path streams whatever it likes."""

    async def main() -> None:
        raw = STREAM_HEAD + event({"content": "Hel"}) + event({"content": "lo.", "stop": True}) + LAST_CHUNK
        async with scripted(in_turn(raw)) as server, bridged(server.url) as http:
            await read(http, [], "/completion")
        async with scripted(cut(raw.removesuffix(LAST_CHUNK))) as server, bridged(server.url) as http:
            with pytest.raises(httpx2.RemoteProtocolError):
                await read(http, [], "/completion")

    run(main())
