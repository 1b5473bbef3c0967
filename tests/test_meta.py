"""What is known of a call: header fields, rate limits as numbers, no surprises from odd servers."""

from __future__ import annotations

import pickle

import pytest

from conftest import run
from openaiasync import Client
from openaiasync.core.model.headers import Headers
from openaiasync.core.model.meta import Meta, RateLimit, RequestInfo
from openaiasync.testing import FakeAnswer, FakeTransport

RAW = (
    b"Content-Type: application/json\r\nx-request-id: req_1\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n"
    b"x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\nx-ratelimit-reset-requests: 1m0.5s\r\n"
    b"x-ratelimit-limit-tokens: many\r\nx-ratelimit-reset-tokens: 20ms\r\n"
)


def test_headers_do_not_care_for_case() -> None:
    """Names match in any case, values keep theirs, repeated fields are joined or listed."""
    headers = Headers(RAW)
    assert headers["CONTENT-type"] == "application/json"
    assert headers["set-cookie"] == "a=1, b=2"
    assert headers.get_list("Set-Cookie") == ["a=1", "b=2"]
    assert "X-Request-ID" in headers
    assert "nothing" not in headers
    assert 3 not in headers
    assert len(headers) == len(list(headers)) == 8
    assert dict(pickle.loads(pickle.dumps(headers))) == dict(headers)


def test_rate_limits_are_numbers() -> None:
    """Counts and durations are parsed; what is no number is `None`."""
    limits = Meta(200, RAW, RequestInfo("GET", "http://h")).rate_limits
    assert limits.requests == RateLimit(60, 59, 60.5)
    assert limits.tokens == RateLimit(None, None, pytest.approx(0.02))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1", 1.0), ("6h3m", 21780.0), ("1.5s", 1.5), ("soon", None), ("1x", None), ("", None), ("-3s", None)],
)
def test_durations(text: str, seconds: float | None) -> None:
    """Durations as servers write them; nonsense is `None`."""
    raw = f"x-ratelimit-reset-tokens: {text}\r\n".encode()
    assert Meta(200, raw, RequestInfo("GET", "http://h")).rate_limits.tokens.reset == seconds


def test_absent_fields_are_none() -> None:
    """A server that says nothing gives no numbers and no id."""
    meta = Meta(200, b"", RequestInfo("GET", "http://h", "/x"))
    assert meta.request_id is None
    assert meta.rate_limits.requests == RateLimit(None, None, None)
    assert meta.url == "http://h/x"


def test_the_first_byte_is_told_apart_from_the_end() -> None:
    """`first_byte` ends with the head of the answer, `total` with its body."""
    body = {"object": "list", "data": []}
    transport = FakeTransport(lambda request: FakeAnswer(json=body, delay=0.1, pause=0.4))

    async def main() -> Meta:
        async with Client(api_base="http://fake/v1", http_other={"transport": transport}) as client:
            return (await client.models()).meta

    meta = run(main())
    assert 0.09 < meta.first_byte <= meta.total - 0.3
