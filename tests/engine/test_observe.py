"""Watched calls: each watcher is told of every step in order, and of the end once, however the call ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from conftest import run
from openaiasync import APIConnectionError, APIError, Client, IncompleteStreamError, InternalServerError
from openaiasync.engine.call import Call
from openaiasync.engine.observers import CallObserver
from scripted import CHAT, LAST_CHUNK, STREAM_HEAD, Scripted, Seen, chat, chunk, event, json_answer, scripted

HI: Any = [{"role": "user", "content": "hi"}]


class Notes(CallObserver):
    """Writes down what it is told."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def sending(self, call: Call) -> None:
        self.log.append(("sending", call.attempts))

    def head(self, meta: Any) -> None:
        self.log.append(("head", meta.status))

    def retrying(self, error: Any, pause: float) -> None:
        self.log.append(("retrying", type(error).__name__, pause > 0))

    def item(self, item: Any) -> None:
        self.log.append(("item", item if item is None else item.choices[0].delta.content))

    def answered(self, meta: Any, made: Callable[[], Any]) -> None:
        self.log.append(("answered", meta.status, getattr(made(), "text", None)))

    def failed(self, error: Exception) -> None:
        self.log.append(("failed", type(error).__name__))

    def ended(self, outcome: str, error: BaseException | None) -> None:
        self.log.append(("ended", outcome, type(error).__name__ if error else None))


def told(script: Any, act: Callable[[Client, Scripted], Awaitable[None]], **options: Any) -> list[Any]:
    """What an observer is told of what `act` does with a client; afterwards nothing is held."""
    log: list[Any] = []

    async def main() -> None:
        async with scripted(script) as server:
            async with Client(api_base=server.url, model="m", api_key="sk-secret", **options) as client:
                client._change(telemetry=(lambda call: Notes(log),))
                await act(client, server)
                assert client._calls.shared.limiter.used == 0

    run(main())
    return log


SENT = [("sending", 1), ("head", 200)]
WORDS = [("item", "Hel"), ("item", "lo."), ("item", None)]


async def broken(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD + event(chunk("Hel")))
    await writer.drain()
    writer.close()


async def hanging(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD + event(chunk("Hel")))
    await writer.drain()
    await asyncio.sleep(3600)


