"""Heads: none, slow, endless, malformed, contradicting themselves."""

from __future__ import annotations

from openaiasync import APIConnectionError, APIResponseValidationError, APITimeoutError
from scripted import CHAT, STREAM_HEAD, answer, json_answer

from .harness import as_test
from .scenario import CLOSE, HANG, READ, RESET, Drip, Fails, Gives, Repeat, Scenario

BODY = json_answer(CHAT).partition(b"\r\n\r\n")[2]
OK = json_answer(CHAT)
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
TYPE = b"Content-Type: application/json\r\n"
NO_HTTP = Fails(APIConnectionError, side="server", retryable=False, meta=False)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
QUICK = {"http_timeout": 0.6, "http_stall_timeout": 0.6}


def raw(*lines: bytes, body: bytes = BODY) -> tuple[object, ...]:
    """A server that answers with just this head, and waits: whatever is wrong has to be seen without its leaving."""
    return (READ, b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body, HANG)


def line(status_line: bytes) -> tuple[object, ...]:
    return raw(status_line, TYPE[:-2], LENGTH[:-2])


def fields(*rows: bytes, body: bytes = BODY) -> tuple[object, ...]:
    return raw(b"HTTP/1.1 200 OK", TYPE[:-2], *rows, body=body)


SCENARIOS = [
    Scenario("never", (1,), (READ, HANG), Fails(APITimeoutError, clock="start", retryable=True, meta=False),
             options=QUICK, limit=1.6),
    Scenario("never, official timeout", (1,), (READ, HANG), Fails(APITimeoutError, clock="start", meta=False),
             door="AsyncOpenAI", options={"timeout": 0.6}, limit=1.6),
    Scenario("never, stream", (1,), (READ, HANG), Fails(APITimeoutError, clock="start", delivered=""),
             call="stream", options=QUICK, limit=1.6),
    Scenario("closed without a byte", (3, 9), (READ, CLOSE), Fails(APIConnectionError, side="network", retryable=True)),
    Scenario("reset without a byte", (3, 9), (READ, RESET), Fails(APIConnectionError, side="network", retryable=True)),
    Scenario("closed without a byte, then answered", (9,), ((READ, CLOSE), (READ, OK)), Gives("Hello.", tries=2),
             options={"max_retries": 1}),
    Scenario("cut in the head", (3,), (READ, OK[:30], CLOSE), Fails(APIConnectionError, retryable=True, meta=False)),
    Scenario("cut in the head, then answered", (9,), ((READ, OK[:30], CLOSE), (READ, OK)), Gives("Hello.", tries=2),
             options={"max_retries": 1}),
    Scenario("byte by byte, and quick", (1,), (READ, Drip(OK, 0.0)), Gives("Hello.")),
    Scenario("dripped", (1,), (READ, Drip(OK, 0.05), HANG), Fails(APITimeoutError, clock="stall"),
             options=QUICK, limit=1.8),
    Scenario("dripped, stream", (1,), (READ, Drip(STREAM_HEAD, 0.05), HANG), Fails(APITimeoutError),
             call="stream", options=QUICK, limit=1.8),
    Scenario("dripped, deadline", (1,), (READ, Drip(OK, 0.05), HANG), Fails(APITimeoutError, clock="deadline"),
             options={"http_deadline": 0.4}, limit=1.8),
    Scenario("endless field", (8,), (READ, b"HTTP/1.1 200 OK\r\nX: ", Repeat(b"a" * 65536)), NO_HTTP),
    Scenario("endless fields", (8,), (READ, b"HTTP/1.1 200 OK\r\n", Repeat(b"X-A: b\r\n" * 500)), NO_HTTP),
    Scenario("1 MB of head", (8,), fields(LENGTH[:-2], b"X: " + b"a" * 1_000_000), NO_HTTP),
    Scenario("200 KB of head", (8,), fields(LENGTH[:-2], b"X: " + b"a" * 200_000), Gives("Hello.")),
    Scenario("1,001 lines", (8,), fields(LENGTH[:-2], *[b"X: a"] * 1001), NO_HTTP),
    Scenario("900 lines", (8,), fields(LENGTH[:-2], *[b"X: a"] * 900), Gives("Hello.")),
    Scenario("not HTTP", (3,), (READ, b"SSH-2.0-OpenSSH_9.6\r\n", HANG), NO_HTTP),
    Scenario("HTTP/0.9", (3,), (READ, b"<html>hello</html>", CLOSE), NO_HTTP),
    Scenario("HTTP/2 preface", (3,), (READ, b"\0\0\x12\4\0\0\0\0\0" + b"\0" * 18, HANG), NO_HTTP),
    Scenario("HTTP/1.0", (7,), (READ, OK.replace(b"HTTP/1.1", b"HTTP/1.0")), Gives("Hello.")),
    Scenario("version 2.0 in the status line", (3,), line(b"HTTP/2.0 200 OK"), NO_HTTP),
    Scenario("no status", (3,), line(b"HTTP/1.1 OK"), NO_HTTP),
    Scenario("status of two digits", (3,), line(b"HTTP/1.1 20 OK"), NO_HTTP),
    Scenario("status of four digits", (3,), line(b"HTTP/1.1 2000 OK"), NO_HTTP),
    Scenario("status 000", (3,), line(b"HTTP/1.1 000 OK"), NO_HTTP),
    Scenario("two spaces before the status", (3,), line(b"HTTP/1.1  200 OK"), NO_HTTP),
    Scenario("no reason", (3,), line(b"HTTP/1.1 200"), Gives("Hello.")),
    Scenario("empty reason", (3,), line(b"HTTP/1.1 200 "), Gives("Hello.")),
    Scenario("reason in Latin-1", (3,), line(b"HTTP/1.1 200 \xe9\xe8"), Gives("Hello.")),
    Scenario("control character in the reason", (3,), line(b"HTTP/1.1 200 O\x07K"), NO_HTTP),
    Scenario("empty line before the status line", (3,), (READ, b"\r\n" + OK, HANG), NO_HTTP),
    Scenario("contradicting lengths", (3, 7), fields(LENGTH[:-2], b"Content-Length: 3"), NO_HTTP),
    Scenario("the same length twice", (3,), fields(LENGTH[:-2], LENGTH[:-2]), Gives("Hello.")),
    Scenario("negative length", (3,), fields(b"Content-Length: -1"), NO_HTTP),
    Scenario("length with a sign", (3,), fields(b"Content-Length: +5"), NO_HTTP),
    Scenario("length in hex", (3,), fields(b"Content-Length: 0x10"), NO_HTTP),
    Scenario("length without a number", (3,), fields(b"Content-Length: "), NO_HTTP),
    Scenario("length of 30 digits", (3, 8), fields(b"Content-Length: " + b"9" * 30), NO_HTTP),
    Scenario("length of a petabyte", (8,), fields(b"Content-Length: 1000000000000000"),
             Fails(APIConnectionError, side="server", says="bytes"), limit=1.8),
    Scenario("length and chunks", (3, 7), (READ, b"HTTP/1.1 200 OK\r\n" + TYPE + LENGTH + CHUNKED, CLOSE),
             Gives("Hello.")),
    Scenario("contradicting lengths and chunks", (3, 7), (READ, b"HTTP/1.1 200 OK\r\n" + TYPE + LENGTH
             + b"Content-Length: 3\r\nContent-Length: x\r\n" + CHUNKED, CLOSE), Gives("Hello.")),
    Scenario("length and chunks by name only", (3, 7), fields(LENGTH[:-2], b"Transfer-Encoding: chunked"),
             Fails(APIConnectionError, side="server", retryable=False)),
    Scenario("chunks in HTTP/1.0", (3, 7), (READ, b"HTTP/1.0 200 OK\r\n" + TYPE + CHUNKED, CLOSE), Gives("Hello.")),
    Scenario("unknown transfer coding", (3,), fields(b"Transfer-Encoding: gzip, chunked"), NO_HTTP),
    Scenario("folded line", (3,), fields(LENGTH[:-2], b"X: a", b" b"), NO_HTTP),
    Scenario("space before the colon", (3,), fields(LENGTH[:-2], b"X : a"), NO_HTTP),
    Scenario("no colon", (3,), fields(LENGTH[:-2], b"nonsense"), NO_HTTP),
    Scenario("NUL in a field", (3,), fields(LENGTH[:-2], b"X: a\0b"), NO_HTTP),
    Scenario("bare LF", (3,), (READ, b"HTTP/1.1 200 OK\n" + TYPE + LENGTH + b"\r\n" + BODY, HANG), NO_HTTP),
    Scenario("bare CR", (3,), fields(LENGTH[:-2], b"X: a\rY: b"), NO_HTTP),
    Scenario("header bytes outside ASCII", (3,), fields(LENGTH[:-2], b"X: \xff\xfe\x80"), Gives("Hello.")),
    Scenario("nine interim answers", (8,), (READ, b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + OK), Gives("Hello.")),
    Scenario("early hints", (3,), (READ, b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 0.05, OK), Gives("Hello.")),
    Scenario("interim answers for ever", (8,), (READ, Repeat(b"HTTP/1.1 102 Processing\r\n\r\n", 0.01)), NO_HTTP),
    Scenario("interim answers, slowly", (1,), (READ, Repeat(b"HTTP/1.1 102 Processing\r\n\r\n", 0.1)),
             Fails(APITimeoutError, clock="start"), options=QUICK, limit=1.6),
    Scenario("101 unasked", (3,), line(b"HTTP/1.1 101 Switching Protocols"), NO_HTTP),
    Scenario("the words of a broken head are not quoted", (11,), line(b"HTTP/1.1 abc sk-planted-0123456789abcdef"),
             NO_HTTP),
    Scenario("a malformed head is not tried again", (9,), line(b"HTTP/1.1 20 OK"), Fails(APIConnectionError, tries=1),
             options={"max_retries": 3}),
    Scenario("answered before it was asked", (7,), (OK, READ, HANG), Gives("Hello.")),
    Scenario("204 with a length", (3,), (READ, answer(b"", 204)),
             Fails(APIResponseValidationError, side="server", meta=True, says="empty")),
]  # fmt: skip

test_heads = as_test(SCENARIOS)
