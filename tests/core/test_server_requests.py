"""Requests from bytes: the same under every split, strict in framing, h11 and httptools as oracles."""

from __future__ import annotations

import contextlib
import itertools

import h11
import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.core.http.server_side import BadRequest, RequestHead, RequestParser

POST = b"POST /v1/x?a=b HTTP/1.1\r\nHost: h\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = (
    b"\r\nGET /one HTTP/1.1\r\nHost: h\r\nX-A:  spaced \t\r\n\r\n"
    + POST
    + b"Content-Length: 11\r\n\r\nhello world"
    + CHUNKED
    + b"4;name=value\r\nabcd\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    + POST
    + b"content-length: 0\r\nConnection: close\r\n\r\n"
    + b"GET http://h:80/abs?q HTTP/1.0\r\n\r\n"
    + CHUNKED
    + b"0\r\n\r\n"
)


def parse_all(parser: RequestParser, pieces: list[bytes], *, eagerly: bool = False) -> list[tuple[RequestHead, bytes]]:
    """Whole messages out of pieces of bytes; the last must be complete. `eagerly`: ends are taken by `body_ended`."""
    messages: list[tuple[RequestHead, bytes]] = []
    head: RequestHead | None = None
    body = b""
    for piece in pieces:
        parser.feed(piece)
        while (event := parser.next()) is not None:
            if isinstance(event, RequestHead):
                assert head is None
                head, body = event, b""
                if event.length == 0:
                    messages.append((head, b""))
                    head = None
            elif event:
                body += event
            if event == b"" or (event and head is not None and eagerly and parser.body_ended()):
                assert head is not None
                messages.append((head, body))
                head = None
    assert head is None
    assert parser.buffered == 0
    return messages


def refusal(data: bytes, parser: RequestParser | None = None) -> int:
    with pytest.raises(BadRequest) as caught:
        parse_all(parser or RequestParser(), [data])
    assert caught.value.message
    return caught.value.status


def test_messages_come_out_whole() -> None:
    """Heads, bodies by length and in chunks, trailers dropped, absolute targets, in order."""
    messages = parse_all(RequestParser(), [WHOLE])
    assert [body for _, body in messages] == [b"", b"hello world", b"abcd0123456789", b"", b"", b""]
    heads = [head for head, _ in messages]
    assert [head.method for head in heads] == ["GET", "POST", "POST", "POST", "GET", "POST"]
    assert [head.length for head in heads] == [0, 11, None, 0, 0, None]
    assert heads[0].fields == [(b"host", b"h"), (b"x-a", b"spaced")]
    assert (heads[1].path, heads[1].query) == ("/v1/x", b"a=b")
    assert [head.keep_alive for head in heads] == [True, True, True, False, False, True]
    assert (heads[4].raw_path, heads[4].query, heads[4].version) == (b"/abs", b"q", "1.0")


@given(st.lists(st.integers(1, len(WHOLE) - 1), max_size=12))
def test_any_split_gives_the_same(cuts: list[int]) -> None:
    """Where the network cuts the bytes does not matter."""
    places = [0, *sorted(set(cuts)), len(WHOLE)]
    pieces = [WHOLE[start:end] for start, end in itertools.pairwise(places)]
    whole = parse_all(RequestParser(), [WHOLE])
    assert parse_all(RequestParser(), pieces) == whole
    assert parse_all(RequestParser(), pieces, eagerly=True) == whole


