"""Bodies: cut, too long, badly chunked, badly coded, endless; whole or an error, and never slower than the clocks."""

from __future__ import annotations

import gzip
import json
import zlib

from openaiasync import APIConnectionError, APIError, APIResponseValidationError, APITimeoutError, BadRequestError
from scripted import CHAT, answer, head, json_answer

from .harness import as_test
from .scenario import CLOSE, HANG, READ, RESET, Drip, Fails, Gives, Repeat, Scenario

BODY = json.dumps(CHAT).encode()
OK = json_answer(CHAT)
CHUNKED = head(Content_Type="application/json", Transfer_Encoding="chunked")
UNTIL_CLOSE = head(Content_Type="application/json")
CUT = Fails(APIConnectionError, side="network", retryable=True, meta=True, tries=1)
BAD = Fails(APIConnectionError, side="server", retryable=False, meta=True)
INVALID = Fails(APIResponseValidationError, side="server", retryable=False, meta=True)
STALLED = Fails(APITimeoutError, side="network", retryable=True, clock="stall", meta=True)
QUICK = {"http_stall_timeout": 0.4}
SOUND = head(Content_Type="audio/mpeg", Transfer_Encoding="chunked")


def chunk(data: bytes, size: bytes | None = None) -> bytes:
    return b"%b\r\n%b\r\n" % (b"%x" % len(data) if size is None else size, data)


def chunked(*parts: bytes) -> bytes:
    return CHUNKED + b"".join(parts)


def coded(body: bytes, coding: str = "gzip") -> tuple[object, ...]:
    return (READ, answer(body, Content_Encoding=coding), HANG)


LAST = b"0\r\n\r\n"
PACKED = gzip.compress(BODY)
BOMB = gzip.compress(b'{"id": "' + b" " * 50_000_000 + b'"}', 1)
raw = zlib.compressobj(wbits=-15)
BARE = raw.compress(BODY) + raw.flush()
HALF = len(BODY) // 2

