"""Event streams: cut anywhere, badly formed, endless, in the wrong place; complete or an error, never short."""

from __future__ import annotations

import gzip
import json
from typing import Any

from openaiasync import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APITimeoutError,
    IncompleteStreamError,
)
from scripted import LAST_CHUNK, STREAM_HEAD, answer, chunk, event, events, head, json_answer

from .harness import as_test
from .scenario import CLOSE, HANG, KEY, READ, RESET, Drip, Fails, Gives, Repeat, Scenario

HI, HO, STOP = chunk("Hi "), chunk("ho"), chunk(finish="stop")
CLOSING = head(Content_Type="text/event-stream")
QUICK = {"http_timeout": 0.6, "http_stall_timeout": 0.6}
PATIENT = {"http_timeout": 5.0, "http_stall_timeout": 5.0}
WHOLE = Gives("Hi ho")
SHORT = Fails(IncompleteStreamError, side="network", retryable=True, meta=True, partial="Hi ", delivered="Hi ", tries=1)
EMPTY = Fails(IncompleteStreamError, meta=True, delivered="")
INVALID = Fails(APIResponseValidationError, side="server", retryable=False, meta=True, delivered="Hi ")
ERROR = Fails(APIError, side="server", meta=True, delivered="Hi ", partial="Hi ", says="out of luck")
RESPONSE_ERROR = Fails(APIError, side="server", meta=True, delivered="Hi ", says="out of luck")


