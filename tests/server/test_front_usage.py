"""What a front counts of the tokens that pass: by key and model, whatever the form of the answer."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from conftest import run
from openaiasync import Limits
from openaiasync.core.policy.estimate import Usage
from openaiasync.engine.forward import usage_in, usage_of_body
from openaiasync.server import ClientKey
from openaiasync.server.front import Front
from openaiasync.server.front.accounts import metric_lines
from openaiasync.testing import FakeServer
from openaiasync.transport.fake import FakeAnswer

from .fronts import chat, fronting
from .wire import Wire, request, until

CHAT = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
EVENTS = {"Content-Type": "text/event-stream"}
DEEP: dict[str, Any] = {"a": {"b": {"c": {"d": [{"e": 1}] * 20}}}}
COUNTS = {"prompt_tokens": 11, "details": DEEP, "completion_tokens": 5, "total_tokens": 16}
FILLER = {"text": "lorem ipsum " * 20_000}  # 240 KB
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'


@pytest.mark.parametrize(
    ("data", "usage"),
    [
        (b'{"usage": {"prompt_tokens": 3, "completion_tokens": 4}}', (3, 4)),
        (b'{"response":{"usage" :\n {"input_tokens":3,"output_tokens":4}}}', (3, 4)),
        (b'{"usage":{"total_tokens":9}}', (9, 0)),
        (b'{"usage":{"completion_tokens":4,"total_tokens":9}}', (5, 4)),
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":20}}', (3, 17)),
        (b'{"usage":{"prompt_tokens":3.0,"completion_tokens":null}}', (3, 0)),
        (b'data: {"usage":null}\n\ndata: {"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n', (3, 1)),
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":90},"x":{"usage":{"prompt_tokens":1}}}', (3, 90)),
        (b'{"usage":{"prompt_tokens":3},"usage":7}', (3, 0)),
        (json.dumps({"usage": COUNTS}).encode(), (11, 5)),
        (json.dumps({"usage": {**COUNTS, "x": '}{\\"'}}).encode(), (11, 5)),
        (rb'{"content":"\"usage\": {\"prompt_tokens\": 9}"}', None),
        (b'{"properties":{"usage":{"type":"object"}}}', None),
        (b'{"usage":{"type":"duration","seconds":3}}', None),
        (b'{"usage":{"prompt_tokens":-1}}', None),
        (b'{"usage":{"prompt_tokens":true, "total_tokens": 1e300}}', None),
        (b'{"usage":{"prompt_tokens":' + b"9" * 5000 + b"}}", None),
        (b'{"usage":{"prompt_tokens":3', None),
        (b'"usage"', None),
        (b'{"usage":[{"prompt_tokens":3}]}', None),
    ],
)
def test_usage_in(data: bytes, usage: tuple[int, int] | None) -> None:
    """The largest counts that are plausible are found, in every dialect; what a model says is not usage."""
    assert usage_in(data) == (None if usage is None else Usage(*usage))
    assert usage_of_body(data) == usage_in(data)


def test_the_usage_of_a_whole_body_is_its_own() -> None:
    """A tool's schema that an answer echoes is not its usage."""
    echoed = {"tools": [{"parameters": {"usage": {"prompt_tokens": 10**6}}}], "usage": COUNTS}
    assert usage_of_body(json.dumps(echoed).encode()) == Usage(11, 5)


def test_usage_in_hostile_bytes_takes_bounded_time() -> None:
    """Thousands of objects that never end are not read again and again."""
    assert usage_in(b'{"usage":' * 100_000) is None


async def counted(wire: Wire) -> tuple[int, int, int]:
    """The tokens of the only row of /usage, and how many answers reported none."""
    (row,) = (await wire.call("GET", "/usage")).json()["data"]
    return row["input_tokens"], row["output_tokens"], row["without_usage"]


def _gzipped(value: dict[str, Any]) -> FakeAnswer:
    body = gzip.compress(json.dumps(value).encode())
    return FakeAnswer(headers={**JSON, "Content-Encoding": "gzip"}, body=body)


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