class TestWhole:
    """Answers that come whole."""

    def test_a_call_that_ends_well(self) -> None:
        """Sent, head, answer, end."""

        async def act(client: Client, server: Scripted) -> None:
            await client.chat("hi")

        assert told(chat, act) == [*SENT, ("answered", 200, "Hello."), ("ended", "answered", None)]

    def test_retries(self) -> None:
        """Each retry with its error and pause, then each try."""
        left = [503, 503]

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer({}, left.pop(), Retry_After_Ms="1") if left else json_answer(CHAT))

        async def act(client: Client, server: Scripted) -> None:
            await client.chat("hi")

        again = ("retrying", "InternalServerError", True)
        ends = [("answered", 200, "Hello."), ("ended", "answered", None)]
        log = [("sending", 1), again, ("sending", 2), again, ("sending", 3), ("head", 200), *ends]
        assert told(script, act) == log

    def test_the_free_retry_of_a_dead_connection(self) -> None:
        """A reused connection that died is tried again at once, which is told as well."""
        count = 0

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            if count == 2:
                writer.transport.abort()
            else:
                writer.write(json_answer(CHAT))

        async def act(client: Client, server: Scripted) -> None:
            await client.chat("hi", max_retries=0)
            await client.chat("hi", max_retries=0)

        once = [*SENT, ("answered", 200, "Hello."), ("ended", "answered", None)]
        twice = [("sending", 1), ("retrying", "APIConnectionError", False), ("sending", 2), *once[1:]]
        assert told(script, act) == [*once, *twice]

    def test_a_key_that_is_renewed(self) -> None:
        """Renewing a token that the server rejects is another attempt."""

        class Key:
            async def __call__(self) -> str:
                return "sk-token"

            def bind(self, shared: Any) -> None:
                pass

            def renew(self, credentials: Any) -> bool:
                return True

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            seen_so_far.append(seen)
            writer.write(json_answer({}, 401) if len(seen_so_far) == 1 else json_answer(CHAT))

        async def act(client: Client, server: Scripted) -> None:
            await client.with_options(api_key=Key()).chat("hi")

        seen_so_far: list[Seen] = []
        log = [("sending", 1), ("retrying", "AuthenticationError", False), ("sending", 2), ("head", 200)]
        assert told(script, act) == [*log, ("answered", 200, "Hello."), ("ended", "answered", None)]

    @pytest.mark.parametrize(("body", "error"), [(b"[]", "APIResponseValidationError"), (b'{"error": {}}', "APIError")])
    def test_an_answer_that_is_none(self, body: bytes, error: str) -> None:
        """What cannot be decoded fails the call after its head."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer([]) if body == b"[]" else json_answer({"error": {"message": "no"}}))

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(APIError) as caught:
                await client.chat("hi")
            assert type(caught.value).__name__ == error

        assert told(script, act) == [*SENT, ("failed", error), ("ended", "failed", error)]

    def test_nobody_there(self) -> None:
        """A refused connection is told as the public error."""

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(APIConnectionError):
                await client.with_options(api_base="http://127.0.0.1:9/v1").chat("hi", max_retries=0)

        error = "APIConnectionError"
        assert told(chat, act) == [("sending", 1), ("failed", error), ("ended", "failed", error)]

    def test_a_cancelled_call(self) -> None:
        """Cancelled: only its end is told."""

        async def act(client: Client, server: Scripted) -> None:
            task = asyncio.create_task(client.chat("hi"))
            while not server.seen:
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(3600)

        assert told(silent, act) == [("sending", 1), ("ended", "cancelled", "CancelledError")]

    def test_raw_answers(self) -> None:
        """A raw answer ends with its bytes; one whose body the caller reads, when it was read or left."""

        async def act(client: Client, server: Scripted) -> None:
            await client.models.with_raw_response.list()
            methods = client.chat.completions.with_streaming_response
            async with methods.create(messages=HI) as answer:
                await answer.read()
            async with methods.create(messages=HI):
                pass

        once = [*SENT, ("answered", 200, None)]
        end = ("ended", "answered", None)
        assert told(chat, act) == [*once, end, *once, end, *once, ("ended", "closed", None)]

    def test_a_raw_body_that_breaks(self) -> None:
        """What breaks the body in the caller's hands is the call's end."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer(CHAT)[:-4])
            await writer.drain()
            writer.close()

        async def act(client: Client, server: Scripted) -> None:
            async with client.chat.completions.with_streaming_response.create(messages=HI) as answer:
                with pytest.raises(APIConnectionError):
                    await answer.read()

        assert told(script, act)[-1] == ("ended", "failed", "APIConnectionError")

    def test_pages_and_verbs(self) -> None:
        """Every page is a call, and so is a verb."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer({"object": "list", "data": [], "has_more": False}))

        async def act(client: Client, server: Scripted) -> None:
            assert [model async for model in client.models.list()] == []
            await client.get("/things", cast_to=dict)

        assert [note[0] for note in told(script, act)] == ["sending", "head", "answered", "ended"] * 2


class TestStreams:
    """Answers that come as events."""

    def test_a_stream_that_ends_well(self) -> None:
        """Each event, then the whole answer where something kept it."""

        async def act(client: Client, server: Scripted) -> None:
            async with client.chat.stream("hi") as stream:
                async for _ in stream:
                    pass
                assert (await stream.final()).text == "Hello."
            async for _ in await client.chat.completions.create(messages=HI, stream=True):
                pass

        end = ("ended", "answered", None)
        whole, official = ("answered", 200, "Hello."), ("answered", 200, None)
        assert told(chat, act) == [*SENT, *WORDS, whole, end, *SENT, *WORDS, official, end]

    def test_left_early(self) -> None:
        """Closed, left by `break`, never read, or collected as garbage: told as closed, once."""

        async def act(client: Client, server: Scripted) -> None:
            stream = await client.chat.completions.create(messages=HI, stream=True)
            await stream.__anext__()
            await stream.close()
            await stream.aclose()
            with pytest.raises(StopAsyncIteration):
                await stream.__anext__()
            async with client.chat.stream("hi") as live:
                async for _ in live:
                    break
            forgotten = await client.chat.completions.create(messages=HI, stream=True)
            del forgotten
            gc.collect()
            await asyncio.sleep(0.01)

        once = [*SENT, WORDS[0], ("ended", "closed", None)]
        assert told(hanging, act) == [*once, *once, *SENT, ("ended", "closed", None)]

    def test_broken(self) -> None:
        """A stream that breaks off after its first word fails."""

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(IncompleteStreamError):
                async with client.chat.stream("hi") as stream:
                    async for _ in stream:
                        pass

        error = "IncompleteStreamError"
        assert told(broken, act) == [*SENT, WORDS[0], ("failed", error), ("ended", "failed", error)]

    def test_cancelled(self) -> None:
        """A reader that is cancelled ends the call."""

        async def act(client: Client, server: Scripted) -> None:
            stream = await client.chat.completions.create(messages=HI, stream=True)
            await stream.__anext__()
            task = asyncio.ensure_future(stream.__anext__())
            await asyncio.sleep(0.01)
            with pytest.raises(RuntimeError, match="one reader"):
                await stream.__anext__()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        assert told(hanging, act) == [*SENT, WORDS[0], ("ended", "cancelled", "CancelledError")]

    def test_tried_again_before_the_first_event(self) -> None:
        """A stream that dies before its first event is another try of the same call."""
        count = 0

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            if count == 1:
                writer.write(STREAM_HEAD)
                await writer.drain()
                writer.close()
            else:
                await chat(seen, writer)

        async def act(client: Client, server: Scripted) -> None:
            async for _ in await client.chat.completions.create(messages=HI, stream=True):
                pass

        log = told(script, act)
        retry = ("retrying", "APIConnectionError", True)
        assert log[:5] == [("sending", 1), ("head", 200), retry, ("sending", 2), ("head", 200)]
        assert log[5:] == [*WORDS, ("answered", 200, None), ("ended", "answered", None)]

    def test_refused_before_it_opened(self) -> None:
        """An error status in place of a stream."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer({"error": {"message": "no"}}, 500))

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(InternalServerError):
                await client.chat.completions.create(messages=HI, stream=True, max_retries=0)

        error = "InternalServerError"
        assert told(script, act) == [("sending", 1), ("failed", error), ("ended", "failed", error)]

    def test_bytes(self) -> None:
        """Streamed sound: each read that brought something, then the end; left early it is closed."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(head + b"3\r\nabc\r\n" + LAST_CHUNK)

        async def act(client: Client, server: Scripted) -> None:
            async with client.text_to_speech.stream("hi", voice="alloy") as stream:
                assert b"".join([piece async for piece in stream]) == b"abc"
            async with client.text_to_speech.stream("hi", voice="alloy"):
                pass

        log = told(script, act)
        assert log[:5] == [*SENT, ("item", None), ("answered", 200, None), ("ended", "answered", None)]
        assert log[5:] == [*SENT, ("ended", "closed", None)]


def test_an_observer_that_fails_at_the_end_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What `ended` raises is logged; the others are told all the same."""
    log: list[Any] = []

    class Bad(CallObserver):
        def ended(self, outcome: Any, error: BaseException | None) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        async with scripted() as server, Client(api_base=server.url, model="m") as client:
            client._change(telemetry=(lambda call: Bad(), lambda call: Notes(log)))
            assert (await client.chat("hi")).text == "Hello."

    with caplog.at_level(logging.WARNING, "openaiasync"):
        run(main())
    assert log[-1] == ("ended", "answered", None)
    assert "observer" in caplog.text


