"""What is known of a call: header fields, rate limits as numbers, no surprises from odd servers."""

from __future__ import annotations

import pickle
from typing import Any

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
    """Counts and durations are parsed; anything but a number is `None`."""
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


def limits_of(*fields: str) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Limit, remaining, reset and window of requests, and of tokens."""
    found = Meta(200, "\r\n".join(fields).encode() + b"\r\n", RequestInfo("GET", "http://h")).rate_limits
    return (*found.requests, found.requests.window), (*found.tokens, found.tokens.window)


NOTHING = (None, None, None, None)


@pytest.mark.parametrize(
    ("fields", "requests", "tokens"),
    [
        (
            ["x-ratelimit-limit-requests: 60", "x-ratelimit-remaining-tokens: 9"],
            (60, None, None, None),
            (None, 9, None, None),
        ),
        (["X-RateLimit-Limit-Requests: 60", "x-ratelimit-renewalperiod-requests: 10"], (60, None, None, 10.0), NOTHING),
        (
            ["x-ratelimit-limit-tokens-minute: 500", "x-ratelimit-remaining-tokens-minute: 20"],
            NOTHING,
            (500, 20, None, 60.0),
        ),
        (
            ["x-ratelimit-limit-req-minute: 30", "x-ratelimit-limit-requests-day: 14400"],
            (14400, None, None, 86400.0),
            NOTHING,
        ),
        (["X-RateLimit-Limit-Second: 5", "X-RateLimit-Remaining-Second: 4"], (5, 4, None, 1.0), NOTHING),
        (
            ["RateLimit-Limit: 100, 100;w=60, 5000;w=86400", "RateLimit-Remaining: 9", "RateLimit-Reset: 30"],
            (100, 9, 30.0, 60.0),
            NOTHING,
        ),
        (["ratelimit-limit: 100", "ratelimit-remaining: 50", "ratelimit-reset: 30"], (100, 50, 30.0, None), NOTHING),
        (["RateLimit: limit=10, remaining=8, reset=2", "RateLimit-Policy: 10;w=5"], (10, 8, 2.0, 5.0), NOTHING),
        (["RateLimit: limit=10, remaining=8, reset=2"], (10, 8, 2.0, None), NOTHING),
        (
            ['RateLimit-Policy: "burst";q=50;w=1, "daily";q=86400;w=86400', 'RateLimit: "daily";r=7;t=60'],
            (86400, 7, 60.0, 86400.0),
            NOTHING,
        ),
        (
            [
                'RateLimit-Policy: "a";q=60;w=60',
                'RateLimit-Policy: "b";q=1000;w=60;qu="tokens"',
                'RateLimit: "b";r=3;t=2',
            ],
            (60, None, None, 60.0),
            (1000, 3, 2.0, 60.0),
        ),
        (
            ["Date: Mon, 30 Nov 2026 05:00:00 GMT", "x-ratelimit-limit: 50", "x-ratelimit-reset: 1796014830"],
            (50, None, 30.0, None),
            NOTHING,
        ),
        (
            ["Date: Mon, 30 Nov 2026 05:00:00 GMT", "x-ratelimit-limit: 50", "x-ratelimit-reset: 1796014830500"],
            (50, None, 30.5, None),
            NOTHING,
        ),
        # Nonsense.
        (["x-ratelimit-limit: 50", "x-ratelimit-reset: 1796014830"], NOTHING, NOTHING),
        (["x-ratelimit-limit: 5000", "x-ratelimit-remaining: 4999"], (None, 4999, None, None), NOTHING),
        (["ratelimit-limit: many", "ratelimit-reset: soon"], NOTHING, NOTHING),
        (['RateLimit-Policy: ";;q=;w=x,,"', "RateLimit: ;=;,=", "RateLimit: limit=-1"], NOTHING, NOTHING),
        (["RateLimit-Policy: " + "1;w=1," * 500], NOTHING, NOTHING),
        (['RateLimit-Policy: "bytes";q=9;qu="content-bytes"', "x-ratelimit-limit-requests: \u00b2"], NOTHING, NOTHING),
        (["x-ratelimit-limit-requests: 60", "x-ratelimit-renewalperiod-requests: -5"], (60, None, None, None), NOTHING),
    ],
)
def test_every_form_of_limits(fields: list[str], requests: Any, tokens: Any) -> None:
    """The forms of gateways and of the IETF's drafts are read; of several the lowest; nonsense is absent."""
    assert limits_of(*fields) == (requests, tokens)


def test_limits_stay_three_numbers() -> None:
    """A limit unpacks and compares as limit, remaining and reset, and keeps its window when it is pickled."""
    raw = b"x-ratelimit-limit-requests: 60\r\nx-ratelimit-renewalperiod-requests: 10\r\n"
    one = Meta(200, raw, RequestInfo("GET", "http://h")).rate_limits.requests
    limit, remaining, reset = one
    assert (limit, remaining, reset) == one == RateLimit(60, None, None)
    assert pickle.loads(pickle.dumps(one)).window == 10.0


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (b"X-Request-ID:  abc \r\nA: b\r\n", "abc"),
        (b"A: x-request-id: no\r\nx-request-id:z\r\n", "z"),
        (b"my-x-request-id: no\r\n", None),
        (b"x-request-id: a\r\nx-request-id: b\r\n", "a, b"),
        (b"x-request-id:\r\nA: b\r\n", ""),
    ],
)
def test_the_request_id_is_the_same_however_it_is_read(fields: bytes, found: str | None) -> None:
    """Read alone, or with all other fields."""
    alone, parsed = (Meta(200, fields, RequestInfo("GET", "http://h")) for _ in range(2))
    assert alone.request_id == found
    assert parsed.headers.get("x-request-id") == found
    assert parsed.request_id == found