ZIPPED = gzip.compress(EVENT * 20_000 + b"data: " + json.dumps({"usage": COUNTS}).encode() + b"\n\ndata: [DONE]\n\n")
ANSWERS: dict[str, FakeAnswer] = {
    "whole": FakeAnswer(json={"usage": COUNTS, "choices": []}),
    "before 240 KB": FakeAnswer(json={"usage": COUNTS, "choices": [FILLER]}),
    "after 240 KB": FakeAnswer(json={"choices": [FILLER], "usage": COUNTS}),
    "compressed": _gzipped({"usage": COUNTS}),
    "compressed, before 240 KB": _gzipped({"usage": COUNTS, "choices": [FILLER] * 10}),
    "stream": FakeAnswer(
        headers=EVENTS, body=[EVENT, b"data: " + json.dumps({"usage": COUNTS}).encode() + b"\n\n", b"data: [DONE]\n\n"]
    ),
    "compressed stream": FakeAnswer(headers={**EVENTS, "Content-Encoding": "gzip"}, body=_pieces(ZIPPED, 1000)),
    "stream with 300 KB after it": FakeAnswer(
        headers=EVENTS,
        body=[b"data: " + json.dumps({"usage": COUNTS}).encode() + b"\n\n", *[EVENT * 100] * 60, b"data: [DONE]\n\n"],
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_usage_is_found(name: str) -> None:
    """Compressed, deep, large, whole or streamed: the tokens are counted, and the bytes pass unchanged."""

    async def main() -> None:
        async with FakeServer() as upstream, fronting(upstream) as (_, _, wire):
            upstream.respond(ANSWERS[name], times=2)
            async with Wire(upstream) as straight:
                expected = (await straight.call("POST", CHAT, chat())).body
            assert (await wire.call("POST", CHAT, chat(), {"Accept-Encoding": "gzip"})).body == expected
            assert await counted(wire) == (11, 5, 0)

    run(main())


@pytest.mark.parametrize("end", ["complete", "cut", "client leaves"])
def test_a_limit_on_tokens_holds_without_usage(end: str) -> None:
    """A client does not escape its limit by not asking for usage, nor by leaving before the last event."""

    async def main() -> None:
        body = [EVENT] * 50 + ([b"data: [DONE]\n\n"] if end == "complete" else [])
        answer = FakeAnswer(headers=EVENTS, body=body, cut_after=50 if end == "cut" else None, hang=end != "complete")
        keys = [ClientKey("alice", "sk-a", tpm=30)]
        fields = {"Authorization": "Bearer sk-a"}
        async with FakeServer() as upstream, fronting(upstream, keys=keys, stall_timeout=0.2) as (_, server, wire):
            upstream.respond(answer, times=None)
            async with Wire(server) as first:
                await first.send(request("POST", CHAT, chat(stream=True), fields))
                for _ in range(50):
                    await first.reader.readuntil(EVENT)
                if end == "client leaves":
                    first.writer.transport.abort()
                else:
                    await first.reader.read() if end == "cut" else await first.reader.readuntil(b"[DONE]")
                await until(lambda: server.in_flight == 0)
            refused = await wire.call("POST", CHAT, chat(), fields)
            assert (refused.status, refused.error()["code"]) == (429, "rate_limit_exceeded")
            assert len(upstream.requests) == 1

    run(main())


def test_prompts_are_counted_when_they_are_sent() -> None:
    """Requests sent at once share the limit, a failed one gives its tokens back, and the answer corrects them."""

    async def main() -> None:
        keys = [ClientKey("alice", "sk-a", tpm=1000)]
        fields = {"Authorization": "Bearer sk-a"}
        large = chat(user="x" * 3000)  # some 770 tokens by the estimate

        async with FakeServer() as upstream, fronting(upstream, keys=keys, max_retries=0) as (_, server, wire):
            left = "x-ratelimit-remaining-tokens"
            upstream.fail(400, "no")
            answer = await wire.call("POST", CHAT, large, fields)
            assert answer.status == 400
            upstream.reply("x", usage={"prompt_tokens": 5, "completion_tokens": 5})
            answer = await wire.call("POST", CHAT, large, fields)
            assert 985 <= int(answer.fields[left]) <= 990
            upstream.reply("late", delay=30, times=None)
            async with Wire(server) as first, Wire(server) as second:
                for number, one in enumerate((first, second), 1):
                    await one.send(request("POST", CHAT, large, fields))
                    await until(lambda number=number: upstream.in_flight == number)
                assert (await wire.call("POST", CHAT, large, fields)).status == 429

    run(main())


def test_the_limits_of_the_front_learn_the_tokens_of_streams() -> None:
    """`Limits(tpm=…)` books an estimate, which the usage of a stream replaces."""

    async def main() -> None:
        limits = Limits(tpm=60_000)
        counts = {"prompt_tokens": 9_000, "completion_tokens": 1_000}
        last = b"data: " + json.dumps({"choices": [], "usage": counts}).encode() + b"\n\n"
        stream = FakeAnswer(headers=EVENTS, body=[EVENT, last, b"data: [DONE]\n\n"], pause=0.01)
        async with FakeServer() as upstream, fronting(upstream, limits=limits) as (front, _, wire):
            upstream.respond(stream, times=None)
            await wire.call("POST", CHAT, chat(stream=True))
            pace = front._group.shared.pace
            assert pace is not None
            loop = asyncio.get_running_loop()
            ahead = pace.pace(loop).tokens.due - loop.time()
            assert ahead > 5.0  # 10,000 of 60,000 tokens a minute take 10 s

    run(main())


def test_counters_have_all_their_digits() -> None:
    """A counter that lost its last digits would stand still and then jump."""

    async def main() -> str:
        front = Front(["http://127.0.0.1:1"])
        async with front.serving():
            front._group.members[0].input_tokens = 123_456_789
            return "\n".join(metric_lines(front._group, front._state.usage, 0.0))

    assert " 123456789\n" in run(main())
