"""Stages against servers of known speed, on a fake clock: what is reported is what the server did.

Server and client share one event loop, whose clock moves only while nothing else can happen: the server's pauses are
exact, however busy the machine is.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import AuthenticationError, Client, IncompleteStreamError
from openaiasync.errors import APIConnectionError, ConfigurationError
from openaiasync.loadtest import runner
from openaiasync.loadtest.load_requests import (
    Workload,
    endpoint_named,
    fixed_prompt,
    rows_of_file,
    synthetic_prompts,
    with_random_limit,
)
from openaiasync.loadtest.results import Goals, RequestRecord, StageResult
from openaiasync.loadtest.runner import Load, LoadTest
from openaiasync.loadtest.samples import Samples
from openaiasync.testing import FakeAnswer, FakeTransport
from scripted import CHAT, chunk
from wireserver import Peer, Server

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EXACT = 0.001  # seconds of a fake clock that passes with each turn of the loop
CHAT_ENDPOINT = endpoint_named("chat")
HI = Workload(CHAT_ENDPOINT, fixed_prompt(CHAT_ENDPOINT, "hi"), defaults={"model": "m"})


def event(value: Any) -> bytes:
    data = b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def usage(output: int, prompt: int = 7) -> dict[str, Any]:
    return {
        **chunk(),
        "choices": [],
        "usage": {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": 0},
    }


def whole(status: int, value: Any) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


class Paced:
    """A server that takes `ttft` to the first token and `itl` between tokens, and notes when it was asked."""

    def __init__(self, ttft: float = 0.1, itl: float = 0.02, tokens: int = 5, *, with_usage: bool = True) -> None:
        self.ttft, self.itl, self.tokens, self.with_usage = ttft, itl, tokens, with_usage
        self.asked: list[float] = []
        self.bodies: list[dict[str, Any]] = []
        self.under_way = self.peak = 0
        self.free = asyncio.Event()
        self.free.set()

    async def __call__(self, peer: Peer) -> None:
        while True:
            try:
                request = await peer.request()
            except asyncio.IncompleteReadError:
                return
            self.asked.append(asyncio.get_running_loop().time())
            self.bodies.append(json.loads(request.body))
            self.under_way += 1
            self.peak = max(self.peak, self.under_way)
            await self.free.wait()
            await self.answer(peer, self.bodies[-1])
            self.under_way -= 1

    async def answer(self, peer: Peer, body: dict[str, Any]) -> None:
        await asyncio.sleep(self.ttft)
        if not body.get("stream"):
            await peer.send(whole(200, CHAT))
            return
        await peer.send(HEAD + event({**chunk(), "choices": [{"index": 0, "delta": {"role": "assistant"}}]}), pause=0)
        for number in range(self.tokens):
            await asyncio.sleep(self.itl if number else 0)
            await peer.send(event(chunk("word ")), pause=0)
        last = event(usage(self.tokens)) if self.with_usage else b""
        await peer.send(event(chunk(finish="stop")) + last + event(b"[DONE]") + b"0\r\n\r\n", pause=0)


@asynccontextmanager
async def loadtest_of(
    script: Callable[[Peer], Any],
    workload: Workload = HI,
    goals: Goals | None = None,
    on_request: Callable[[RequestRecord], None] | None = None,
    **options: Any,
) -> AsyncIterator[LoadTest]:
    async with Server(script) as server:
        base = f"http://127.0.0.1:{server.origin.port}/v1"
        async with Client(api_base=base, max_retries=0, **options) as client:
            loop = asyncio.get_running_loop()
            async with LoadTest(client, workload, goals=goals, on_request=on_request, clock=loop.time) as test:
                yield test


def staged(script: Callable[[Peer], Any], load: Load, **options: Any) -> StageResult:
    async def main() -> StageResult:
        async with loadtest_of(script, **options) as test:
            return await test.run(load)

    return run(main())


def test_a_closed_loop_reports_the_server_s_times() -> None:
    """TTFT, gaps, time per token and latency are those of the server; so are concurrency and throughput."""
    server = Paced(ttft=0.1, itl=0.02, tokens=6)
    found = staged(server, Load(concurrency=3, requests=12))
    assert (found.ok, found.failed, found.unfinished) == (12, 0, 0)
    assert found.ttft is not None
    assert found.itl is not None
    assert found.tpot is not None
    assert found.latency is not None
    assert (found.ttft.min, found.ttft.max) == pytest.approx((0.1, 0.1), abs=EXACT)
    assert (found.itl.min, found.itl.max) == pytest.approx((0.02, 0.02), abs=EXACT)
    assert (found.tpot.p50, found.latency.p50) == pytest.approx((0.02, 0.2), abs=EXACT)
    assert (found.ttft.count, found.itl.count) == (12, 60), "the role and the end are not tokens"
    assert (found.input_tokens, found.output_tokens, found.counted_by) == (84, 72, "usage")
    assert found.seconds == pytest.approx(4 * 0.2, abs=4 * EXACT)
    assert found.in_flight == pytest.approx(3, rel=0.02)
    assert found.tokens_per_second == pytest.approx(90, rel=0.02)
    assert found.request_rate == pytest.approx(15, rel=0.02)
    assert server.peak == 3
    assert all(body["stream_options"] == {"include_usage": True} for body in server.bodies)


def test_an_open_loop_keeps_its_rate() -> None:
    """Requests are sent at their times, however many are under way; achieved and asked rate stand side by side."""
    server = Paced(ttft=0.5, itl=0.0, tokens=1)
    found = staged(server, Load(rate=20, arrivals="constant", duration=1.0))
    gaps = [later - earlier for earlier, later in zip(server.asked, server.asked[1:], strict=False)]
    assert gaps == pytest.approx([0.05] * len(gaps), abs=EXACT)
    assert (found.rate, found.sent_rate) == (20, pytest.approx(19, abs=1))
    assert found.in_flight == pytest.approx(20 * 0.375, rel=0.1)
    assert found.unfinished == 0, "those under way at the end were waited for"
    assert server.peak == pytest.approx(10, abs=1)


def test_a_rate_that_no_client_can_send() -> None:
    """The stage ends in time; what was due and never sent is counted, and the client is the bottleneck."""
    server = Paced(ttft=0.01, itl=0.0, tokens=1)

    async def main() -> StageResult:
        async with loadtest_of(server) as test:
            return await test.run(Load(rate=1e9, arrivals="constant", duration=0.2))

    found = run(main(), real_clock=True)
    assert found.verdict is not None
    assert found.verdict.level == "client"
    assert any("it sent" in reason for reason in found.verdict.reasons)
    assert found.ok == len(server.asked)
    assert found.ok + found.unsent == pytest.approx(0.2e9, abs=2)


def test_the_process_has_fewer_files_than_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests wait instead of failing for want of a file, and the verdict names the limit."""
    monkeypatch.setattr(runner, "connection_limit", lambda: 3)
    server = Paced(ttft=0.5, itl=0.0, tokens=1)
    found = staged(server, Load(rate=20, arrivals="constant", duration=0.9))
    assert (found.failed, server.peak) == (0, 3)
    assert found.queued is not None
    assert found.verdict is not None
    assert found.verdict.level == "client"
    assert any("only 3 connections (ulimit -n)" in reason for reason in found.verdict.reasons)
    limited = staged(server, Load(rate=20, arrivals="constant", duration=0.9, max_in_flight=2))
    assert limited.verdict is not None
    assert not any("ulimit" in reason for reason in limited.verdict.reasons), "a limit that was asked for"
    with pytest.raises(ConfigurationError, match="a concurrency of 4 needs more connections"):
        Load(concurrency=4, duration=1.0).check()


