"""Connections that are used again: only after an exact end, and never with anything left over."""

from __future__ import annotations

from openaiasync import APIConnectionError
from scripted import CHAT, LAST_CHUNK, STREAM_HEAD, chunk, event, events, json_answer

from .harness import as_test
from .scenario import CLOSE, HANG, READ, RESET, Fails, Gives, Scenario

OK = json_answer(CHAT)
LIE = json_answer(
    {**CHAT, "choices": [{**CHAT["choices"][0], "message": {"role": "assistant", "content": "Not yours."}}]}
)  # type: ignore[index]
BOTH = Gives("Hello.Hello.", tries=2)
STREAM = events([chunk("Hi"), chunk(finish="stop")])
BODY = OK.partition(b"\r\n\r\n")[2]
BESIDE = (
    OK.removesuffix(b"\r\n" + BODY) + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(BODY), BODY) + LAST_CHUNK
)
FAILED = json_answer({"error": {"message": "down"}}, 500)

SCENARIOS = [
    Scenario("used again", (7,), (READ, OK, READ, OK), BOTH, call="twice", connections=1),
    Scenario("used again over TLS", (7,), (READ, OK, READ, OK), BOTH, call="twice", connections=1, tls="good"),
    Scenario("used again after an error status", (7,), (READ, FAILED, READ, OK), Gives("Hello.", tries=2),
             call="twice_though_the_first_fails"),
    Scenario("closed while idle", (7,), ((READ, OK, CLOSE), (READ, OK)), BOTH, call="twice_later", connections=2),
    Scenario("reset while idle", (7,), ((READ, OK, 0.01, RESET), (READ, OK)), BOTH, call="twice_later", connections=2),
    Scenario("closed right behind the answer", (7,), ((READ, OK, CLOSE), (READ, OK)), BOTH, call="twice",
             connections=2),
    Scenario("closed just as it is used again", (9,), ((READ, OK, READ, CLOSE), (READ, OK)),
             Gives("Hello.Hello.", tries=3), call="twice", connections=2),
    Scenario("reset just as it is used again", (9,), ((READ, OK, READ, RESET), (READ, OK)),
             Gives("Hello.Hello.", tries=3), call="twice", connections=2),
    Scenario("the free retry is one", (9,), ((READ, OK, READ, CLOSE), (READ, CLOSE)),
             Fails(APIConnectionError, tries=3), call="twice"),
    Scenario("no free retry after a byte", (9,), (READ, OK, READ, b"H", CLOSE), Fails(APIConnectionError, tries=2),
             call="twice"),
    Scenario("no free retry on a fresh connection", (9,), (READ, CLOSE), Fails(APIConnectionError, tries=1)),
    Scenario("a late byte", (7,), ((READ, OK, 0.01, b"x", HANG), (READ, OK)), BOTH, call="twice_later", connections=2),
    Scenario("a late answer", (7,), ((READ, OK, 0.01, LIE, HANG), (READ, OK)), BOTH, call="twice_later", connections=2),
    Scenario("a late 408", (7,), ((READ, OK, 0.01, json_answer({}, 408), HANG), (READ, OK)), BOTH, call="twice_later",
             connections=2),
    Scenario("two answers in one segment", (7,), ((READ, OK + LIE, HANG), (READ, OK)), BOTH, call="twice",
             connections=2),
    Scenario("a line end too much", (7,), ((READ, OK + b"\r\n", HANG), (READ, OK)), BOTH, call="twice", connections=2),
    Scenario("two answers in one segment over TLS", (7,), ((READ, OK + LIE, HANG), (READ, OK)), BOTH, call="twice",
             connections=2, tls="good"),
    Scenario("Connection: close", (7,), ((READ, json_answer(CHAT, Connection="close"), HANG), (READ, OK)), BOTH,
             call="twice", connections=2),
    Scenario("a length beside chunks", (7,), ((READ, BESIDE, HANG), (READ, OK)), BOTH, call="twice", connections=2),
    Scenario("chunks in HTTP/1.0", (7,), ((READ, BESIDE.replace(b"1.1", b"1.0", 1), HANG), (READ, OK)), BOTH,
             call="twice", connections=2),
    Scenario("HTTP/1.0", (7,), ((READ, OK.replace(b"1.1", b"1.0", 1), HANG), (READ, OK)), BOTH, call="twice",
             connections=2),
    Scenario("closed after an unannounced 500", (7, 9), ((READ, FAILED, CLOSE), (READ, OK)), Gives("Hello.", tries=2),
             options={"max_retries": 1}, connections=2),
    Scenario("streams on one connection", (7,), (READ, STREAM, READ, STREAM), Gives("HiHi", tries=2),
             call="stream_twice", connections=1),
    Scenario("a stream whose message does not end", (7,),
             (READ, STREAM.removesuffix(LAST_CHUNK), HANG), Gives("Hi", tries=1), call="stream", limit=1.8),
    Scenario("a stream with bytes behind its end", (7,), ((READ, STREAM + OK, HANG), (READ, STREAM)),
             Gives("HiHi", tries=2), call="stream_twice", connections=2),
    Scenario("a stream that goes on after [DONE]", (7,),
             (READ, STREAM_HEAD + event(chunk("Hi")) + event("[DONE]") + event(chunk("more")) + LAST_CHUNK,
              READ, STREAM), Gives("HiHi", tries=2), call="stream_twice", connections=1),
]  # fmt: skip

test_keepalive = as_test(SCENARIOS)
