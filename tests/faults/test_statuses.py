"""Error statuses with bodies of every kind, what servers ask for before a retry, and redirects."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

from openaiasync import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)
from scripted import CHAT, answer, chunk, events, head, json_answer

from .harness import as_test
from .scenario import CLOSE, HANG, KEY, READ, RESET, Drip, Fails, Gives, Repeat, Scenario

OK = json_answer(CHAT)
STREAM = events([chunk("Hi"), chunk(finish="stop")])
CLASSES: dict[int, type[APIStatusError]] = {
    400: BadRequestError, 401: AuthenticationError, 403: PermissionDeniedError, 404: NotFoundError,
    409: ConflictError, 422: UnprocessableEntityError, 429: RateLimitError, 500: InternalServerError,
    503: InternalServerError, 599: InternalServerError, 402: APIStatusError, 418: APIStatusError, 451: APIStatusError,
    300: APIStatusError, 304: APIStatusError, 999: InternalServerError,
}  # fmt: skip
RETRIED = {409, 429, 500, 503, 599, 999}

BODIES: dict[str, bytes] = {
    "error object": json.dumps({"error": {"message": "out of luck", "type": "t", "code": 7, "param": None}}).encode(),
    "error text": b'{"error": "out of luck"}',
    "detail": b'{"detail": "out of luck"}',
    "detail list": b'{"detail": [{"msg": "out of luck"}]}',
    "vLLM": b'{"object": "error", "message": "out of luck", "code": 400}',
    "message": b'{"message": "out of luck"}',
    "plain text": b"out of luck",
    "HTML": b"<html><body>out of luck</body></html>",
    "empty": b"",
    "not UTF-8": b'{"error": {"message": "out of \xff luck"}}',
    "huge": b'{"error": {"message": "out of luck ' + b"x" * 2_000_000 + b'"}}',
    "cut JSON": b'{"error": {"mess',
    "null": b"null",
    "list": b"[1, 2]",
    "number": b"5",
    "odd types": b'{"error": {"message": {"a": 1}, "type": [1], "code": {"b": 2}, "param": 5}}',
    "error null": b'{"error": null}',
    "deep": b"[" * 50_000,
    "long integer": b'{"error": ' + b"9" * 6_000 + b"}",
    "NaN": b'{"error": {"message": "out of luck", "code": NaN}}',
    "lone surrogate": b'{"error": {"message": "out of \\ud800 luck"}}',
    "echoed key": f'{{"error": {{"message": "Incorrect key provided: {KEY}, out of luck"}}}}'.encode(),
    "echoed key, plain": f"out of luck, Bearer {KEY}".encode(),
}
SILENT = {"HTML", "empty", "cut JSON", "null", "list", "number", "error null", "deep", "long integer", "odd types"}


def status_scenarios() -> list[Scenario]:
    return [
        Scenario(f"{status}, {call}", (3,), (READ, json_answer({"error": {"message": "m"}}, status), HANG),
                 Fails(error, side="server" if status >= 500 or status < 400 else "caller", meta=True, tries=1,
                       retryable=status in RETRIED, says=f"{status} from POST"), call=call)
        for status, error in CLASSES.items() for call in (("chat", "stream") if status in (400, 503) else ("chat",))
    ]  # fmt: skip


def body_scenarios() -> list[Scenario]:
    scenarios: list[Scenario] = []
    for name, body in BODIES.items():
        says = "" if name in SILENT or "UTF-8" in name or "surrogate" in name else "out of luck"
        for status in (400, 500):
            expect = Fails(CLASSES[status], meta=True, says=says, never_says="<html>")
            scenarios.append(Scenario(f"{status}, {name}", (3, 11), (READ, answer(body, status), HANG), expect))
    return scenarios


def waits(**fields: str) -> tuple[Any, ...]:
    return ((READ, json_answer({}, 429, **fields)), (READ, OK))


ONE = {"max_retries": 1}
GIVES_UP = Fails(RateLimitError, tries=1)
RETRY = [
    Scenario("Retry-After: seconds", (9,), waits(Retry_After="0"), Gives("Hello.", tries=2), options=ONE, limit=1.8),
    Scenario("Retry-After: parts of seconds", (9,), waits(Retry_After="0.2"), Gives("Hello.", tries=2), options=ONE),
    Scenario("retry-after-ms", (9,), waits(retry_after_ms="50", Retry_After="90"), Gives("Hello.", tries=2),
             options=ONE, limit=1.8),
    Scenario("Retry-After: a date gone by", (9,), waits(Retry_After=formatdate(0, usegmt=True)), Gives("Hello."),
             options=ONE),
    Scenario("Retry-After: a date soon", (9,), waits(Retry_After=formatdate(time.time() + 1, usegmt=True)),
             Gives("Hello."), options=ONE),
    Scenario("Retry-After: a date far away", (9,), waits(Retry_After=formatdate(time.time() + 9999, usegmt=True)),
             GIVES_UP, options=ONE),
    Scenario("Retry-After: negative", (9,), waits(Retry_After="-5"), Gives("Hello."), options=ONE),
    Scenario("Retry-After: NaN", (9,), waits(Retry_After="NaN"), Gives("Hello."), options=ONE),
    Scenario("Retry-After: inf", (9,), waits(Retry_After="inf"), Gives("Hello.", tries=2), options=ONE),
    Scenario("Retry-After: no such day", (9,), waits(Retry_After="Thu, 31 Feb 2099 10:00:00 GMT"), Gives("Hello."),
             options=ONE),
    Scenario("501 is not tried again", (9,), ((READ, json_answer({}, 501)), (READ, OK)),
             Fails(InternalServerError, retryable=False, tries=1), options=ONE),
    Scenario("Retry-After: 1e9", (9,), waits(Retry_After="1e9"), GIVES_UP, options=ONE),
    Scenario("Retry-After: 121", (9,), waits(Retry_After="121"), GIVES_UP, options=ONE),
    Scenario("Retry-After: words", (9,), waits(Retry_After="soon"), Gives("Hello."), options=ONE),
    Scenario("Retry-After: past the deadline", (1, 9), waits(Retry_After="60"), GIVES_UP, limit=1.8,
             options={**ONE, "http_deadline": 1.0}),
    Scenario("x-should-retry: true", (9,), ((READ, json_answer({}, 400, x_should_retry="true")), (READ, OK)),
             Gives("Hello.", tries=2), options=ONE),
    Scenario("x-should-retry: false", (9,), ((READ, json_answer({}, 503, x_should_retry="false")), (READ, OK)),
             Fails(InternalServerError, tries=1), options=ONE),
    Scenario("no quota left", (9,), (READ, json_answer({"error": {"code": "insufficient_quota"}}, 429)),
             Fails(RateLimitError, retryable=False, tries=1), options=ONE),
    Scenario("401 is not tried again", (9,), (READ, json_answer({}, 401)), Fails(AuthenticationError, tries=1),
             options=ONE),
    Scenario("three tries", (9,), (READ, json_answer({}, 503, retry_after_ms="1"), CLOSE),
             Fails(InternalServerError, tries=3, says="after 3 tries"), options={"max_retries": 2}),
    Scenario("a stream's status is tried again", (9,), ((READ, json_answer({}, 503, retry_after_ms="1")),
             (READ, STREAM)), Gives("Hi", tries=2),
             call="stream", options=ONE),
    Scenario("sent and timed out is not tried again", (9,), (READ, HANG), Fails(APITimeoutError, tries=1),
             options={"max_retries": 2, "http_timeout": 0.3}, limit=1.8),
    Scenario("but by the official door it is", (9,), ((READ, HANG), (READ, OK)), Gives("Hello.", tries=2),
             options={"max_retries": 1, "timeout": 0.3}, door="AsyncOpenAI"),
]  # fmt: skip

ERRORS = [
    Scenario("error body, cut", (3,), (READ, answer(b"out of luck" * 9, 400)[:-9], CLOSE),
             Fails(BadRequestError, says="out of luck")),
    Scenario("error body, reset", (3,), (READ, head(400, "X", Content_Length="900") + b"out of luck", 0.1, RESET),
             Fails(BadRequestError, says="out of luck")),
    Scenario("error body, dripped", (1,), (READ, head(500, "X", Content_Length="900"), Drip(b"out of luck" * 90, 0.05)),
             Fails(InternalServerError), options={"http_stall_timeout": 0.4}, limit=1.8),
    Scenario("error body, endless", (8,), (READ, head(500, "X"), Repeat(b"x" * 9000)), Fails(InternalServerError)),
    Scenario("error body, unknown coding", (8,), (READ, answer(b"\x1b\x00\xf8", 500, Content_Encoding="br"), HANG),
             Fails(InternalServerError)),
    Scenario("error body, coded in name only", (5,), (READ, json_answer({"error": {"message": "out of luck"}}, 500,
             Content_Encoding="br"), HANG), Fails(InternalServerError, says="out of luck")),
    Scenario("the key in a header field", (11,), (READ, json_answer({}, 400, X_Key=KEY), HANG), Fails(BadRequestError)),
]  # fmt: skip


def to(location: str, status: int = 307) -> bytes:
    return answer(b"", status, Location=location)


REFUSED = Fails(APIStatusError, meta=True, tries=1)
ELSEWHERE = "http://127.0.0.1:1/v1"
REDIRECTS = [
    Scenario("307 on a trailing slash", (10,), ((READ, to("/v1/chat/completions/")), (READ, OK)),
             Gives("Hello.", tries=2)),
    Scenario("308", (10,), ((READ, to("/else", 308)), (READ, OK)), Gives("Hello.", tries=2)),
    Scenario("relative", (10,), ((READ, to("../v2")), (READ, OK)), Gives("Hello.", tries=2)),
    Scenario("with an upload", (10, 13), ((READ, to("/else")), (READ, json_answer({"id": "file-1"}))), Gives("file-1"),
             call="upload"),
    Scenario("with an upload that cannot be rewound", (10, 13), ((READ, to("/else")), (READ, json_answer({"id": "x"}))),
             REFUSED, call="once_upload"),
    Scenario("301 on POST", (10,), (READ, to("/else", 301)), REFUSED),
    Scenario("302 on POST", (10,), (READ, to("/else", 302)), REFUSED),
    Scenario("303 on POST", (10,), (READ, to("/else", 303)), REFUSED),
    Scenario("302 on GET", (10,), ((READ, to("/else", 302)), (READ, json_answer({"object": "list", "data": []}))),
             Gives([], tries=2), call="models"),
    Scenario("to another origin", (10,), (READ, to(ELSEWHERE)), REFUSED),
    Scenario("GET to another origin with a key", (10,), (READ, to(ELSEWHERE)), REFUSED, call="models"),
    Scenario("to another scheme", (10,), (READ, to("https://127.0.0.1/v1")), REFUSED),
    Scenario("from https to http", (10,), (READ, to("http://127.0.0.1/v1")), REFUSED, tls="good"),
    Scenario("to no URL", (10,), (READ, to("javascript:alert(1)")), REFUSED),
    Scenario("to a broken URL", (10,), (READ, to("http://[::1")), REFUSED),
    Scenario("to nowhere", (10,), (READ, answer(b"", 307)), REFUSED),
    Scenario("in a loop", (10,), (READ, to("/v1/chat/completions")), Fails(APIStatusError, tries=4,
             says="http_max_redirects")),
    Scenario("in a loop, official door", (10,), (READ, to("/v1/chat/completions")), Fails(APIStatusError, tries=21),
             door="AsyncOpenAI"),
    Scenario("in a slow loop under the deadline", (1, 10), (READ, 0.2, to("/v1/chat/completions")), limit=1.4,
             expect=Fails(APITimeoutError, clock="deadline"), options={"http_deadline": 0.5}),
    Scenario("of a stream", (10,), ((READ, to("/else")),
             (READ, STREAM)), Gives("Hi"), call="stream"),
    Scenario("to userinfo", (10,), (READ, to("http://user:pass@127.0.0.1:1/")), REFUSED),
    Scenario("to a dead place of the same origin", (3, 10), ((READ, to("/else")), (CLOSE,)), Fails(APIConnectionError)),
]  # fmt: skip

test_statuses = as_test(status_scenarios())
test_error_bodies = as_test([*body_scenarios(), *ERRORS])
test_pauses = as_test(RETRY)
test_redirects = as_test(REDIRECTS)
