"""What passes a front is the same bytes, whatever their form and however they arrive; odd upstreams and clients."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import random
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import run
from cputime import assert_linear
from openaiasync.server import FrontUpstream
from openaiasync.server.front.passing import EventBoundary, request_fields, response_fields

from .fronts import chat, fronting
from .wire import Wire, request

CHAT = "/v1/chat/completions"
OK = b"HTTP/1.1 200 OK\r\n"
EVENTS = b"content-type: text/event-stream\r\n"
chance = random.Random(7)


class Upstream:
    """A server that sends prepared bytes, piece by piece, to each request and keeps what it received."""

    def __init__(self, pieces: Sequence[bytes], *, close: bool) -> None:
        self._pieces = pieces
        self._close = close
        self.received: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                body = await reader.readexactly(int(length[1])) if length else b""
                self.received.append(head + body)
                for piece in self._pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if self._close:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def upstream(*pieces: bytes, close: bool = False) -> AsyncGenerator[tuple[Upstream, str]]:
    """Such a server, and its base URL."""
    made = Upstream(pieces, close=close)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with server:
        yield made, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def cut(data: bytes, largest: int) -> list[bytes]:
    """The data in pieces of random sizes."""
    pieces = []
    at = 0
    while at < len(data):
        size = chance.randint(1, largest)
        pieces.append(data[at : at + size])
        at += size
    return pieces


def chunked(data: bytes, largest: int) -> bytes:
    """The data in chunks of random sizes, with extensions and trailers."""
    made = b"".join(b"%x%s\r\n%s\r\n" % (len(one), chance.choice([b"", b";a=b"]), one) for one in cut(data, largest))
    return made + b"0\r\nX-Trailer: 1\r\n\r\n"


def events(count: int) -> bytes:
    """An event stream with comments, names and all line endings."""
    made = ""
    for number in range(count):
        end = chance.choice(["\n", "\r\n", "\r"])
        made += chance.choice([": comment", "event: x", "id: 7", "retry: 5"]) + end
        made += f'data: {{"n": {number}, "t": "é☃{"x" * (number % 97)}"}}{end}{end}'
    return made.encode()


EVENT_STREAM = events(400)
BODIES = {
    "sound": (b"content-type: audio/mpeg\r\n", chance.randbytes(700_000)),
    "JSON": (b"content-type: application/json\r\n", b'{"x" : "' + b"y" * 600_000 + b'"}'),
    "a short JSON": (b"content-type: application/json\r\n", b'{ "x":1 }\n'),
    "events": (EVENTS, b"\xef\xbb\xbf" + EVENT_STREAM + b"data: [DONE]\n\n"),
    "events that are zipped": (
        EVENTS + b"content-encoding: gzip\r\n",
        gzip.compress(EVENT_STREAM * 3 + b"data: [DONE]\n\n", mtime=0),
    ),
    "bytes that are not the named coding": (b"content-encoding: br\r\n", chance.randbytes(100_000)),
    "nothing": (b"", b""),
}


@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
@pytest.mark.parametrize("name", BODIES)
def test_answers_pass_byte_for_byte(name: str, framing: str) -> None:
    """Whole, chunked and until the end of the connection, over odd pieces: the same hash on both sides."""
    fields, body = BODIES[name]
    if framing == "length":
        raw = OK + fields + b"content-length: %d\r\n\r\n" % len(body) + body
    elif framing == "chunks":
        raw = OK + fields + b"transfer-encoding: chunked\r\n\r\n" + chunked(body, 9000)
    else:
        raw = OK + fields + b"connection: close\r\n\r\n" + body

    async def main() -> None:
        async with upstream(*cut(raw, 5000), close=framing == "close") as (_, url), fronting(url) as (_, _, wire):
            for _ in range(2):
                answer = await wire.call("POST", CHAT, chat(), {"Accept-Encoding": "gzip"})
                assert (answer.status, len(answer.body)) == (200, len(body))
                assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()

    run(main())


@pytest.mark.parametrize("size", [0, 1, 70_000, 1_500_000])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "application/octet-stream"])
def test_requests_pass_byte_for_byte(size: int, kind: str) -> None:
    """Bodies of any kind and size, sent in odd pieces, with a length or in chunks."""
    body = chance.randbytes(size)

    async def main() -> None:
        answer = OK + b"content-length: 2\r\n\r\nok"
        async with upstream(answer) as (seen, url), fronting(url) as (_, _, wire):
            fields = {"Content-Type": kind, "Content-Length": str(size)}
            for piece in [request("POST", "/v1/files", None, fields), *cut(body, 60_000)]:
                await wire.send(piece)
            assert (await wire.answer("POST")).body == b"ok"
            sent = seen.received[0].partition(b"\r\n\r\n")[2]
            assert hashlib.sha256(sent).digest() == hashlib.sha256(body).digest()

    run(main())


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
            + OK
            + b"content-length: 1\r\n\r\n1",
            200,
            b"1",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n", 304, b""),
        (b"HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-0/9\r\ncontent-length: 1\r\n\r\n1", 206, b"1"),
        (b"HTTP/1.1 299 Odd\r\ncontent-length: 1\r\n\r\n1", 299, b"1"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", 200, b"old"),
        (b"HTTP/1.1 402 Payment Required\r\ncontent-length: 3\r\n\r\npay", 402, b"pay"),
        (
            b"HTTP/1.1 400 Bad\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n" + gzip.compress(b"no", mtime=0),
            400,
            b"no",
        ),
    ],
)
def test_statuses(raw: bytes, status: int, body: bytes) -> None:
    """Interim responses are not passed on; final ones are, whatever their status."""

    async def main() -> None:
        close = b"length" not in raw and status not in (204, 304)
        async with upstream(raw, close=close) as (_, url), fronting(url, max_retries=0) as (_, _, wire):
            for _ in range(2):
                answer = await wire.call("GET", "/v1/files/x/content")
                assert (answer.status, answer.body, wire.informational) == (status, body, [])

    run(main())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_redirect_elsewhere_never_takes_the_key_along(status: int, method: str) -> None:
    """A redirect to another origin reaches the client, and the other server sees nothing."""

    async def main() -> None:
        async with upstream(OK + b"content-length: 0\r\n\r\n") as (thief, elsewhere):
            raw = b"HTTP/1.1 %d X\r\nlocation: %s/x\r\ncontent-length: 0\r\n\r\n" % (status, elsewhere.encode())
            async with upstream(raw) as (_, url), fronting(FrontUpstream(url, "sk-front")) as (_, _, wire):
                answer = await wire.call(method, "/v1/files/x", chat() if method == "POST" else None)
                assert (answer.status, answer.fields["location"]) == (status, f"{elsewhere}/x")
                assert thief.received == []

    run(main())


NAMES = [
    "Connection",
    "connection",
    "Keep-Alive",
    "Date",
    "X-A",
    "x-b",
    "Set-Cookie",
    "Content-Length",
    "X-RateLimit-A",
]
LINES = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["close", "keep-alive", "x-a, X-B", " 1\t", ""])))


@given(LINES, st.booleans())
def test_fields_of_a_response(lines: list[tuple[str, str]], limited: bool) -> None:
    """All are passed on but those of the connection, the ones it names, and limits where the front has its own."""
    raw = b"".join(f"{name}: {value}\r\n".encode() for name, value in lines)
    expected = [(name.lower(), value.strip()) for name, value in lines]
    named = {one.strip() for name, value in expected if name == "connection" for one in value.lower().split(",")}
    left_out = {"connection", "keep-alive", "date", *named} | ({"x-ratelimit-a"} if limited else set())
    for _ in range(2):  # the second time the lines are known
        made = response_fields(raw, prefixes=(b"x-ratelimit-",) if limited else ())
        assert [(name.decode(), value.decode()) for name, value in made] == [
            field for field in expected if field[0] not in left_out
        ]


@given(LINES, st.booleans())
def test_fields_of_a_request(lines: list[tuple[str, str]], keyed: bool) -> None:
    """All are passed on but those of the connection, the ones it names, and the key where the front has one."""
    sent = [(name.lower(), value.strip()) for name, value in [*lines, ("Authorization", "Bearer k"), ("Host", "h")]]
    named = {one.strip() for name, value in sent if name == "connection" for one in value.lower().split(",")}
    left_out = {"connection", "keep-alive", "content-length", "host"} | (named - {"keep-alive", "close"})
    kept, varying = request_fields(
        [(name.encode(), value.encode()) for name, value in sent], {b"authorization"} if keyed else set()
    )
    assert [(name.decode(), value.decode()) for name, value in kept] == [
        field for field in sent if field[0] not in left_out | {"authorization"}
    ]
    assert varying == (None if keyed else {"authorization": "Bearer k"})


def test_a_client_of_http_1_0() -> None:
    """It gets a stream until the connection's end, without chunks."""

    async def main() -> None:
        body = b"data: 1\n\ndata: [DONE]\n\n"
        raw = OK + EVENTS + b"transfer-encoding: chunked\r\n\r\n" + chunked(body, 5)
        async with upstream(raw) as (_, url), fronting(url) as (_, _, wire):
            await wire.send(b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}")
            async with asyncio.timeout(10):
                head, _, received = (await wire.reader.read()).partition(b"\r\n\r\n")
            assert received == body
            assert b"chunked" not in head

    run(main())