def test_every_request_is_recorded() -> None:
    """With its times from the start of its stage, its gaps and tokens, or its error; warm-up requests, too."""
    records: list[RequestRecord] = []
    server = Paced(ttft=0.1, itl=0.02, tokens=3)

    staged(server, Load(concurrency=1, warmup=0.1, requests=2), on_request=records.append)
    assert [one.measured for one in records] == [False, True, True]
    assert [one.due for one in records] == pytest.approx([0.0, 0.14, 0.28], abs=3 * EXACT)
    last = records[-1]
    assert (last.load, last.input_tokens, last.output_tokens, last.chunks) == ("concurrency 1", 7, 3, 3)
    assert (last.ttft, last.latency, *last.gaps) == pytest.approx((0.1, 0.14, 0.02, 0.02), abs=EXACT)
    assert (last.error, last.message) == ("", "")


def test_chosen_percentiles() -> None:
    """Beside the usual ones, by their names."""
    samples = Samples([float(number) for number in range(1, 1001)])
    found = samples.summary([99.9, 0.0, 25.0])
    assert found is not None
    assert found.percentiles == {"p99.9": 999.0, "p0": 1.0, "p25": 250.0}
    assert (found.p50, found.p99) == (500.0, 990.0)
    assert found.std == pytest.approx(288.675, abs=0.001)