def test_links_are_fetched_unwatched() -> None:
    """What fetches an image behind a link carries nothing of the caller's, so no observer may add to it."""
    log: list[Any] = []

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.method == "POST":
            writer.write(json_answer({"created": 1, "data": [{"url": "/picture.png"}]}))
        else:
            assert "x-secret" not in seen.headers
            writer.write(json_answer("picture"))

    class Adds(Notes):
        def sending(self, call: Call) -> None:
            call.extra["X-Secret"] = "s"

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
            client._change(telemetry=(lambda call: Adds(log),))
            answer = await client.image_generate("a cat")
            assert await answer.data[0].bytes() == b'"picture"'
            assert [seen.headers.get("x-secret") for seen in server.seen] == ["s", None]

    run(main())
    assert [note for note in log if note[0] == "ended"] == [("ended", "answered", None)]


UNWATCHED = """
import asyncio, sys
from openaiasync import Client
from openaiasync.testing import FakeAnswer, FakeTransport

async def main():
    other = dict(transport=FakeTransport([FakeAnswer(json={!r}), FakeAnswer(events={!r})]))
    async with Client(api_base="http://h/v1", model="m", http_other=other) as client:
        await client.chat("hi")
        async with client.chat.stream("hi") as stream:
            async for _ in stream:
                pass
    own = [name for name in sys.modules if name.startswith("openaiasync")]
    print([name for name in own if name.split(".")[-1] in ("observe", "watcher", "hooks", "otel", "curl")])

asyncio.run(main())
"""


def test_no_cost_when_nobody_watches() -> None:
    """Without an observer a call runs no line of what watches, and does not load it."""
    answers = CHAT, [chunk("a"), chunk(finish="stop")]
    done = subprocess.run(
        [sys.executable, "-c", UNWATCHED.format(*answers)], capture_output=True, text=True, timeout=50
    )
    assert done.stdout.strip() == "[]", done.stderr