def test_events_of_any_line_ending_are_not_held_back() -> None:
    """An event ends with an empty line, which CR, LF or CRLF may end (WHATWG HTML, 9.2.5)."""

    async def main() -> None:
        for end in (b"\n", b"\r\n", b"\r"):
            event = b"data: 1" + end + end
            raw = OK + EVENTS + b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(event), event)
            async with upstream(raw) as (_, url), fronting(url) as (_, server, _), Wire(server) as wire:
                await wire.send(request("POST", CHAT, chat(stream=True)))
                async with asyncio.timeout(10):
                    await wire.reader.readuntil(b"data: 1")

    run(main())


@given(st.lists(st.text("\r\nd:", max_size=4).map(str.encode)))
def test_events_are_passed_on_as_soon_as_they_are_whole(pieces: list[bytes]) -> None:
    """However they are cut: everything up to the last empty line, at once, and nothing else before the end."""
    boundary, held = EventBoundary(), b""
    for piece in pieces:
        held += piece
        end = max((held.rfind(one) + len(one) for one in (b"\n\n", b"\n\r\n", b"\r\r") if one in held), default=0)
        assert boundary.feed(piece) == held[:end]
        held = held[end:]
    assert boundary.finish() == held


def test_a_long_event_in_small_pieces_is_linear_work() -> None:
    """A server that drips an event of a megabyte must not stop the others."""

    def drip(count: int) -> None:
        boundary = EventBoundary()
        for _ in range(count):
            assert boundary.feed(b"data: xy") == b""
        assert boundary.feed(b"\n\n") == b"data: xy" * count + b"\n\n"

    assert_linear(drip, 10_000)