def data(value: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(value).encode()


def as_chunk(raw: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(raw), raw)


def framed(*parts: bytes) -> tuple[Any, ...]:
    """Exactly these bytes as the body, a chunk each."""
    return (READ, STREAM_HEAD, b"".join(map(as_chunk, parts)) + LAST_CHUNK, HANG)


def closed(raw: bytes) -> tuple[Any, ...]:
    """Exactly these bytes as the body, until close."""
    return (READ, CLOSING + raw, CLOSE)


def stream(name: str, steps: tuple[Any, ...], expect: Any, rules: tuple[int, ...] = (4, 6), **more: Any) -> Scenario:
    return Scenario(name, rules, steps, expect, **{"call": "stream", **more})


TEXT = data(HI) + data(HO) + data(STOP)
DONE = b"data: [DONE]\n\n"
GOOD = TEXT + DONE
LINES = GOOD.decode()
LABELS = ["text/plain; charset=utf-8", "application/x-ndjson", "application/json", "application/octet-stream",
          "text/html", "nonsense", ""]  # fmt: skip
SILENT = [b"data:\n\n", b"data:   \n\n", b"data: null\n\n", b"data: {}\n\n", b"event: ping\ndata: {}\n\n",
          b"event: ping\ndata:\n\n", b"event: ping\n\n", b'event: ping\ndata: {"type": "ping"}\n\n',
          b"event: keepalive\ndata: now\n\n", b"data\n\n", b"data:\ndata:\n\n", b": hi\n\n"]  # fmt: skip
DONES = [b"data: [DONE] \n\n", b"data:  [DONE]\n\n", b"data:[DONE]\n\n", b'data: "[DONE]"\n\n', b"data: [DONE]\n",
         b"data: [DONE]\ndata:\n\n", b"event: done\ndata: [DONE]\n\n"]  # fmt: skip
PLAIN = [
    stream("one event a chunk", framed(data(HI), data(HO), data(STOP), DONE), WHOLE),
    stream("all in one chunk", framed(GOOD), WHOLE),
    stream("a byte a chunk", framed(*(bytes([byte]) for byte in GOOD)), WHOLE),
    stream("a byte a segment", (READ, Drip(CLOSING + GOOD, 0.0005)), WHOLE),
    stream("byte order mark", framed(b"\xef\xbb\xbf" + GOOD), WHOLE),
    stream("byte order mark, cut", framed(b"\xef", b"\xbb", b"\xbf" + GOOD), WHOLE),
    stream("CR", framed(LINES.replace("\n", "\r").encode()), WHOLE),
    stream("CRLF", framed(LINES.replace("\n", "\r\n").encode()), WHOLE),
    stream("CRLF, cut between", framed(*LINES.replace("\n", "\r|\n").encode().split(b"|")), WHOLE),
    stream("CRLF, a byte a chunk", framed(*(bytes([byte]) for byte in GOOD.replace(b"\n", b"\r\n"))), WHOLE),
    stream("no space after the colon", framed(GOOD.replace(b"data: ", b"data:")), WHOLE),
    stream("data in several lines", framed(GOOD.replace(b', "choices"', b',\ndata: "choices"')), WHOLE),
    stream("comments and pings between", framed(b": hi\n\n", data(HI), b":\n\n: ping\n", data(HO), data(STOP), DONE),
           WHOLE),
    stream("retry and id only", framed(b"retry: 3000\n\nid: 1\n\n", GOOD, b"id\n\n"), WHOLE),
    *[stream(f"an event that says nothing: {raw!r}", framed(raw, data(HI), raw + raw, data(HO), raw + data(STOP), raw,
             DONE), WHOLE) for raw in SILENT],
    *[stream(f"the end as {raw!r}", framed(data(HI), data(HO), data(STOP), raw), WHOLE) for raw in DONES],
    *[stream(f"labelled {label!r}", (READ, answer(GOOD, content_type=label)), WHOLE) for label in LABELS],
    stream("without a label", (READ, head(Content_Length=str(len(GOOD))) + GOOD), WHOLE),
    stream("without a label, a byte a chunk", (READ, head(Transfer_Encoding="chunked"),
           b"".join(as_chunk(bytes([byte])) for byte in GOOD) + LAST_CHUNK, HANG), WHOLE),
    stream("labelled as JSON by the official door", (READ, answer(GOOD)), WHOLE, call="official_stream"),
    stream("unknown fields", framed(b"foo: bar\nbaz\n" + GOOD), WHOLE),
    stream("U+2028, U+0085, NEL in the text", framed(data(chunk("@")).replace(b"@", "a\u2028b\u0085c\u2029d\u000bx"
           .replace("\u000b", "\\u000b").encode()), data(STOP), DONE), Gives("a\u2028b\u0085c\u2029d\u000bx")),
    stream("cut in a code point", framed(b"data: {\"choices\": [{\"index\": 0, \"delta\": {\"content\": \"" + b"\xe2",
           b"\x82", b"\xac\"}}]}\n\n", data(STOP), DONE), Gives("€")),
    stream("half a code point", framed(data(chunk("@")).replace(b"@", b"\xe2\x82"), data(STOP), DONE), Gives("\ufffd")),
    stream("an event of 10 MB", framed(data(chunk("x" * 10_000_000)), data(STOP), DONE), Gives("x" * 10_000_000),
           limit=8.0),
    stream("gzip", (READ, answer(gzip.compress(GOOD), content_type="text/event-stream", Content_Encoding="gzip")),
           WHOLE),
    stream("empty choices and null content", framed(data({**HI, "choices": []}), GOOD), WHOLE),
    stream("finish_reason in an empty text", framed(data(chunk("Hi ", finish="")),
           data(HO), data(STOP), DONE), WHOLE),
    stream("named events", framed(b"event: message\n" + data(HI), b"event: chunk\n" + data(HO), data(STOP), DONE),
           WHOLE),
    stream("content type with a charset", (READ, answer(GOOD, content_type="text/event-stream; charset=utf-8")), WHOLE),
    stream("content type in capitals", (READ, answer(GOOD, content_type="Text/Event-Stream")), WHOLE),
    stream("by the official door", framed(GOOD), WHOLE, call="official_stream"),
]  # fmt: skip

ENDS = [
    stream("no [DONE], but a finish_reason", framed(TEXT), WHOLE, (4,)),
    stream("no [DONE], closed", closed(TEXT), WHOLE, (4,)),
    stream("no [DONE], reset", (READ, CLOSING + TEXT, 0.1, RESET), WHOLE, (4,)),
    stream("no [DONE], no last chunk", (READ, STREAM_HEAD + as_chunk(TEXT), CLOSE), WHOLE, (4,)),
    stream("[DONE] without a finish_reason", framed(data(HI), DONE), Gives("Hi "), (4,)),
    stream("data after [DONE]", framed(GOOD + data(chunk("more"))), WHOLE, (4,)),
    stream("an error after [DONE]", framed(GOOD + data({"error": "late"})), WHOLE, (4,)),
    stream("[DONE] without an empty line", closed(TEXT + b"data: [DONE]"), WHOLE, (4,)),
    stream("ended after an event", framed(data(HI)), SHORT, (4,)),
    stream("closed after an event", closed(data(HI)), SHORT, (4,)),
    stream("reset after an event", (READ, STREAM_HEAD + event(HI), 0.1, RESET), SHORT, (4,)),
    stream("closed in an event", closed(data(HI) + data(HO)[:40]), SHORT, (4,)),
    stream("closed before an event's empty line", closed(data(HI) + data(STOP)[:-1]), SHORT, (4,)),
    stream("closed in a chunk", (READ, STREAM_HEAD + event(HI) + event(STOP)[:30], CLOSE), SHORT, (4,)),
    stream("a bad chunk size", (READ, STREAM_HEAD + event(HI) + b"zz\r\n", HANG), SHORT, (4,)),
    stream("gzip, cut", (READ, answer(gzip.compress(GOOD)[:-12], content_type="text/event-stream",
           Content_Encoding="gzip"), HANG), Fails(IncompleteStreamError, delivered="Hi ho"), (4, 8)),
    stream("gzip, damaged after an event", (READ, CLOSING.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"),
           gzip.compress(data(HI)), 0.1, b"garbage", HANG), SHORT, (4, 8)),
    stream("[DONE] without a finish_reason, cut", (READ, STREAM_HEAD + event(HI) + event("[DONE]"), CLOSE), SHORT,
           (4,)),
    stream("[DONE] without a finish_reason, reset", (READ, STREAM_HEAD + event(HI) + event("[DONE]"), 0.1, RESET),
           SHORT, (4,)),
    stream("[DONE] without a finish_reason, until close", closed(data(HI) + DONE), SHORT, (4,)),
    stream("[DONE] alone", framed(DONE), EMPTY, (4,)),
    stream("usage and [DONE]", framed(data({**HI, "choices": [], "usage": None}), DONE), EMPTY, (4,)),
    stream("an exact end without the empty line", framed(data(HI), data(HO), data(STOP)[:-2]), WHOLE, (4,)),
    stream("null and no more", framed(data(HI), b"data: null\n\n"), SHORT, (4, 5)),
    stream("two choices finished", framed(data(HI), data(chunk(finish="stop", index=1)), data(STOP)), Gives(), (4,)),
    stream("broken after a word is never tried again", (READ, STREAM_HEAD + event(HI), CLOSE), SHORT, (9,),
           options={"max_retries": 3}),
    stream("broken before a word is", ((READ, STREAM_HEAD + as_chunk(b": hi\n\n"), CLOSE), framed(GOOD)),
           Gives("Hi ho", tries=2), (9,), options={"max_retries": 1}),
    stream("an unknown coding at the second try", ((READ, STREAM_HEAD, CLOSE), (READ, answer(gzip.compress(GOOD),
           content_type="text/event-stream", Content_Encoding="br"), HANG)),
           Fails(APIResponseValidationError, tries=2), (3, 8, 9), options={"max_retries": 1}),
    stream("another kind at the second try", ((READ, STREAM_HEAD, CLOSE), (READ, json_answer({}), HANG)),
           Fails(APIResponseValidationError, tries=2), (3, 9), options={"max_retries": 1}),
    stream("no event at all", framed(), EMPTY, (4,)),
    stream("comments at all", framed(b": a\n\n", b": b\n\n"), EMPTY, (4,)),
    stream("an empty 200", (READ, answer(b"", content_type="text/event-stream")), EMPTY, (4,)),
    stream("good words, then an event over the cap", (READ, STREAM_HEAD + event(HI) + as_chunk(b"data: "),
           Repeat(as_chunk(b"x" * 4_000_000), 0.0, 20), HANG), SHORT, (4, 6), limit=10.0),
]  # fmt: skip

WRONG = [
    stream("JSON instead of events", (READ, json_answer({"id": "x"}), HANG), Fails(APIResponseValidationError), (4, 5)),
    stream("JSON under the name of events", (READ, answer(b'{"id": "x"}', content_type="text/event-stream"), HANG),
           Fails(APIResponseValidationError, says='{"id": "x"}'), (4, 5)),
    stream("lines of JSON", (READ, answer(b'{"id": "x"}\n{"id": "y"}\n', content_type="application/x-ndjson"), HANG),
           Fails(APIResponseValidationError, says='{"id": "x"}'), (4, 5)),
    stream("HTML under the name of events", (READ, answer(b"<html><body>Sign in</body></html>",
           content_type="text/event-stream"), HANG), Fails(APIResponseValidationError, says="Sign in"), (4, 5)),
    stream("words instead of events", (READ, answer(b"out of luck", content_type="text/plain"), HANG),
           Fails(APIResponseValidationError, says="out of luck"), (4, 5)),
    stream("words under the name of events", (READ, answer(b"out of luck", content_type="text/event-stream"), HANG),
           Fails(APIResponseValidationError, says="out of luck"), (4, 5)),
    stream("words after a word", framed(data(HI), b"out of luck"), Fails(IncompleteStreamError, partial="Hi ",
           says="out of luck", delivered="Hi "), (4, 5)),
    stream("a bare error object after a word", framed(data(HI), b'{"error": {"message": "out of luck"}}'),
           Fails(APIError, says="out of luck", delivered="Hi "), (4, 5)),
    stream("a list with an error", (READ, answer(b'[{"error": {"message": "out of luck"}}]'), HANG),
           Fails(APIError, says="out of luck"), (4, 5)),
    stream("HTML instead of events", (READ, answer(b"<html>", content_type="text/html"), HANG),
           Fails(APIResponseValidationError, meta=True), (4, 5)),
    stream("events named elsewhere", (READ, answer(b"{}", X_Was="text/event-stream"), HANG),
           Fails(APIResponseValidationError), (4, 5)),
    stream("an error object instead of events", (READ, json_answer({"error": {"message": "out of luck"}}), HANG),
           Fails(APIError, says="out of luck", meta=True), (4, 5)),
    stream("an echoed key in an error object", (READ, json_answer({"error": {"message": f"bad {KEY}"}}), HANG),
           Fails(APIError, says="bad"), (11,)),
    stream("204", (READ, answer(b"", 204), HANG), Fails(APIResponseValidationError), (4, 5)),
    stream("an event that is no JSON", framed(data(HI), b"data: {oops\n\n"), INVALID, (5,)),
    stream("an event that is a list", framed(data(HI), b"data: [1]\n\n"), INVALID, (5,)),
    stream("an event that is a text", framed(data(HI), b'data: "x"\n\n'), INVALID, (5,)),
    stream("an event nested too deeply", framed(data(HI), b"data: " + b"[" * 100_000 + b"\n\n"), INVALID, (5,)),
    stream("an event with a long integer", framed(data(HI), b'data: {"a": ' + b"9" * 6_000 + b"}\n\n"), INVALID, (5,)),
    stream("an event with a key in it", framed(data(HI), f"data: {{{KEY}\n\n".encode()), INVALID, (11,)),
]  # fmt: skip

OUT = {"message": "out of luck"}
ERRORS = {
    "object": data({"error": OUT}),
    "object with code": data({"error": {**OUT, "code": 500, "type": "server_error"}}),
    "text": data({"error": "out of luck"}),
    "vLLM": data({"object": "error", **OUT, "code": 500}),
    "type error": data({"type": "error", "code": None, "param": None, **OUT}),
    "event with object": b"event: error\n" + data({"error": OUT}),
    "event with fields": b"event: error\n" + data(OUT),
    "event with text": b"event: error\ndata: out of luck\n\n",
    "code and msg": data({"code": 500, "msg": "out of luck"}),
    "success": data({"success": False, "message": "out of luck"}),
    "detail": data({"detail": "out of luck"}),
    "base_resp": data({"choices": None, "base_resp": {"status_code": 1004, "status_msg": "out of luck"}}),
    "in a choice": data(
        {
            **HO,
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": ""},
                    "finish_reason": "error",
                    "error": {"code": 502, "message": "out of luck"},
                }
            ],
        }
    ),
    "in a choice that goes on": data(
        {**HO, "choices": [{"index": 0, "delta": {"content": ""}, "error": {"message": "out of luck"}}]}
    ),
    "beside choices": data({**HO, "error": OUT}),
    "echoed key": data({"error": {"message": f"out of luck, {KEY}"}}),
    "echoed key as text": b"event: error\ndata: out of luck, %b\n\n" % KEY.encode(),
}
MIDWAY = [stream(f"error: {name}", framed(data(HI), raw), ERROR, (4, 11)) for name, raw in ERRORS.items()]
DELTA = {"type": "response.output_text.delta", "delta": "Hi ", "item_id": "i", "output_index": 0, "content_index": 0,
         "sequence_number": 1, "logprobs": []}  # fmt: skip