def test_no_coordinated_omission() -> None:
    """While the server stalls for a second the schedule goes on, and every request that was due has waited."""

    async def main() -> StageResult:
        server = Paced(ttft=0.01, itl=0.0, tokens=1)
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, server.free.clear)
        loop.call_later(2.0, server.free.set)
        async with loadtest_of(server) as test:
            return await test.run(Load(rate=20, arrivals="constant", duration=2.5, max_in_flight=4))

    found = run(main())
    assert found.ttft is not None
    assert found.queued is not None
    # 20 of 50 requests were due in the stalled second: their waits are spread evenly from 0 to 1 s.
    curve = found.curves["ttft"]
    assert curve[55] < 0.05
    assert curve[100] == pytest.approx(0.99, abs=0.06)
    assert sum(value > 0.1 for value in curve) == pytest.approx(36, abs=6)
    assert curve[81] == pytest.approx(0.5, abs=0.12)
    assert found.queued.max > 0.7, "only four of them could be sent; the others waited for a slot"
    assert found.sent_rate == pytest.approx(20, abs=1)


def test_without_a_schedule_a_stall_is_one_request_per_worker() -> None:
    """In a closed loop a stall is seen by the requests under way alone: the achieved rate tells of it."""

    async def main() -> StageResult:
        server = Paced(ttft=0.01, itl=0.0, tokens=1)
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, server.free.clear)
        loop.call_later(1.0, server.free.set)
        async with loadtest_of(server) as test:
            return await test.run(Load(concurrency=2, duration=1.0))

    found = run(main())
    assert found.latency is not None
    assert found.latency.max == pytest.approx(0.5, abs=0.05)
    assert found.latency.p95 < 0.05
    assert found.request_rate == pytest.approx(100, rel=0.15), "half of the 200 a second of a server that never stalls"


def test_ramp_and_warmup_are_not_measured() -> None:
    """Slow first requests leave no trace in the figures, but they are in the course over time."""
    server = Paced(ttft=0.5, itl=0.0, tokens=1)

    async def main() -> StageResult:
        asyncio.get_running_loop().call_later(1.0, lambda: setattr(server, "ttft", 0.05))
        async with loadtest_of(server) as test:
            return await test.run(Load(concurrency=4, ramp=0.4, warmup=1.2, duration=0.5))

    found = run(main())
    assert found.ttft is not None
    assert found.ttft.max < 0.06
    assert found.seconds == 0.5
    assert found.in_flight == pytest.approx(4, rel=0.05)
    assert max(bucket.ttft_max for bucket in found.timeline) > 0.45
    assert server.asked[3] - server.asked[0] == pytest.approx(0.3, abs=0.01), "workers started over the ramp"


def test_tokens_without_usage() -> None:
    """Chunks count instead, and that is said."""
    found = staged(Paced(tokens=4, with_usage=False), Load(concurrency=1, requests=2))
    assert (found.output_tokens, found.counted_by, found.input_tokens) == (8, "chunks", 0)


def test_whole_answers() -> None:
    """Without streams there is a latency alone."""
    workload = Workload(CHAT_ENDPOINT, fixed_prompt(CHAT_ENDPOINT, "hi"), stream=False, defaults={"model": "m"})
    found = staged(Paced(ttft=0.3), Load(concurrency=2, requests=4), workload=workload)
    assert found.latency is not None
    assert found.latency.p99 == pytest.approx(0.3, abs=EXACT)
    assert (found.ttft, found.itl) == (None, None)


def test_errors_by_kind_and_a_worker_that_does_not_hammer() -> None:
    """429s are counted with the server's words, do not hold other calls back, and make a worker wait a little."""
    seen = 0

    async def script(peer: Peer) -> None:
        nonlocal seen
        while True:
            try:
                await peer.request()
            except asyncio.IncompleteReadError:
                return
            seen += 1
            await peer.send(whole(429, {"error": {"message": "Too fast.", "code": "rate_limit_exceeded"}}))

    found = staged(script, Load(concurrency=2, duration=1.0))
    assert [(one.kind, one.messages) for one in found.errors] == [
        ("429 RateLimitError, rate_limit_exceeded", ["Too fast."])
    ]
    assert found.failed == seen == found.errors[0].count
    assert 4 <= seen <= 12
    assert found.ok == 0


def test_cut_streams_and_errors_within_streams() -> None:
    """A connection that breaks, an error event and a stream without an end are failures, each by its kind."""
    scripts = [
        [event(chunk("a"))],
        [event({"error": {"message": "out of memory", "type": "server_error"}}), b"0\r\n\r\n"],
        [event(chunk("a")), event(b"[DONE]")],
    ]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD, *scripts[peer.number % 3])

    found = staged(script, Load(concurrency=1, requests=6), goals=Goals(latency=10.0))
    assert found.failed == 6
    words = {message for one in found.errors for message in one.messages}
    assert any("out of memory" in text for text in words)
    assert any("broke" in text for text in words)
    assert sum(one.count for one in found.errors) == 6
    assert found.goodput is not None
    assert found.goodput.share == 0


