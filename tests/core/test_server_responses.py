"""Answers to bytes: h11 understands each as it was meant."""

from __future__ import annotations

from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.core.http import server_side
from openaiasync.core.http.server_side import RequestHead, ResponseFraming
from openaiasync.server.http_exchange import error_response

LENGTH = (b"content-length", b"5")


def head(method: str = "GET", version: str = "1.1") -> RequestHead:
    return RequestHead(method, b"/", b"", version, [], 0, version == "1.1", False)


def understood(data: bytes, method: str = "GET") -> tuple[int, dict[bytes, bytes], bytes, bool]:
    """Status, fields, body, and whether h11 would use the connection again."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            client.receive_data(b"")
        else:
            assert isinstance(event, h11.Data)
            body += event.data
    again = client.their_state is h11.DONE and client.our_state is h11.DONE
    return response.status_code, dict(response.headers), body, again


def framed(framing: ResponseFraming, *pieces: bytes) -> bytes:
    parts = [framing.body(piece, more=place < len(pieces) - 1) for place, piece in enumerate(pieces)]
    return framing.head + b"".join(parts)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5))
def test_pieces_without_length_go_in_chunks(pieces: list[bytes]) -> None:
    """An empty piece does not end the body."""
    framing = ResponseFraming(head(), 200, [(b"x-a", b"b")], True, None, b"date: now\r\nserver: s\r\n")
    status, fields, body, again = understood(framed(framing, *pieces))
    assert (status, fields[b"x-a"], body, again) == (200, b"b", b"".join(pieces), True)
    assert framing.keep_alive
    assert (fields[b"date"], fields[b"server"]) == (b"now", b"s")


def test_whole_answer_gets_its_length() -> None:
    framing = ResponseFraming(head(), 200, [], True, 5)
    _, fields, body, again = understood(framed(framing, b"hello"))
    assert (fields[b"content-length"], body, again) == (b"5", b"hello", True)


def test_given_length_is_kept() -> None:
    framing = ResponseFraming(head(), 200, [LENGTH], True, None)
    assert understood(framed(framing, b"he", b"llo"))[2] == b"hello"


def test_old_client_gets_a_body_until_close() -> None:
    """HTTP/1.0 knows no chunks; with a length it may keep the connection, and is told so."""
    framing = ResponseFraming(head(version="1.0"), 200, [], True, None)
    _, fields, body, again = understood(framed(framing, b"he", b"llo"))
    assert (fields[b"connection"], body, again, framing.keep_alive) == (b"close", b"hello", False, False)
    framing = ResponseFraming(head(version="1.0"), 200, [], True, 5)
    assert b"connection: keep-alive\r\n" in framing.head
    assert framing.keep_alive


@pytest.mark.parametrize("status", [204, 304])
def test_bodyless_status(status: int) -> None:
    """Such an answer ends with its head, whatever the application sends."""
    framing = ResponseFraming(head(), status, [], True, 5)
    data = framed(framing, b"hello")
    assert data.endswith(b"\r\n\r\n")
    assert b"content-length" not in data
    assert understood(data)[3]


def test_head_request() -> None:
    """The fields are those of GET, the body is not sent."""
    framing = ResponseFraming(head("HEAD"), 200, [], True, 5)
    data = framed(framing, b"hello")
    assert b"content-length: 5\r\n" in data
    assert understood(data, "HEAD")[2:] == (b"", True)
    framing = ResponseFraming(head("HEAD"), 200, [], True, None)
    assert understood(framed(framing, b"he", b"llo"), "HEAD")[2:] == (b"", True)


def test_close() -> None:
    """The server's wish or the application's: it is said once, and in `keep_alive`."""
    for framing in (
        ResponseFraming(head(), 200, [], False, 1),
        ResponseFraming(head(), 200, [(b"Connection", b"close")], True, 1),
    ):
        assert framing.head.count(b"connection: close\r\n") == 1
        assert not framing.keep_alive


def test_transfer_encoding_is_the_servers() -> None:
    framing = ResponseFraming(head(), 200, [(b"Transfer-Encoding", b"chunked"), LENGTH], True, None)
    assert b"ransfer" not in framing.head


@pytest.mark.parametrize(("pieces", "length"), [([b"hello!"], 5), ([b"hell"], 5), ([b"hel", b"lo!"], 5), ([b""], 5)])
def test_wrong_length_is_an_error(pieces: list[bytes], length: int) -> None:
    """Neither too much nor too little goes out as if it were right."""
    framing = ResponseFraming(head(), 200, [(b"Content-Length", b"%d" % length)], True, None)
    with pytest.raises(RuntimeError, match="Content-Length"):
        framed(framing, *pieces)


@pytest.mark.parametrize("field", [(b"x", b"a\r\nSet-Cookie: b"), (b"x\ny", b"a"), (b"x", b"a\nb"), (b"x", b"a\rb")])
def test_line_breaks_cannot_be_sent(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(RuntimeError, match="line break"):
        ResponseFraming(head(), 200, [field], True, 0)


def test_unusual_status() -> None:
    assert ResponseFraming(head(), 299, [], True, 0).head.startswith(b"HTTP/1.1 299 \r\n")


def test_error_response() -> None:
    """What never reaches an application is answered with an error object, too."""
    status, fields, body, again = understood(error_response(413, "Too much."))
    assert (status, fields[b"content-type"], again) == (413, b"application/json", False)
    expected = b'{"error":{"message":"Too much.","type":"invalid_request_error","param":null,"code":null}}'
    assert body == expected
    assert b'"server_error"' in error_response(503, "Busy.")


NAMES = st.sampled_from([b"x-a", b"X-A", b"x-b", b"Set-Cookie", b"connection", b"Transfer-Encoding", b"content-type"])
VALUES = st.lists(st.sampled_from([b"a", b"close", b" ", b"\r\n", b"\n", b"\r", b"x" * 150]), max_size=3).map(b"".join)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_known_lines_are_framed_as_unknown_ones(fields: list[tuple[bytes, bytes]]) -> None:
    """Lines that are remembered from earlier responses change nothing; those with secrets are not remembered."""

    def made(given: Any) -> tuple[bytes, bool] | None:
        try:
            framing = ResponseFraming(head(), 200, given, True, 5)
        except RuntimeError:
            return None
        return framing.head, framing.keep_alive

    never_kept = [(name, bytearray(value)) for name, value in fields]
    assert made(fields) == made(fields) == made([list(field) for field in fields]) == made(never_kept)
    assert not any(b"cookie" in name.lower() for name, _ in server_side._known_lines)