COMPLETED = {"type": "response.completed", "sequence_number": 2, "response": {"id": "r", "output": []}}
FAILED = {"type": "error", "sequence_number": 2, "code": "server_error", "param": None, "message": "out of luck"}
RESPONSES = [
    stream("responses: completed", framed(data(DELTA), data(COMPLETED)), Gives("response.completed"),
           call="responses_stream"),
    stream("responses: failed", framed(data(DELTA), data({**COMPLETED, "type": "response.failed"})),
           Gives("response.failed"), call="responses_stream"),
    stream("responses: cut", framed(data(DELTA)), Fails(IncompleteStreamError, delivered="Hi "),
           call="responses_stream"),
    stream("responses: [DONE] alone", framed(data(DELTA), DONE), Gives(), call="responses_stream"),
    stream("responses: error", framed(data(DELTA), data(FAILED)), RESPONSE_ERROR, call="responses_stream"),
    stream("responses: named error", framed(data(DELTA), b"event: error\n" + data(FAILED)), RESPONSE_ERROR,
           call="responses_stream"),
]  # fmt: skip

CLOCKS = [
    stream("no event", (READ, STREAM_HEAD, HANG), Fails(APITimeoutError, clock="start"), (1,), options=QUICK,
           limit=1.6),
    stream("pings only", (READ, STREAM_HEAD, Repeat(as_chunk(b": ping\n\n"), 0.05)),
           Fails(APITimeoutError, clock="start"), (1,), options=QUICK, limit=1.6),
    stream("a silent middle", (READ, STREAM_HEAD + event(HI), HANG),
           Fails(APITimeoutError, clock="stall", delivered="Hi ", partial="Hi ", meta=True), (1,), options=QUICK,
           limit=1.6),
    stream("pings in the middle", (READ, STREAM_HEAD + event(HI), Repeat(as_chunk(b": ping\n\n"), 0.05)),
           Fails(APITimeoutError, clock="stall", delivered="Hi "), (1,), options=QUICK, limit=1.6),
    stream("a dripped event", (READ, CLOSING + data(HI), Drip(data(HO), 0.05)),
           Fails(APITimeoutError, clock="stall", delivered="Hi "), (1,), options=QUICK, limit=1.6),
    stream("an endless line", (READ, CLOSING + data(HI) + b"data: ", Repeat(b"x" * 99, 0.02)),
           Fails(APITimeoutError, clock="stall", delivered="Hi "), (1,), options=QUICK, limit=1.6),
    stream("slow but steady", (READ, STREAM_HEAD, Repeat(event(chunk("tick ")), 0.25, 6), event(STOP) + LAST_CHUNK),
           Gives("tick " * 6), (1,), options={"http_timeout": 1.0, "http_stall_timeout": 1.0}),
    stream("steady for ever, under a deadline", (READ, STREAM_HEAD, Repeat(event(HI), 0.05)),
           Fails(APITimeoutError, clock="deadline", meta=True), (1,), options={"http_deadline": 1.0}, limit=2.0),
    stream("silence after the finish_reason", (READ, STREAM_HEAD + event(HI) + event(HO) + event(STOP), HANG), WHOLE,
           (1, 4), options=QUICK, limit=1.6),
    stream("silence after [DONE]", (READ, STREAM_HEAD + event(HI) + event("[DONE]"), HANG), SHORT, (1, 4), limit=1.8),
    stream("silence after a finish_reason and [DONE]", (READ, STREAM_HEAD + event(HI) + event(STOP) + event("[DONE]"),
           HANG), Gives("Hi "), (1, 4), limit=1.4),
    stream("events without data in the middle", (READ, STREAM_HEAD + event(HI), Repeat(as_chunk(b"data:\n\n"), 0.05)),
           Fails(APITimeoutError, clock="stall", delivered="Hi "), (1, 5), options=QUICK, limit=1.6),
    stream("official timeout, no event", (READ, STREAM_HEAD, Repeat(as_chunk(b": ping\n\n"), 0.05)),
           Fails(APITimeoutError, clock="start"), (1,), door="AsyncOpenAI", options={"timeout": 0.6}, limit=1.6),
    stream("official timeout, silent middle", (READ, events([HI], done=False).removesuffix(LAST_CHUNK), HANG),
           Fails(APITimeoutError, clock="stall", delivered="Hi "), (1,), door="AsyncOpenAI", options={"timeout": 0.6},
           limit=1.6),
    stream("closing is no timeout", (READ, STREAM_HEAD + event(HI), 0.2, CLOSE), SHORT, (3,), options=PATIENT),
    stream("nothing is no timeout", (READ, CLOSE), Fails(APIConnectionError, delivered=""), (3,), options=PATIENT),
]  # fmt: skip

test_events = as_test(PLAIN)
test_ends = as_test(ENDS)
test_wrong_answers = as_test(WRONG)
test_errors_in_streams = as_test([*MIDWAY, *RESPONSES])
test_clocks = as_test(CLOCKS)