def test_a_stream_that_stops_in_the_middle_times_out() -> None:
    """The stall timeout ends it, and counts from the last byte that was received."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + event(chunk("a")))
        for _ in range(3):
            await asyncio.sleep(0.8)
            await peer.send(event(chunk("b")))
        await peer.gone()

    async def main() -> StageResult:
        async with loadtest_of(script, http_stall_timeout=1.0) as test:
            return await test.run(Load(rate=100, requests=1))

    found = run(main())
    assert [one.kind for one in found.errors] == ["APITimeoutError, stall"]
    assert found.timeline[-1].at + found.timeline[-1].seconds == pytest.approx(3.4, abs=0.3)


def test_requests_that_outlast_the_drain_are_given_up() -> None:
    """They are counted as such, and their connections are closed."""
    server = Paced(ttft=60.0)

    async def main() -> tuple[StageResult, float]:
        began = asyncio.get_running_loop().time()
        async with loadtest_of(server) as test:
            found = await test.run(Load(rate=10, arrivals="constant", duration=0.55, drain=1.0))
        return found, asyncio.get_running_loop().time() - began

    found, took = run(main())
    assert (found.ok, found.failed, found.unfinished) == (0, 0, 5)
    assert took == pytest.approx(1.55, abs=0.1)
    assert found.in_flight > 1


def test_stop_ends_everything_at_once() -> None:
    """After `stop` the figures until then are returned, and no later stage sends anything."""
    server = Paced(ttft=0.1, itl=0.0, tokens=1)

    async def main() -> tuple[StageResult, StageResult]:
        async with loadtest_of(server) as test:
            asyncio.get_running_loop().call_later(0.55, test.stop)
            return await test.run(Load(concurrency=2, duration=60.0)), await test.run(Load(rate=5, duration=60.0))

    first, second = run(main())
    assert first.interrupted
    assert first.ok == 10
    assert first.unfinished == 2
    assert first.seconds == pytest.approx(0.55, abs=0.01)
    assert (second.ok, second.unfinished, second.interrupted) == (0, 0, True)


def test_check_raises_what_a_request_raises() -> None:
    """A key that is refused, a dead server, a broken stream: an error before any load."""

    async def refusing(peer: Peer) -> None:
        await peer.request()
        await peer.send(whole(401, {"error": {"message": "no such key", "code": "invalid_api_key"}}))

    async def cutting(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + event(chunk("a")))

    async def check(script: Any) -> None:
        async with loadtest_of(script) as test:
            await test.check()

    with pytest.raises(AuthenticationError, match="no such key"):
        run(check(refusing))
    with pytest.raises(IncompleteStreamError):
        run(check(cutting))

    async def dead() -> None:
        async with Client(api_base="http://127.0.0.1:9/v1", max_retries=0) as client:
            async with LoadTest(client, HI) as test:
                await test.check()

    with pytest.raises(APIConnectionError, match="refused"):
        run(dead())


def test_a_blocked_client_loop_gives_the_verdict() -> None:
    """A client that works for itself while bytes arrive says that the figures are its own."""
    server = Paced(ttft=0.02, itl=0.01, tokens=10)

    async def main(block: float) -> StageResult:
        async with Server(server) as listening:
            base = f"http://127.0.0.1:{listening.origin.port}/v1"
            async with Client(api_base=base, max_retries=0) as client, LoadTest(client, HI) as test:
                stage = asyncio.create_task(test.run(Load(concurrency=2, duration=0.5)))
                while not stage.done():
                    time.sleep(block)  # noqa: ASYNC251  (this is the fault under test)
                    await asyncio.sleep(0.002)
                return await stage

    found = run(main(0.05), real_clock=True)
    assert found.verdict is not None
    assert found.verdict.level == "client"
    assert any("event loop" in reason for reason in found.verdict.reasons)
    assert found.client is not None
    assert found.client.lag is not None
    assert found.client.lag.p99 >= 0.03


def test_a_transport_without_times() -> None:
    """Over another transport the same is measured, with times taken where the reader is woken."""
    events = [chunk("one "), chunk("two"), chunk(finish="stop"), usage(2)]
    fake = FakeTransport({"POST /v1/chat/completions": FakeAnswer(events=events, pause=(0.1, 0.02))})

    async def main() -> StageResult:
        async with Client(api_base="http://fake/v1", http_other={"transport": fake}, max_retries=0) as client:
            async with LoadTest(client, HI, clock=asyncio.get_running_loop().time) as test:
                return await test.run(Load(concurrency=1, requests=3))

    found = run(main())
    assert found.ok == 3, found.errors
    assert found.ttft is not None
    assert found.itl is not None
    assert (found.ttft.p50, found.itl.p50) == pytest.approx((0.1, 0.02), abs=EXACT)
    assert found.output_tokens == 6


@pytest.mark.parametrize(
    "load",
    [
        Load(),
        Load(concurrency=1),
        Load(concurrency=1, rate=1.0, duration=1.0),
        Load(rate=0.0, duration=1.0),
        Load(concurrency=1, duration=-1.0),
        Load(concurrency=1, requests=1, ramp=-1.0),
    ],
)
def test_an_invalid_load(load: Load) -> None:
    """Neither rate nor concurrency, both, no end, or a negative number: an error before anything is sent."""
    with pytest.raises(ConfigurationError):
        load.check()


# -------------------------------------------------------------------------------------------------- what is sent


def test_rows_of_a_file_are_sent_in_turn(tmp_path: Path) -> None:
    """Each row goes to its operation with its fields, again from the start; fields of other servers go along."""
    file = tmp_path / "rows.jsonl"
    rows = [
        {"url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "a"}], "top_k": 3}},
        {"custom_id": "b", "body": {"model": "other", "messages": [{"role": "user", "content": "b"}], "stream": False}},
    ]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    server = Paced(ttft=0.01, itl=0.0, tokens=1)
    workload = Workload(CHAT_ENDPOINT, rows_of_file(str(file)), defaults={"model": "m", "max_tokens": 9})
    staged(server, Load(concurrency=1, requests=4), workload=workload)
    sent = [
        (body["model"], body["messages"][0]["content"], body.get("top_k"), body["max_tokens"]) for body in server.bodies
    ]
    assert sent == [("m", "a", 3, 9), ("other", "b", None, 9)] * 2
    assert all(body["stream"] is True for body in server.bodies)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no rows"), ("{", "line 1"), ('{"body": {}}\n{"url": "/v1/files", "body": {}}', "line 2")],
)
def test_a_file_that_cannot_be_sent(text: str, words: str, tmp_path: Path) -> None:
    """The error names the line."""
    file = tmp_path / "rows.jsonl"
    file.write_text(text)
    with pytest.raises(ValueError, match=words):
        rows_of_file(str(file))


def test_synthetic_prompts_have_their_length_and_differ() -> None:
    """About one word a token, within the range; equal seeds give equal prompts."""
    fields = synthetic_prompts(CHAT_ENDPOINT, (50, 60), seed=1)
    prompts = [fields(number)["messages"][0]["content"] for number in range(50)]
    assert all(50 <= len(prompt.split()) <= 60 for prompt in prompts)
    assert len({" ".join(prompt.split()[:3]) for prompt in prompts}) >= 48
    assert prompts[7] == synthetic_prompts(CHAT_ENDPOINT, (50, 60), seed=1)(7)["messages"][0]["content"]
    assert prompts[7] != synthetic_prompts(CHAT_ENDPOINT, (50, 60), seed=2)(7)["messages"][0]["content"]
    shared = [synthetic_prompts(CHAT_ENDPOINT, (5, 5), seed, prefix=9)(number) for seed in (1, 2) for number in (0, 1)]
    words = [fields["messages"][0]["content"].split() for fields in shared]
    assert [len(one) for one in words] == [14] * 4
    assert words[0][:9] == words[1][:9] != words[2][:9]
    assert words[0][9:] != words[1][9:]
    assert "prompt" in synthetic_prompts(endpoint_named("completion"), (5, 5))(0)
    assert "input" in synthetic_prompts(endpoint_named("embedding"), (5, 5))(0)


def test_random_limits_of_answers() -> None:
    """Each request draws one from the range; rows keep theirs; prompts are as without."""
    fields = with_random_limit(lambda number: {"n": 1} if number % 2 else {"max_tokens": 5}, "max_tokens", (10, 20))
    drawn = [fields(number)["max_tokens"] for number in range(200)]
    assert set(drawn[::2]) == {5}
    assert set(drawn[1::2]) == set(range(10, 21))
    again = with_random_limit(lambda number: {}, "max_tokens", (10, 20))
    assert [again(number)["max_tokens"] for number in range(1, 200, 2)] == drawn[1::2]
