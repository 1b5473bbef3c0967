"""Connecting: nobody there, nobody listening, nobody to be trusted. Nothing was sent, so all of it may be repeated."""

from __future__ import annotations

from openaiasync import APIConnectionError, APITimeoutError
from scripted import CHAT, chunk, events, json_answer

from .harness import as_test
from .scenario import CLOSE, HANG, READ, RESET, Drip, Fails, Gives, Scenario

OK = json_answer(CHAT)
QUICK = {"http_connect_timeout": 0.3}
NETWORK = Fails(APIConnectionError, side="network", retryable=True, meta=False, tries=0)
NO_CONNECTION = Fails(APITimeoutError, side="network", retryable=True, clock="connect", meta=False)
CLOSED, FULL = "http://127.0.0.1:{closed}/v1", "http://127.0.0.1:{full}/v1"
HELLO = bytes.fromhex("160303003a0200003603")  # the beginning of a server's answer to a TLS greeting

SCENARIOS = [
    Scenario("refused", (3,), (), NETWORK, base=CLOSED),
    Scenario("refused, by TLS", (3,), (), NETWORK, base="https://127.0.0.1:{closed}/v1"),
    Scenario("refused, stream", (3,), (), NETWORK, base=CLOSED, call="stream"),
    Scenario("refused, retried", (3, 9), (), Fails(APIConnectionError, says="after 3 tries"), base=CLOSED,
             options={"max_retries": 2}),
    Scenario("refused, upload", (3, 13), (), NETWORK, base=CLOSED, call="upload"),
    Scenario("black hole", (1,), (), NO_CONNECTION, base=FULL, options=QUICK, limit=1.8),
    Scenario("black hole, stream", (1,), (), NO_CONNECTION, base=FULL, options=QUICK, limit=1.8, call="stream"),
    Scenario("black hole, official timeout", (1,), (), Fails(APITimeoutError), base=FULL, door="AsyncOpenAI",
             options={"timeout": 0.3}, limit=1.8),
    Scenario("black hole, deadline", (1,), (), Fails(APITimeoutError, clock="deadline"), base=FULL,
             options={"http_deadline": 0.3, "max_retries": 5}, limit=1.8),
    Scenario("black hole, retried under the deadline", (1, 9), (), Fails(APITimeoutError), base=FULL,
             options={**QUICK, "http_deadline": 1.2, "max_retries": 50}, limit=1.8),
    Scenario("accepted late, answered", (1,), (0.2, READ, OK), Gives("Hello.")),
    Scenario("accepted and closed at once", (3,), (CLOSE,), NETWORK),
    Scenario("accepted and reset at once", (3,), (RESET,), NETWORK),
    Scenario("accepted and never answered", (1,), (READ, HANG), options={"http_timeout": 0.3}, limit=1.8,
             expect=Fails(APITimeoutError, clock="start", says="http_timeout")),
    Scenario("the first connection is closed at once, the next answers", (9,), ((CLOSE,), (READ, OK)),
             Gives("Hello.", tries=1), options={"max_retries": 1}, connections=2),
    Scenario("unknown host", (3,), (), Fails(APIConnectionError, side="network", retryable=True, says="resolved"),
             base="http://no-such-host.invalid/v1", limit=15.0),
    Scenario("host that no DNS can hold", (3,), (), Fails(APIConnectionError, says="resolved"),
             base="http://" + "x" * 70 + ".example/v1"),
    Scenario("one of two addresses is dead", (3,), (READ, OK), Gives("Hello."), base="http://localhost:{port}/v1"),
    Scenario("TLS: all well", (3,), (READ, OK), Gives("Hello."), tls="good"),
    Scenario("TLS: stream", (4,), (READ, events([chunk("Hi"), chunk(finish="stop")])),
             Gives("Hi"), tls="good", call="stream"),
    Scenario("TLS: wrong host", (3,), (READ, OK), tls="wrong host",
             expect=Fails(APIConnectionError, side="network", retryable=False, says="certificate", tries=0)),
    Scenario("TLS: expired", (3,), (READ, OK), tls="expired",
             expect=Fails(APIConnectionError, retryable=False, says="certificate", tries=0)),
    Scenario("TLS: nobody vouches", (3,), (READ, OK), tls="untrusted",
             expect=Fails(APIConnectionError, retryable=False, says="certificate", tries=0)),
    Scenario("TLS: a bad certificate is not tried again", (9,), (READ, OK), tls="expired",
             expect=Fails(APIConnectionError, tries=0, says="after 1 try"), options={"max_retries": 3}),
    Scenario("TLS: stalls", (1,), (HANG,), NO_CONNECTION, base="https://127.0.0.1:{port}/v1", options=QUICK, limit=1.8),
    Scenario("TLS: drips", (1,), (Drip(HELLO * 9, 0.05), HANG), base="https://127.0.0.1:{port}/v1",
             options=QUICK, limit=1.8, expect=NO_CONNECTION),
    Scenario("TLS: answered in plain text", (3,), (b"HTTP/1.1 400 Bad Request\r\n\r\n", HANG),
             base="https://127.0.0.1:{port}/v1", expect=Fails(APIConnectionError, retryable=False, says="TLS")),
    Scenario("TLS: closed in the handshake", (3,), (0.05, CLOSE), base="https://127.0.0.1:{port}/v1",
             expect=Fails(APIConnectionError, side="network", retryable=True)),
    Scenario("TLS: reset in the handshake", (3,), (0.05, RESET), base="https://127.0.0.1:{port}/v1",
             expect=Fails(APIConnectionError, side="network", retryable=True)),
    Scenario("plain text to a TLS port", (3,), (READ, OK), tls="good", base="http://127.0.0.1:{port}/v1",
             expect=Fails(APIConnectionError)),
]  # fmt: skip

test_connecting = as_test(SCENARIOS)