SCENARIOS = [
    Scenario("shorter than its length", (3,), (READ, OK[:-5], CLOSE), CUT),
    Scenario("shorter than its length, reset", (3,), (READ, OK[:-5], 0.05, RESET), CUT),
    Scenario("shorter than its length, then whole", (9,), ((READ, OK[:-5], CLOSE), (READ, OK)),
             Gives("Hello.", tries=2), options={"max_retries": 1}),
    Scenario("shorter than its length, and waiting", (1,), (READ, OK[:-5], HANG), STALLED, options=QUICK, limit=1.5),
    Scenario("longer than its length", (7,), ((READ, OK + b"HTTP/1.1 200 OK\r\n\r\n", HANG), (READ, OK)),
             Gives("Hello.Hello.", tries=2), call="twice", connections=2),
    Scenario("until close", (3,), (READ, UNTIL_CLOSE + BODY, CLOSE), Gives("Hello.")),
    Scenario("until close, cut", (5,), (READ, UNTIL_CLOSE + BODY[:HALF], CLOSE), INVALID),
    Scenario("until close, reset", (3,), (READ, UNTIL_CLOSE + BODY, 0.05, RESET), CUT),
    Scenario("until close over TLS, closed without a goodbye", (3,), (READ, UNTIL_CLOSE + BODY, 0.05, RESET), CUT,
             tls="good"),
    Scenario("dripped", (1,), (READ, OK[:-100], Drip(OK[-100:], 0.05)), STALLED, options=QUICK, limit=1.5),
    Scenario("dripped, official timeout", (1,), (READ, OK[:-100], Drip(OK[-100:], 0.05)), STALLED, door="AsyncOpenAI",
             options={"timeout": 1.0}, limit=2.0),
    Scenario("dripped, deadline", (1,), (READ, OK[:-100], Drip(OK[-100:], 0.05)), limit=1.5,
             expect=Fails(APITimeoutError, clock="deadline"), options={"http_deadline": 0.4}),
    Scenario("dripped until close", (1,), (READ, UNTIL_CLOSE, Drip(BODY, 0.05)), STALLED, options=QUICK, limit=1.5),
    Scenario("in many small pieces", (1,), (READ, Drip(OK, 0.001)), Gives("Hello.")),
    Scenario("white space for ever", (1,), (READ, CHUNKED, Repeat(chunk(b" " * 100), 0.02)), STALLED, options=QUICK,
             limit=1.5),
    Scenario("chunked", (3,), (READ, chunked(chunk(BODY[:9]), chunk(BODY[9:]), LAST)), Gives("Hello.")),
    Scenario("chunks of one byte", (3,), (READ, chunked(*(chunk(bytes([byte])) for byte in BODY), LAST)),
             Gives("Hello.")),
    Scenario("chunk extensions", (3,), (READ, chunked(chunk(BODY, b"%x;a=b" % len(BODY)), LAST)), Gives("Hello.")),
    Scenario("trailers", (3,), (READ, chunked(chunk(BODY), b"0\r\nX-Sum: 1\r\n\r\n")), Gives("Hello.")),
    Scenario("endless trailers", (8,), (READ, chunked(chunk(BODY), b"0\r\n"), Repeat(b"X: a\r\n" * 400)), BAD),
    Scenario("no last chunk", (3,), (READ, chunked(chunk(BODY)), CLOSE), CUT),
    Scenario("no last chunk, and waiting", (1,), (READ, chunked(chunk(BODY)), HANG), STALLED, options=QUICK, limit=1.5),
    Scenario("cut in a chunk", (3,), (READ, chunked(chunk(BODY[:9]), b"ff\r\nabc"), CLOSE), CUT),
    Scenario("cut in a size line", (3,), (READ, chunked(chunk(BODY[:9]), b"f"), CLOSE), CUT),
    Scenario("size that is no number", (3,), (READ, chunked(chunk(BODY, b"zz")), HANG), BAD),
    Scenario("size with a sign", (3,), (READ, chunked(chunk(BODY, b"+9")), HANG), BAD),
    Scenario("size with 0x", (3,), (READ, chunked(chunk(BODY, b"0x9")), HANG), BAD),
    Scenario("size of 17 digits", (8,), (READ, chunked(chunk(BODY, b"f" * 17)), HANG), BAD),
    Scenario("size too small", (3, 7), (READ, chunked(chunk(BODY, b"5"), LAST), HANG), BAD),
    Scenario("size too large", (3, 7), (READ, chunked(chunk(BODY, b"%x" % (len(BODY) + 3)), LAST), HANG), BAD),
    Scenario("empty size line", (3,), (READ, chunked(b"\r\n" + BODY), HANG), BAD),
    Scenario("endless size line", (8,), (READ, CHUNKED, Repeat(b"0" * 600)), BAD),
    Scenario("endless chunk extension", (8,), (READ, CHUNKED + b"5;", Repeat(b"a" * 600)), BAD),
    Scenario("a second answer behind the last chunk", (7,), ((READ, chunked(chunk(BODY), LAST) + OK, HANG), (READ, OK)),
             Gives("Hello.Hello."), call="twice", connections=2),
    Scenario("gzip", (8,), coded(PACKED), Gives("Hello.")),
    Scenario("x-gzip", (8,), coded(PACKED, "x-gzip"), Gives("Hello.")),
    Scenario("deflate", (8,), coded(zlib.compress(BODY), "deflate"), Gives("Hello.")),
    Scenario("deflate without a frame", (8,), coded(BARE, "deflate"), Gives("Hello.")),
    Scenario("identity", (8,), coded(BODY, "identity"), Gives("Hello.")),
    Scenario("gzip of two members", (8,), coded(gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])), Gives("Hello.")),
    Scenario("gzip, cut", (8,), coded(PACKED[:-9]), INVALID),
    Scenario("gzip, damaged", (8,), coded(PACKED[:30] + b"\xff\xff\xff" + PACKED[33:]), INVALID),
    Scenario("gzip, bad checksum", (8,), coded(PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:]), INVALID),
    *[Scenario(f"{name} in name only", (5,), coded(BODY, name), Gives("Hello."))
      for name in ("gzip", "x-gzip", "deflate", "br", "zstd", "none", "UTF-8", "identity, utf-8", "chunked", "weird")],
    *[Scenario(f"{name} around gzip", (5,), coded(PACKED, name), Gives("Hello."))
      for name in ("gzip, identity", "utf-8, gzip")],
    Scenario("gzip with junk behind", (8,), coded(PACKED + b"junk"), INVALID),
    Scenario("gzip bomb", (8,), coded(BOMB), INVALID),
    Scenario("gzip bomb as an error", (8,), (READ, answer(BOMB, 400, Content_Encoding="gzip"), HANG),
             Fails(BadRequestError, meta=True)),
    Scenario("unknown coding", (8,), coded(PACKED, "br"), INVALID),
    Scenario("unknown coding of sound", (5, 8), (READ, answer(b"\xff\xfb\x90" * 99, content_type="audio/mpeg",
             Content_Encoding="none")), Gives(3 * 99), call="speech"),
    Scenario("two codings", (8,), coded(gzip.compress(PACKED), "gzip, gzip"), INVALID),
    Scenario("sound, whole", (5,), (READ, SOUND + chunk(b"x" * 70_000) + LAST), Gives(70_000), call="speech"),
    Scenario("sound, cut", (5,), (READ, SOUND + chunk(b"x" * 70_000), CLOSE), CUT, call="speech"),
    Scenario("sound, dripped", (1,), (READ, SOUND, Repeat(chunk(b"x"), 0.05)), STALLED, call="speech", options=QUICK,
             limit=1.5),
    Scenario("sound, slow but steady", (1,), (READ, SOUND, Repeat(chunk(b"x" * 65_536), 0.25, 6), LAST),
             Gives(6 * 65_536), call="speech", options={"http_stall_timeout": 1.0}),
    Scenario("sound that is an error", (5,), (READ, json_answer({"error": {"message": "no voice"}}), HANG),
             Fails(APIError, says="no voice", meta=True), call="speech"),
    Scenario("sound that is nothing", (5,), (READ, answer(b"", content_type="audio/mpeg")), INVALID, call="speech"),
    Scenario("file content, cut", (5,), (READ, answer(b"x" * 900)[:-1], CLOSE), CUT, call="content"),
    Scenario("file content that is empty", (5,), (READ, answer(b"")), Gives(0), call="content"),
]  # fmt: skip

test_bodies = as_test(SCENARIOS)
