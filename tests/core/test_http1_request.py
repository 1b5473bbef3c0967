"""Requests as bytes: exact heads, exact framing, and nothing that could break out of its line."""

from __future__ import annotations

import h11
import pytest

from openaiasync.core.http.grammar import chunk
from openaiasync.core.http.request import authority, framing, request_head


@pytest.mark.parametrize(
    ("scheme", "host", "port", "expected"),
    [
        ("https", "api.openai.com", 443, "api.openai.com"),
        ("https", "api.openai.com", 8443, "api.openai.com:8443"),
        ("http", "localhost", 80, "localhost"),
        ("http", "localhost", 443, "localhost:443"),
        ("https", "localhost", 80, "localhost:80"),
        ("http", "::1", 80, "[::1]"),
        ("http", "2001:db8::1", 8000, "[2001:db8::1]:8000"),
    ],
)
def test_authority_has_brackets_and_port_where_they_belong(scheme: str, host: str, port: int, expected: str) -> None:
    """The port is left out when it is the scheme's default; an IPv6 address stands in brackets."""
    assert authority(scheme, host, port) == expected


def test_a_head_is_what_a_server_reads() -> None:
    """Request line, Host and fields arrive in a server as they were given, in order, latin-1 included."""
    head = request_head("POST", "/v1/chat?x=%20", "h:1", [("Accept", "*/*"), ("X-Name", "caf\xe9"), ("X-Empty", "")])
    server = h11.Connection(h11.SERVER)
    server.receive_data(head + framing("POST", 2) + b"\r\nhi")
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target) == (b"POST", b"/v1/chat?x=%20")
    assert list(request.headers) == [
        (b"host", b"h:1"),
        (b"accept", b"*/*"),
        (b"x-name", b"caf\xe9"),
        (b"x-empty", b""),
        (b"content-length", b"2"),
    ]
    assert server.next_event() == h11.Data(data=b"hi")


@pytest.mark.parametrize(
    ("method", "target", "host", "fields"),
    [
        ("GE T", "/", "h", []),
        ("", "/", "h", []),
        ("GET\r\n", "/", "h", []),
        ("GET", "", "h", []),
        ("GET", "/a b", "h", []),
        ("GET", "/\r\nX: y", "h", []),
        ("GET", "/\xe9", "h", []),
        ("GET", "/", "h\r\nX: y", []),
        ("GET", "/", "", []),
        ("GET", "/", "h", [("X: y\r\nZ", "v")]),
        ("GET", "/", "h", [("", "v")]),
        ("GET", "/", "h", [("X", "v\r\nY: secret")]),
        ("GET", "/", "h", [("X", "v\nsecret")]),
        ("GET", "/", "h", [("X", "secret\x00")]),
        ("GET", "/", "h", [("X", "secret\u20ac")]),
    ],
)
def test_nothing_breaks_out_of_its_line(method: str, target: str, host: str, fields: list[tuple[str, str]]) -> None:
    """Controls, spaces and non-latin-1 are refused where they cannot stand, without quoting the value."""
    with pytest.raises(ValueError, match=r"must be|needs a token|has a control") as caught:
        request_head(method, target, host, fields)
    assert "secret" not in str(caught.value)


def test_framing_tells_the_length() -> None:
    """A body's length is told exactly; without a body only methods that usually have one say so."""
    assert framing("POST", 12) == b"Content-Length: 12\r\n"
    assert framing("POST", 0) == b"Content-Length: 0\r\n"
    assert framing("GET", 0) == framing("DELETE", 0) == b""
    assert framing("DELETE", 3) == b"Content-Length: 3\r\n"
    assert framing("POST", None) == b"Transfer-Encoding: chunked\r\n"


def test_chunks_are_read_by_a_server() -> None:
    """Chunked pieces come out whole, and the empty piece ends the body."""
    server = h11.Connection(h11.SERVER)
    head = request_head("POST", "/", "h", []) + framing("POST", None) + b"\r\n"
    server.receive_data(head + chunk(b"x" * 300) + chunk(b"end") + chunk(b""))
    events = [server.next_event() for _ in range(4)]
    assert [bytes(event.data) for event in events if isinstance(event, h11.Data)] == [b"x" * 300, b"end"]
    assert isinstance(events[-1], h11.EndOfMessage)
