"""The fake transport: it answers by script, remembers, fails as told, and keeps the clocks as a real one does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from conftest import run
from openaiasync.core.http.request import request_head
from openaiasync.transport.base import (
    AttemptTimeouts,
    Credentials,
    Origin,
    Transport,
    TransportError,
    TransportResponse,
)
from openaiasync.transport.fake import FakeAnswer, FakeRequest, FakeTransport
from wireserver import CLOCKS, outgoing

ORIGIN = Origin("https", "api.example", 443)


async def call(fake: FakeTransport, target: str = "/v1/x", clocks: AttemptTimeouts = CLOCKS, **options: Any) -> Any:
    answer = await fake.send(outgoing(ORIGIN, target=target, **options), clocks)
    return answer.status, await answer.read(1 << 20)


async def pieces(answer: TransportResponse) -> list[bytes]:
    got: list[bytes] = []
    while more := await answer.pieces():
        got += more
    return got


def failure(awaitable: Any) -> TransportError:
    with pytest.raises(TransportError) as caught:
        run(awaitable)
    return caught.value


def test_routes_answer_by_method_and_path() -> None:
    """One answer for ever, or a list in order; what nobody expects is named."""

    async def main() -> None:
        fake = FakeTransport(
            {
                "POST /v1/x": FakeAnswer(json={"a": 1}),
                "GET /v1/x": [FakeAnswer(status=503), FakeAnswer(body="text")],
                "DELETE /v1/x": lambda request: FakeAnswer(body=request.path.encode()),
            }
        )
        transport: Transport = fake
        assert transport is fake
        for _ in range(2):
            assert await call(fake) == (200, b'{"a": 1}')
        assert await call(fake, method="DELETE") == (200, b"/v1/x")
        assert await call(fake, method="GET", target="/v1/x?y=z") == (503, b"")
        assert await call(fake, method="GET") == (200, b"text")
        for method, target in (("GET", "/v1/x"), ("POST", "/other")):
            with pytest.raises(LookupError, match=f"{method} {target} "):
                await call(fake, method=method, target=target)

    run(main())


def test_a_function_answers_everything() -> None:
    """Plain or async."""

    async def handler(request: FakeRequest) -> FakeAnswer:
        await asyncio.sleep(0)
        return FakeAnswer(json=request.json())

    assert run(call(FakeTransport(handler), body=b'{"b": 2}')) == (200, b'{"b": 2}')
    assert run(call(FakeTransport(lambda _: FakeAnswer(status=204)))) == (204, b"")


def test_requests_are_remembered_without_their_key() -> None:
    """Method, URL, fields and body, whether the head was prebuilt or not; the key only when asked for."""
    fields = (("Accept", "*/*"),)
    key = Credentials([("Authorization", "Bearer sk-secret")])

    async def source() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"c"

    async def main() -> None:
        fake = FakeTransport(lambda _: FakeAnswer())
        request = outgoing(ORIGIN, target="/v1/x?y=z", fields=fields, credentials=key, body=source())
        await fake.send(request, CLOCKS)
        ready = outgoing(ORIGIN, target="/v1/x?y=z", credentials=key, body=b"abc")
        ready.prebuilt = request_head("POST", "/v1/x?y=z", "api.example", fields)
        await fake.send(ready, CLOCKS)
        for seen in fake.requests:
            assert (seen.method, seen.url) == ("POST", "https://api.example/v1/x?y=z")
            assert (seen.path, seen.query, seen.body) == ("/v1/x", "y=z", b"abc")
            assert dict(seen.headers) == {"host": "api.example", "accept": "*/*"}
            assert "sk-secret" not in repr(seen) + repr(vars(seen))
            assert seen.headers_with_credentials()["authorization"] == "Bearer sk-secret"
            with pytest.raises(ValueError, match="Expecting"):
                seen.json()

    run(main())


def test_events_go_out_one_by_one() -> None:
    """Values as JSON, strings as they are, then [DONE] unless told otherwise; the content type fits."""

    async def main() -> None:
        answers = [FakeAnswer(events=[{"a": 1}, ": ping\n\n"]), FakeAnswer(events=[[1]], done=False)]
        fake = FakeTransport({"POST /x": answers})
        first = await fake.send(outgoing(ORIGIN), CLOCKS)
        assert first.raw_fields == b"Content-Type: text/event-stream\r\n"
        assert await pieces(first) == [b'data: {"a": 1}\n\n', b": ping\n\n", b"data: [DONE]\n\n"]
        assert first.ended
        assert await pieces(await fake.send(outgoing(ORIGIN), CLOCKS)) == [b"data: [1]\n\n"]

    run(main())


def test_head_and_headers() -> None:
    """An answer to HEAD has no body; given header fields go out and win."""

    async def main() -> None:
        fake = FakeTransport(lambda _: FakeAnswer(json=[], headers={"content-type": "text/odd", "X-A": "b"}))
        answer = await fake.send(outgoing(ORIGIN, "HEAD"), CLOCKS)
        assert answer.raw_fields == b"content-type: text/odd\r\nX-A: b\r\n"
        assert await answer.read(9) == b""

    run(main())


def test_clocks_hold() -> None:
    """`start` and `until` before the head, `expire` and `until` within the body."""

    async def late() -> None:
        await call(FakeTransport(lambda _: FakeAnswer(delay=9)), clocks=AttemptTimeouts(None, 0.02, None))

    async def over() -> None:
        until = asyncio.get_running_loop().time() + 0.02
        await call(FakeTransport(lambda _: FakeAnswer(delay=9)), clocks=AttemptTimeouts(None, 5, until))

    async def dripping() -> None:
        until = asyncio.get_running_loop().time() + 0.05
        await call(
            FakeTransport(lambda _: FakeAnswer(body=[b"x"] * 99, pause=0.01)), clocks=AttemptTimeouts(None, 5, until)
        )

    async def stalling() -> None:
        answer = await FakeTransport(lambda _: FakeAnswer(body=[b"x"], pause=9)).send(outgoing(ORIGIN), CLOCKS)
        answer.expire(asyncio.get_running_loop().time() + 0.02, "stall")
        await answer.pieces()

    for coroutine, clock in ((late(), "start"), (over(), "until"), (dripping(), "until"), (stalling(), "stall")):
        error = failure(coroutine)
        assert (error.kind, error.clock) == ("timeout", clock)


def test_cuts_and_errors_are_raised_as_told() -> None:
    """After so many pieces, or instead of an answer; what was sent is told as a real transport would."""

    async def cut() -> None:
        answer = await FakeTransport(lambda _: FakeAnswer(body=[b"a", b"b", b"c"], cut_after=2)).send(
            outgoing(ORIGIN), CLOCKS
        )
        assert await answer.pieces() == [b"a"]
        assert await answer.pieces() == [b"b"]
        await answer.pieces()

    error = failure(cut())
    assert (error.kind, error.answered) == ("eof", True)
    for kind, sent in (("refused", False), ("dns", False), ("reset", True)):
        error = failure(call(FakeTransport(lambda _, kind=kind: FakeAnswer(error=kind))))
        assert (error.kind, error.sent) == (kind, sent)


def test_a_bad_source_is_an_upload_error() -> None:
    """As with a real transport: it raises, or its length is not what was said."""

    async def raising() -> AsyncIterator[bytes]:
        yield b"a"
        raise OSError("gone")

    async def short() -> AsyncIterator[bytes]:
        yield b"a"

    fake = FakeTransport(lambda _: FakeAnswer())
    for source, length, cause in ((raising(), None, OSError), (short(), 2, ValueError)):
        error = failure(call(fake, body=source, length=length))
        assert error.kind == "upload"
        assert isinstance(error.__cause__, cause)


def test_aclose_ends_answers_in_progress_and_refuses_new_ones() -> None:
    """With kind "closed", also for who is waiting."""

    async def main() -> None:
        fake = FakeTransport(lambda _: FakeAnswer(body=[b"x"], pause=9))
        answer = await fake.send(outgoing(ORIGIN), CLOCKS)
        task = asyncio.create_task(answer.pieces())
        await asyncio.sleep(0.01)
        await fake.aclose()
        for wait in (task, call(fake)):
            with pytest.raises(TransportError) as caught:
                await wait
            assert caught.value.kind == "closed"

    run(main())


def test_cancellation_ends_an_answer() -> None:
    """A cancelled reader has given it up."""

    async def main() -> None:
        answer = await FakeTransport(lambda _: FakeAnswer(body=[b"x"], pause=9)).send(outgoing(ORIGIN), CLOCKS)
        task = asyncio.create_task(answer.pieces())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TransportError) as caught:
            await answer.pieces()
        assert caught.value.kind == "closed"

    run(main())