def test_single_bytes_give_the_same() -> None:
    pieces = [WHOLE[place : place + 1] for place in range(len(WHOLE))]
    assert parse_all(RequestParser(), pieces) == parse_all(RequestParser(), [WHOLE])


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        (b"GET /\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),  # a TLS hello
        (b"\r\n" * 9, 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
        (POST + b"Content-Length: 1, 1\r\n\r\nx", 400),
        (POST + b"Content-Length: +1\r\n\r\nx", 400),
        (POST + b"Content-Length: -1\r\n\r\nx", 400),
        (POST + b"Content-Length: 0x1\r\n\r\nx", 400),
        (POST + b"Content-Length: 1_0\r\n\r\nx", 400),
        (POST + b"Content-Length: \r\n\r\n", 400),
        (POST + b"Content-Length: \xb2\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
        (POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nExpect: something\r\n\r\nx", 417),
        (CHUNKED + b"\r\n\r\n", 400),
        (CHUNKED + b"g\r\n\r\n", 400),
        (CHUNKED + b"0x1\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"+1\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b" 1\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1 \r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1\r\nab\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1\r\na0\r\n\r\n", 400),
        (CHUNKED + b"11111111111111111\r\na", 400),
        (CHUNKED + b"1;" + b"x" * 2000, 400),
        (CHUNKED + b"0\r\nbad trailer\r\n\r\n", 400),
        (CHUNKED + b"0\r\n" + b"A: b\r\n" * 9000 + b"\r\n", 400),
    ],
)
def test_doubtful_requests_are_refused(data: bytes, status: int) -> None:
    """Nothing is guessed: what two parsers could understand in two ways is refused."""
    assert refusal(data) == status


def test_caps() -> None:
    """Heads, fields and bodies have their limits, each with its status, known as early as possible."""
    parser = RequestParser(max_head=1000, max_fields=5, max_body=100)
    assert refusal(b"GET /" + b"a" * 2000, parser) == 414
    parser = RequestParser(max_head=1000, max_fields=5, max_body=100)
    assert refusal(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2000, parser) == 431
    parser = RequestParser(max_head=1000, max_fields=5, max_body=100)
    assert refusal(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5 + b"\r\n", parser) == 431
    parser = RequestParser(max_head=1000, max_fields=5, max_body=100)
    assert refusal(POST + b"Content-Length: 101\r\n\r\n", parser) == 413
    parser = RequestParser(max_head=1000, max_fields=5, max_body=100)
    assert refusal(CHUNKED + b"64\r\n" + b"a" * 100 + b"\r\n1\r\n", parser) == 413
    parser = RequestParser(max_head=1000, max_fields=5, max_body=100)
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    assert parse_all(parser, [head + b"a" * (1000 - len(head)) + b"\r\n\r\n"])


def test_dripped_head_costs_linear_time() -> None:
    """64 KB in single bytes are searched once, not once for each byte."""
    parser = RequestParser(max_head=10_000_000)
    parser.feed(b"GET / HTTP/1.1\r\nHost: a\r\n")
    for _ in range(100_000):
        parser.feed(b"X: aaaaaaaaaaa\r\n"[:16])
        assert parser.next() is None
    assert parser.buffered > 1_500_000


def test_blank_values_cost_linear_time() -> None:
    """A value of nothing but blanks does not make the pattern try every end of it."""
    value = b" " * 60_000 + b"x" + b" " * 4000
    head = parse_all(RequestParser(max_head=100_000), [b"GET / HTTP/1.1\r\nHost: a\r\nX:" + value + b"\r\n\r\n"])[0][0]
    assert head.fields[1] == (b"x", b"x")


def test_paths_are_decoded() -> None:
    [(head, _)] = parse_all(RequestParser(), [b"GET /models/a%2Fb%20%C3%A9 HTTP/1.1\r\nHost: a\r\n\r\n"])
    assert head.path == "/models/a/b é"
    assert head.raw_path == b"/models/a%2Fb%20%C3%A9"


def test_expectation_needs_a_body() -> None:
    """``Expect: 100-continue`` counts only where there is a body to wait for, and not in HTTP/1.0."""
    expect = b"Expect: 100-Continue\r\n"
    heads = [
        parse_all(RequestParser(), [data])[0][0]
        for data in (
            POST + expect + b"Content-Length: 1\r\n\r\nx",
            POST + expect + b"\r\n",
            POST.replace(b"1.1", b"1.0") + expect + b"Content-Length: 1\r\n\r\nx",
        )
    ]
    assert [head.expects_continue for head in heads] == [True, False, False]


token = st.text("abcdefXYZ-_!~", min_size=1, max_size=12).filter(lambda name: name.lower() not in ("host", "expect"))
value = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)


@given(
    st.sampled_from(["GET", "POST", "DELETE", "X-CUSTOM"]),
    st.lists(st.tuples(token, value), max_size=6),
    st.binary(max_size=200),
    st.booleans(),
)
def test_what_h11_writes_is_read(method: str, fields: list[tuple[str, str]], body: bytes, chunked: bool) -> None:
    """Every request that h11 makes is taken, and means the same."""
    framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))
    client = h11.Connection(h11.CLIENT)
    wire = client.send(h11.Request(method=method, target="/p?q", headers=[("Host", "h"), *fields, framing]))
    wire = (wire or b"") + (client.send(h11.Data(data=body)) or b"") + (client.send(h11.EndOfMessage()) or b"")
    [(head, read)] = parse_all(RequestParser(), [wire])
    assert (head.method, head.raw_path, head.query, read) == (method, b"/p", b"q", body)
    given_fields = [(name.lower().encode(), text.encode()) for name, text in fields]
    assert [pair for pair in head.fields if pair[0] not in (b"host", framing[0].lower().encode())] == given_fields


class _Tools:
    """httptools' view of the first message."""

    def __init__(self) -> None:
        self.body = b""
        self.done = False

    def on_body(self, body: bytes) -> None:
        if not self.done:
            self.body += body

    def on_message_complete(self) -> None:
        self.done = True


@given(st.binary(max_size=6), st.integers(0, len(WHOLE) - 1), st.sampled_from(["insert", "replace", "delete"]))
def test_no_message_is_understood_differently(noise: bytes, place: int, how: str) -> None:
    """Whatever is accepted after damage, h11 or httptools accept with the same body: nothing can be smuggled."""
    message = CHUNKED + b"4\r\nabcd\r\nA\r\n0123456789\r\n0\r\n\r\n"
    place %= len(message)
    after = place if how == "insert" else place + len(noise) if how == "replace" else place + 1
    damaged = message[:place] + (b"" if how == "delete" else noise) + message[after:]
    parser = RequestParser()
    parser.feed(damaged)
    body = b""
    try:
        head = parser.next()
        if head is None:
            return
        assert isinstance(head, RequestHead)
        while head.length != 0 and (event := parser.next()):
            assert isinstance(event, bytes)
            body += event
        if head.length != 0 and event is None:
            return  # not complete: the connection would wait
    except BadRequest:
        return
    assert body in (_by_h11(damaged), _by_httptools(damaged))


def _by_h11(data: bytes) -> bytes | None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(data)
    body = b""
    try:
        while True:
            event = server.next_event()
            if isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return body
            elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return None
    except h11.RemoteProtocolError:
        return None


def _by_httptools(data: bytes) -> bytes | None:
    seen = _Tools()
    with contextlib.suppress(httptools.HttpParserError):
        httptools.HttpRequestParser(seen).feed_data(data)
    return seen.body if seen.done else None
