"""Hooks: told before each try and at the end, may add header fields, fail the call with what they raise, see no key."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from conftest import run
from openaiasync import (
    AnswerEvent,
    APITimeoutError,
    AsyncOpenAI,
    Client,
    ConfigurationError,
    ErrorEvent,
    InternalServerError,
    RequestEvent,
    omit,
)
from scripted import CHAT, STREAM_HEAD, Scripted, Seen, chat, chunk, event, head, json_answer, scripted

HI: Any = [{"role": "user", "content": "hi"}]
KEY = "sk-0123456789"


def with_client(
    script: Any, act: Callable[[Any, Scripted], Awaitable[None]], door: Any = Client, **options: Any
) -> list[Seen]:
    """Run `act` with a client of a scripted server; nothing is held afterwards. What the server saw."""

    async def main() -> list[Seen]:
        async with scripted(script) as server:
            word = "api_base" if door is Client else "base_url"
            async with door(**{word: server.url}, api_key=KEY, **options) as client:
                await act(client, server)
                assert client._calls.shared.limiter.used == 0
            return server.seen

    return run(main())


class Log:
    """Three hooks that remember; `async` ones if asked for."""

    def __init__(self, *, later: bool = False) -> None:
        self.events: list[Any] = []
        hook: Any = self.later if later else self.events.append
        self.words: dict[str, Any] = {"on_request": hook, "on_answer": hook, "on_error": hook}

    async def later(self, event: Any) -> None:
        await asyncio.sleep(0)
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


class TestWhen:
    """What is called when."""

    @pytest.mark.parametrize("door", [Client, AsyncOpenAI])
    @pytest.mark.parametrize("later", [False, True])
    def test_a_call_that_ends_well(self, door: Any, later: bool) -> None:
        """One request, one answer, with everything that is known of them."""
        log = Log(later=later)

        async def act(client: Any, server: Scripted) -> None:
            answer = await client.chat.completions.create(model="m", messages=HI)
            request, done = log.events
            assert isinstance(request, RequestEvent)
            assert isinstance(done, AnswerEvent)
            for told in log.events:
                assert (told.name, told.method) == ("chat.completions.create", "POST")
                assert told.url == f"{server.url}/chat/completions"
                assert told.body == {"model": "m", "messages": HI}
                assert told.content == server.seen[0].body
                assert (told.stream, told.tries) == (False, 1)
            assert done.answer is answer
            assert done.meta is answer.meta

        with_client(chat, act, door, **log.words)

    def test_each_try_is_a_request(self) -> None:
        """A retry and a redirect are sent, so they are requests; what the hook added goes with each."""
        log = Log()

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if len(server.seen) == 1:
                writer.write(json_answer({}, 503, Retry_After_Ms="1"))
            elif len(server.seen) == 2:
                writer.write(head(307, Location="/v1/elsewhere", Content_Length="0"))
            else:
                writer.write(json_answer(CHAT))

        def on_request(event: RequestEvent) -> None:
            log.events.append((event.tries, event.url.rpartition("/")[2]))
            assert "X-Try" not in event.headers
            event.headers["X-Try"] = str(len(log.events))

        server: Any = None

        async def main() -> None:
            nonlocal server
            async with scripted(script) as server:
                async with Client(api_base=server.url, model="m", on_request=on_request) as client:
                    await client.chat("hi")
                assert [seen.headers["x-try"] for seen in server.seen] == ["1", "2", "3"]

        run(main())
        assert log.events == [(1, "completions"), (2, "completions"), (2, "elsewhere")]

    def test_a_call_that_fails(self) -> None:
        """After the last try, with the error that the caller gets."""
        log = Log()

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer({"error": {"message": "no"}}, 500, Retry_After_Ms="1"))

        async def act(client: Any, server: Scripted) -> None:
            with pytest.raises(InternalServerError) as caught:
                await client.chat("hi", max_retries=1)
            failed = log.events[-1]
            assert isinstance(failed, ErrorEvent)
            assert failed.error is caught.value
            assert failed.meta is caught.value.meta
            assert failed.tries == 2

        with_client(script, act, model="m", **log.words)
        assert log.kinds == ["RequestEvent", "RequestEvent", "ErrorEvent"]

    def test_streams(self) -> None:
        """A stream's end is its answer, put together where something keeps it; left early it has none."""
        log = Log(later=True)

        async def act(client: Client, server: Scripted) -> None:
            async with client.chat.stream("hi") as stream:
                async for _ in stream:
                    pass
            assert log.events[-1].answer.text == "Hello."
            assert log.events[-1].answer.meta is stream.meta
            async for _ in await client.chat.completions.create(messages=HI, stream=True):
                pass
            assert log.events[-1].answer is None
            async with client.chat.stream("hi") as stream:
                await stream.__anext__()

        with_client(chat, act, model="m", **log.words)
        assert log.kinds == ["RequestEvent", "AnswerEvent"] * 2 + ["RequestEvent"]

    def test_wrong_arguments_are_no_call(self) -> None:
        """What is wrong before anything is sent is told to no hook."""
        log = Log()

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(TypeError):
                await client.chat("hi", temprature=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

        with_client(chat, act, model="m", **log.words)
        assert log.events == []

    def test_a_cancelled_call(self) -> None:
        """Nobody is told of what the caller cancelled."""
        log = Log()

        async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(3600)

        async def act(client: Client, server: Scripted) -> None:
            task = asyncio.create_task(client.chat("hi"))
            while not server.seen:
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        with_client(silent, act, model="m", **log.words)
        assert log.kinds == ["RequestEvent"]

    def test_uploads(self) -> None:
        """An upload's body is not shown, and its call is told like any other."""
        log = Log()

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            assert b"hello" in seen.body
            assert seen.headers["x-added"] == "1"
            writer.write(json_answer({"text": "words"}))

        async def act(client: Client, server: Scripted) -> None:
            add = {"on_request": lambda event: event.headers.update({"X-Added": "1"})}
            await client.speech_to_text(b"RIFF hello", **add)  # type: ignore[arg-type]

        with_client(script, act, model="m", **log.words)
        assert log.kinds == ["RequestEvent", "AnswerEvent"]
        assert {(event.content, event.body) for event in log.events} == {(b"", None)}


class TestWhere:
    """Hooks of clients and of calls."""

    def test_the_clients_come_first(self) -> None:
        """Both run, and the call's sees what the client's has set."""
        log: list[Any] = []

        async def first(event: RequestEvent) -> None:
            await asyncio.sleep(0.001)
            event.headers["X-A"] = "client"
            log.append("client")

        def second(event: RequestEvent) -> None:
            log.append(event.headers["x-a"])
            event.headers["x-A"] = "call"

        async def act(client: Client, server: Scripted) -> None:
            await client.chat("hi", on_request=second)
            await client.with_options(on_request=None).chat("hi", on_request=None)
            await client.with_options(on_request=second).chat("hi", extra_headers={"X-A": "extra"})

        seen = with_client(chat, act, model="m", on_request=first)
        assert log == ["client", "client", "[redacted]"]
        assert [one.headers.get("x-a") for one in seen] == ["call", None, "call"]

    def test_of_a_call_alone(self) -> None:
        """Every kind of call takes them, verbs too."""
        log = Log()

        async def act(client: Client, server: Scripted) -> None:
            await client.chat("hi", **log.words)
            await client.post("/chat/completions", cast_to=dict, body={}, options=log.words)
            async for _ in await client.chat.completions.create(messages=HI, stream=True, **log.words):
                pass
            await client.chat("hi")

        with_client(chat, act, model="m")
        assert log.kinds == ["RequestEvent", "AnswerEvent"] * 3

    def test_what_is_no_function(self) -> None:
        """Invalid hooks are refused before anything is sent; `omit` and `None` mean no hook."""
        with pytest.raises(ConfigurationError, match="on_answer"):
            Client(api_key="k", on_answer="print")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(TypeError, match="on_error"):
                await client.chat("hi", on_error=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            with pytest.raises(ConfigurationError, match="on_error"):
                client.with_options(on_error=3)
            assert server.seen == []
            await client.chat("hi", on_error=None, on_request=omit)  # type: ignore[arg-type]

        with_client(chat, act, model="m")


class TestRaising:
    """What a hook raises, the call raises; nothing is held after it."""

    @pytest.mark.parametrize("later", [False, True])
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("name", ["on_request", "on_answer", "on_error"])
    def test_it_fails_the_call(self, name: str, stream: bool, later: bool) -> None:
        """With itself, wherever it happens; `on_error` is not told of it."""
        others: list[Any] = []

        async def raises_later(event: Any) -> None:
            await asyncio.sleep(0)
            raise KeyError("mine")

        def raises(event: Any) -> None:
            raise KeyError("mine")

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if name == "on_error":
                writer.write(json_answer({}, 400))
            else:
                await chat(seen, writer)

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(KeyError, match="mine"):
                if stream:
                    async for _ in await client.chat.completions.create(messages=HI, stream=True):
                        pass
                else:
                    await client.chat("hi")
            assert len(server.seen) == (0 if name == "on_request" else 1)
            await client.with_options(on_request=None, on_answer=None, on_error=None).get("/x", cast_to=bytes)

        async def main_script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await (chat(seen, writer) if seen.target.endswith("/x") else script(seen, writer))

        words: dict[str, Any] = {"on_error": others.append} if name != "on_error" else {}
        words[name] = raises_later if later else raises
        with_client(main_script, act, model="m", http_max_in_flight=1, **words)
        assert others == []

    def test_of_what_a_stream_delivered(self) -> None:
        """A hook that raises at the end of a stream does not affect the delivered events."""

        def raises(event: Any) -> None:
            raise KeyError("mine")

        async def act(client: Client, server: Scripted) -> None:
            words: list[str] = []
            async with client.chat.stream("hi") as stream:
                with pytest.raises(KeyError):
                    async for piece in stream:
                        words.append(piece.text)
            assert words == ["Hel", "lo.", ""]
            assert stream.text == "Hello."

        with_client(chat, act, model="m", on_answer=raises)

    def test_a_stream_that_breaks(self) -> None:
        """`on_error` is told of a stream that broke off; what it raises comes out instead."""

        def raises(event: ErrorEvent) -> None:
            assert type(event.error).__name__ == "IncompleteStreamError"
            raise KeyError("mine")

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM_HEAD + event(chunk("Hel")))
            await writer.drain()
            writer.close()

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(KeyError) as caught:
                async with client.chat.stream("hi") as stream:
                    async for _ in stream:
                        pass
            assert type(caught.value.__context__).__name__ == "IncompleteStreamError"

        with_client(script, act, model="m", on_error=raises)

    def test_a_hook_that_takes_too_long(self) -> None:
        """The deadline holds for `on_request`, and says so as every deadline does."""

        async def sleeps(event: Any) -> None:
            await asyncio.sleep(3600)

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(APITimeoutError) as caught:
                await client.chat("hi", on_request=sleeps, deadline=0.05)
            assert caught.value.clock == "deadline"
            assert server.seen == []

        with_client(chat, act, model="m")

    @pytest.mark.parametrize("name", ["on_request", "on_answer"])
    def test_cancelled_in_a_hook(self, name: str) -> None:
        """A caller that is cancelled while a hook waits gets away at once."""
        waits = asyncio.Event()

        async def sleeps(event: Any) -> None:
            waits.set()
            await asyncio.sleep(3600)

        async def act(client: Client, server: Scripted) -> None:
            task = asyncio.create_task(client.chat("hi"))
            await waits.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        with_client(chat, act, model="m", **{name: sleeps})

    @pytest.mark.parametrize(
        ("name", "value"),
        [("Content-Length", "3"), ("X-A", "a\r\nX-B: b"), ("X-\u20ac", "a"), ("X-A", "in euros: \u20ac")],
    )
    def test_header_fields_that_cannot_be(self, name: str, value: str) -> None:
        """They are checked as `extra_headers` are, and their value is quoted nowhere."""

        def sets(event: RequestEvent) -> None:
            event.headers[name] = value

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(ConfigurationError) as caught:
                await client.chat("hi", on_request=sets)
            assert len(value) < 3 or value not in str(caught.value)
            assert server.seen == []

        with_client(chat, act, model="m")


class TestHeaders:
    """The mapping of header fields, and what it hides."""

    def test_as_a_mapping(self) -> None:
        """Case-insensitive; shows what is sent, can add, replace and take away."""

        def on_request(event: RequestEvent) -> None:
            headers = event.headers
            assert headers["content-type"] == "application/json"
            assert "AUTHORIZATION" in headers
            assert 3 not in headers
            assert len(headers) == len(list(headers))
            with pytest.raises(KeyError):
                headers["x-none"]
            with pytest.raises(KeyError):
                del headers["x-none"]
            headers["x-one"] = "a"
            headers["X-One"] = "b"
            assert headers["x-ONE"] == "b"
            assert "'X-One': '[redacted]'" in repr(headers)
            del headers["user-agent"]
            assert "User-Agent" not in headers
            headers["authorization"] = "Token other"

        async def act(client: Client, server: Scripted) -> None:
            await client.chat("hi", on_request=on_request)

        (seen,) = with_client(chat, act, model="m")
        assert seen.headers["x-one"] == "b"
        assert "user-agent" not in seen.headers
        assert seen.headers["authorization"] == "Token other"

    def test_nothing_secret_is_shown(self) -> None:
        """No event, error, command or traceback holds a key or what the caller's header fields say."""
        secrets = (KEY, "default-secret", "extra-secret", "hook-secret", "query-secret")
        events: list[Any] = []

        def on_request(event: RequestEvent) -> None:
            events.append(event)
            assert event.headers["X-Default"] == "[redacted]" == event.headers["X-Extra"]
            event.headers["X-Hook"] = "hook-secret"

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            assert "query-secret" in seen.target
            writer.write(json_answer({"error": {"message": f"bad key {KEY}"}}, 401 if "fail" in seen.target else 200))

        async def act(client: Any, server: Scripted) -> None:
            for name in ("fail", "ok"):
                try:
                    answer = await client.models.with_raw_response.retrieve(
                        name, extra_headers={"X-Extra": "extra-secret"}, extra_query={"api-key": "query-secret"}
                    )
                    shown = [answer.meta.as_curl()]
                except Exception as error:
                    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
                    ours = [frame for frame in trace.stack if "openaiasync" in frame.filename]
                    assert len(ours) >= 3
                    assert KEY not in "".join(str(frame.locals) for frame in ours)
                    shown = [error.as_curl(), pickle.loads(pickle.dumps(error)).as_curl()]
                for told in events:
                    shown += [repr(told), repr(told.headers), told.url]
                    if not isinstance(told, RequestEvent):  # there hooks see what hooks have set
                        shown.append(str(dict(told.headers)))
                assert [secret for secret in secrets if secret in " ".join(shown)] == []
            assert {type(event).__name__ for event in events} == {"RequestEvent", "ErrorEvent", "AnswerEvent"}
            ended = [event for event in events if not isinstance(event, RequestEvent)]
            assert all(event.headers["x-hook"] == "[redacted]" for event in ended)
            assert all("hook-secret" not in repr(event.headers) for event in events)

        with_client(
            script,
            act,
            AsyncOpenAI,
            default_headers={"X-Default": "default-secret"},
            on_request=on_request,
            on_answer=events.append,
            on_error=events.append,
        )
