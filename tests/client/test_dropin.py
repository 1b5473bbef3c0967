"""Copies, settings and raw answers as users of the official client know them."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import openaiasync
from conftest import run
from openaiasync import (
    APIResponseValidationError,
    APIStatusError,
    AsyncAzureOpenAI,
    AsyncOpenAI,
    BaseModel,
    Client,
    InternalServerError,
    NotGiven,
    Omit,
    Timeout,
    not_given,
)
from openaiasync.types.chat import ChatCompletion
from scripted import CHAT, Scripted, Seen, answer, chunk, events, head, json_answer, scripted

MESSAGES: Any = [{"role": "user", "content": "hi"}]
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "failed",
    "error": {"code": "server_error", "message": "broken"},
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "model": "m",
    "output": [],
    "parallel_tool_calls": True,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
}


def client_of(server: Scripted, **options: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=server.url, **{"api_key": "sk-secret-1", **options})


def replies(*answers: bytes) -> Any:
    """A script that gives one answer after the other, the last one again and again."""
    left = list(answers)

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])

    return script


class TestCopies:
    """`copy` and `with_options`."""

    @pytest.mark.parametrize("door", [Client, AsyncOpenAI, AsyncAzureOpenAI])
    @pytest.mark.parametrize("name", ["copy", "with_options"])
    def test_they_show_every_option_of_the_constructor(self, door: Any, name: str) -> None:
        """Tools that read signatures find each option as a keyword parameter, and what only a copy has."""
        shown = inspect.signature(getattr(door, name)).parameters
        assert set(inspect.signature(door.__init__).parameters) <= set(shown)
        assert {"set_default_headers", "set_default_query", "_enforce_credentials"} <= set(shown)
        assert {shown[name].kind for name in list(shown)[1:]} == {inspect.Parameter.KEYWORD_ONLY}
        assert {type(shown[name].default) for name in list(shown)[1:]} == {Omit}

    def test_what_cannot_be_meant_is_refused(self) -> None:
        """Wrong types, and adding to what is replaced."""
        client = AsyncOpenAI(api_key="k")
        for name in ("default_headers", "default_query"):
            with pytest.raises(TypeError, match=f"{name} must be a mapping from names to values, not str"):
                client.copy(**{name: "x"})
            with pytest.raises(TypeError, match=f"{name} must be a mapping"):
                client.copy(**{f"set_{name}": 5})
            with pytest.raises(TypeError, match=f"{name} must be a mapping"):
                AsyncOpenAI(api_key="k", **{name: ["x"]})
            with pytest.raises(ValueError, match=f"`{name}` and `set_{name}` arguments are mutually exclusive"):
                client.copy(**{name: {"a": "b"}, f"set_{name}": {}})
        with pytest.raises(TypeError, match="no option 'tiemout'; did you mean 'timeout'"):
            client.copy(tiemout=3)  # type: ignore[call-arg]

    @pytest.mark.parametrize("make", [lambda value: AsyncOpenAI(api_key="k", max_retries=value), None])
    def test_retries_are_a_number(self, make: Any) -> None:
        """`None` is not a number of retries: the error says what to pass instead.

        `math.inf` is accepted, as officially.
        """
        make = make or (lambda value: AsyncOpenAI(api_key="k").with_options(max_retries=value))
        with pytest.raises(TypeError, match=r"cannot be None: pass 0 .* math.inf .* openaiasync.DEFAULT_MAX_RETRIES"):
            make(None)
        assert make(math.inf).max_retries > 10**15
        assert make(7).max_retries == 7
        assert AsyncOpenAI(api_key="k", max_retries=5).copy(max_retries=not_given).max_retries == 5

    def test_none_and_not_given_leave_things_as_they_are(self) -> None:
        """As the official `copy`, whose defaults they are; `timeout=None` is a value."""
        options: dict[str, Any] = {"organization": "o", "project": "p", "webhook_secret": "w", "admin_api_key": "a"}
        headers: dict[str, Any] = {"default_headers": {"X": "1"}, "default_query": {"q": 2}}
        client = AsyncOpenAI(api_key="k", base_url="http://h/v1", websocket_base_url="ws://h", **options, **headers)
        names = [*options, *headers, "api_key", "base_url", "websocket_base_url"]
        for nothing in (None, NotGiven(), openaiasync.omit):
            same = client.copy(**dict.fromkeys([*names, "set_default_headers", "http_client"], nothing))
            assert [getattr(same, name) for name in names] == [getattr(client, name) for name in names]
        assert client.timeout == openaiasync.DEFAULT_TIMEOUT == Timeout(600.0, connect=5.0)
        assert client.copy(timeout=None).timeout is None
        assert client.copy(timeout=not_given).timeout == client.timeout  # type: ignore[arg-type]
        assert client.copy(set_default_headers={}).default_headers == {}

    def test_settings_may_be_set(self) -> None:
        """Attributes that the official client has are not only read."""

        async def main() -> None:
            async with scripted(replies(json_answer({}, 500))) as server, client_of(server) as client:
                client.max_retries = 0
                client.timeout = 7.5
                client.organization, client.project = "org", "proj"
                client.admin_api_key, client.websocket_base_url = "sk-admin", "ws://other"
                assert (client.max_retries, client.timeout, client.admin_api_key) == (0, 7.5, "sk-admin")
                assert client.websocket_base_url == "ws://other"
                with pytest.raises(InternalServerError):
                    await client.models.list()
                (seen,) = server.seen
                assert (seen.headers["openai-organization"], seen.headers["openai-project"]) == ("org", "proj")
                with pytest.raises(TypeError, match="cannot be None"):
                    client.max_retries = None  # type: ignore[assignment]

        run(main())

    def test_another_http_client_shares_nothing(self) -> None:
        """A copy over an httpx client is closed alone; anything but an asynchronous client is a `TypeError`."""
        sent: list[str] = []

        class Carrier:
            async def send(self, request: Any, **options: Any) -> Any:
                sent.append(str(request.url))
                raise RuntimeError("carried")

            async def aclose(self) -> None: ...

        class Blocking:
            def send(self, request: Any) -> Any: ...

        async def main() -> None:
            async with scripted() as server, client_of(server) as client:
                copied = client.copy(http_client=Carrier())
                assert copied._calls.shared is not client._calls.shared
                assert client.copy(timeout=3)._calls.shared is client._calls.shared
                await copied.close()
                assert (copied.is_closed(), client.is_closed()) == (True, False)
                assert (await client.chat("hi", model="m")).text == "Hello."

        run(main())
        for wrong in (Blocking(), "client", 5):
            with pytest.raises(TypeError, match="Invalid `http_client` argument"):
                AsyncOpenAI(api_key="k", http_client=wrong)
            with pytest.raises(TypeError, match="Invalid `http_client` argument"):
                AsyncOpenAI(api_key="k").copy(http_client=wrong)


@pytest.mark.parametrize("url", ["http://h:5000/from/init", "http://h:5000/from/init/"])
def test_a_base_url_ends_with_a_slash(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given, set, or from the environment; its parts have httpx's names; requests have one slash."""
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    clients = [AsyncOpenAI(api_key="k", base_url=url), AsyncOpenAI(api_key="k"), Client(api_base=url)]
    clients[0].base_url = "http://other"
    clients[0].base_url = url
    for client in clients:
        base = client.base_url
        assert base == "http://h:5000/from/init/"
        assert (base.scheme, base.host, base.port, base.path) == ("http", "h", 5000, "/from/init/")
        assert client.copy(base_url=base).base_url == base
        assert str(client._calls.config.base) == "http://h:5000/from/init"
    assert AsyncOpenAI(api_key="k", base_url="http://h/v1?a=b").base_url == "http://h/v1/?a=b"


class TestRetryCount:
    """``x-stainless-retry-count``."""

    @pytest.mark.parametrize("streamed", [False, True])
    def test_it_is_counted_or_the_callers(self, streamed: bool) -> None:
        """Our count where the call gives none, the call's own word as it is, nothing where it is left out."""
        busy = json_answer({"error": {"message": "busy"}}, 503, Retry_After="0")

        async def asked(**headers: Any) -> tuple[list[str | None], list[str]]:
            async with scripted(replies(busy, busy, json_answer(CHAT))) as server, client_of(server) as client:
                given: Any = {"model": "m", "messages": MESSAGES, "extra_headers": headers}
                if streamed:
                    async with client.chat.completions.with_streaming_response.create(**given) as response:
                        told = response.http_request.headers.get_list("x-stainless-retry-count")
                        assert response.retries_taken == 2
                else:
                    raw = await client.chat.completions.with_raw_response.create(**given)
                    told = raw.http_request.headers.get_list("x-stainless-retry-count")
                    assert raw.retries_taken == 2
                return [seen.headers.get("x-stainless-retry-count") for seen in server.seen], told

        assert run(asked()) == (["0", "1", "2"], ["2"])
        assert run(asked(**{"X-Stainless-Retry-Count": "42"})) == (["42", "42", "42"], ["42"])
        assert run(asked(**{"x-stainless-retry-count": Omit()})) == ([None, None, None], [])


class TestRawAnswers:
    """`with_raw_response`, `with_streaming_response` and what a stream shows of its answer."""

    def test_of_methods_that_answer_nothing(self) -> None:
        """They have a status and header fields like any other; `parse()` gives `None`."""

        async def main() -> None:
            gone = head(204, "No Content", X_Request_Id="req-1")
            async with scripted(replies(gone)) as server, client_of(server) as client:
                assert await client.responses.delete("resp_1") is None  # type: ignore[func-returns-value]
                raw = await client.responses.with_raw_response.delete("resp_1")
                assert (raw.status_code, raw.request_id, raw.is_closed, raw.parse()) == (204, "req-1", True, None)
                async with client.responses.with_streaming_response.delete("resp_1") as response:
                    assert (response.status_code, await response.parse()) == (204, None)
                assert response.is_closed
                deletes = await client.realtime.calls.with_raw_response.hangup("call_1")
                assert deletes.parse() is None

        run(main())

    def test_of_bytes(self) -> None:
        """A streamed response parses to plain bytes, a raw one to the binary answer, as officially."""

        async def main() -> None:
            sound = answer(b"RIFFsound", content_type="audio/wav")
            async with scripted(replies(sound)) as server, client_of(server) as client:
                async with client.files.with_streaming_response.content("file_1") as response:
                    assert await response.parse() == b"RIFFsound"
                speech = client.audio.speech.with_streaming_response
                async with speech.create(model="m", input="hi", voice="alloy") as response:
                    assert not response.is_closed
                    assert await response.parse() == b"RIFFsound"
                    assert response.http_response.content == b"RIFFsound"
                raw = await client.files.with_raw_response.content("file_1")
                assert raw.parse().content == raw.content == raw.http_response.content == b"RIFFsound"
                assert raw.http_response.headers["content-type"] == "audio/wav"

        run(main())

    def test_a_stream_is_closed_through_its_response(self) -> None:
        """`stream.response.aclose()` frees the connection and the slot."""

        async def main() -> None:
            async with scripted(replies(events([chunk("Hel"), chunk("lo."), chunk(finish="stop")]))) as server:
                async with client_of(server) as client:
                    stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
                    async for _ in stream:
                        break
                    assert stream.response.status_code == 200
                    assert not stream.response.is_closed
                    await stream.response.aclose()
                    assert stream.response.is_closed
                    await stream.response.aclose()
                    assert client._calls.shared.limiter.used == 0
                    async with client.chat.completions.stream(model="m", messages=MESSAGES) as helper:
                        await helper.response.aclose()
                        assert helper.response.is_closed

        run(main())


class TestVerbs:
    """`client.post` and its relatives with what the official ones take beside a JSON body."""

    def test_bodies_that_are_sent_as_they_are(self, tmp_path: Path) -> None:
        """Bytes, text, files and iterables, under the type that the caller names; what can be sent once is."""

        async def pieces() -> AsyncIterator[bytes]:
            yield b"one "
            yield b"two"

        async def read(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer({"type": seen.headers["content-type"], "body": seen.body.decode()}))

        async def main() -> None:
            async with scripted(read) as server, client_of(server) as client:
                path = tmp_path / "a.bin"
                path.write_bytes(b"from disk")
                with path.open("rb") as file:
                    for content, body in ((b"raw", "raw"), ("text", "text"), (file, "from disk")):
                        got = await client.post("/upload", content=content, cast_to=dict)
                        assert got == {"type": "application/octet-stream", "body": body}
                named: Any = {"headers": {"Content-Type": "text/csv"}}
                assert await client.put("/upload", content=b"a,b", cast_to=dict, options=named) == {
                    "type": "text/csv",
                    "body": "a,b",
                }
                files = {"file": ("a.txt", b"hello", "text/plain"), "more": [b"1", b"2"]}
                form = await client.post("/form", body={"purpose": "test"}, files=files, cast_to=dict)
                assert form["type"].startswith("multipart/form-data; boundary=")
                assert [word in form["body"] for word in ('name="purpose"', 'filename="a.txt"', "hello")] == [True] * 3
                with pytest.raises(TypeError, match="content must be bytes, text, a file"):
                    await client.post("/upload", content=5, cast_to=dict)

        async def once() -> None:
            async with scripted(replies(json_answer({}, 503, Retry_After="0"))) as server, client_of(server) as client:
                with pytest.raises(InternalServerError):
                    await client.post("/upload", content=pieces(), cast_to=dict)
                assert server.connections == 1

        run(main())
        run(once())

    def test_options_of_a_call(self) -> None:
        """Which key is sent, an idempotency key, and whether redirects are followed."""

        async def main() -> None:
            moved = head(307, "Moved", Location="/v1/there", Content_Length="0")
            async with scripted(replies(moved, json_answer({}), moved)) as server:
                async with client_of(server, admin_api_key="sk-admin") as client:
                    options: Any = {"security": {"admin_api_key_auth": True}, "idempotency_key": "once"}
                    await client.get("/here", cast_to=dict, options=options)
                    assert [seen.target for seen in server.seen] == ["/v1/here", "/v1/there"]
                    assert server.seen[0].headers["authorization"] == "Bearer sk-admin"
                    assert server.seen[0].headers["idempotency-key"] == "once"
                    with pytest.raises(APIStatusError) as caught:
                        await client.get("/here", cast_to=dict, options={"follow_redirects": False})
                    assert caught.value.response.headers["location"] == "/v1/there"
                    assert server.seen[-1].headers["authorization"] == "Bearer sk-secret-1"
                async with client_of(server) as client:
                    with pytest.raises(TypeError, match="Could not resolve authentication method"):
                        await client.get("/here", cast_to=dict, options={"security": {"admin_api_key_auth": True}})

        run(main())


class TestStrict:
    """`strict=True` and `_strict_response_validation=True` check required fields and types, and nothing more."""

    def test_unknown_fields_are_no_error(self) -> None:
        """At any depth, in whole answers, lists, streams and types of the caller; they are kept."""
        choice = {**CHAT["choices"][0], "message": {"role": "assistant", "content": "Hi.", "mood": "good"}, "odd": 1}  # type: ignore[index]
        chat = {**CHAT, "speed": {"tps": 3.5}, "choices": [choice]}
        model = {"id": "m", "object": "model", "created": 1, "owned_by": "o", "size": 3}
        page = {"object": "list", "data": [model], "more": True}

        class Own(BaseModel):
            name: str

        async def main() -> None:
            async with scripted(replies(json_answer(chat))) as server:
                async with client_of(server, _strict_response_validation=True) as client:
                    got = await client.chat.completions.create(model="m", messages=MESSAGES)
                    assert isinstance(got, ChatCompletion)
                    assert got.extra == {"speed": {"tps": 3.5}}
                    assert got.choices[0].extra == {"odd": 1}
                    assert got.choices[0].message.extra == {"mood": "good"}
                    assert got.to_dict() == chat
            async with scripted(replies(json_answer(page))) as server:
                async with client_of(server, _strict_response_validation=True) as client:
                    assert [one.extra async for one in client.models.list()] == [{"size": 3}]
            async with scripted(replies(json_answer({"name": "n", "b": 1}))) as server:
                async with client_of(server, _strict_response_validation=True) as client:
                    own = await client.get("/own", cast_to=Own)
                    assert (own.name, own.extra) == ("n", {"b": 1})
            sent = [{**chunk("Hi."), "speed": 1}, {**chunk(finish="stop"), "usage": None}]
            async with scripted(replies(events(sent))) as server:
                async with Client(api_base=server.url, strict=True, model="m") as strict:
                    async with strict.chat.stream("hi") as stream:
                        assert [one.to_dict() async for one in stream] == sent

        run(main())

    @pytest.mark.parametrize("more", [{}, {"unheard": {"of": 1}}])
    def test_a_declared_error_is_a_value(self, more: dict[str, Any]) -> None:
        """A response that failed says so in its `error`, also beside fields that are not known."""

        async def main() -> None:
            async with scripted(replies(json_answer({**RESPONSE, **more}))) as server:
                async with client_of(server, _strict_response_validation=True) as client:
                    response = await client.responses.create(model="m", input="hi")
                    assert response.error is not None
                    assert (response.status, response.error.message) == ("failed", "broken")
                    assert response.extra == more

        run(main())

    @pytest.mark.parametrize("more", [{}, {"unheard": {"of": 1}}])
    def test_what_is_wrong_is_named(self, more: dict[str, Any]) -> None:
        """A missing or ill-typed field is an error that names it, whatever else came; in a response, too."""
        no_model = {name: value for name, value in CHAT.items() if name != "model"}
        wrong = [
            ({**no_model, **more}, "model"),
            ({**CHAT, "created": "soon", **more}, "created"),
            ({**CHAT, "choices": [{**CHAT["choices"][0], "index": "x", **more}]}, "index"),  # type: ignore[index]
        ]

        async def main() -> None:
            for body, named in wrong:
                async with scripted(replies(json_answer(body))) as server:
                    async with client_of(server, _strict_response_validation=True) as client:
                        with pytest.raises(APIResponseValidationError, match=named):
                            await client.chat.completions.create(model="m", messages=MESSAGES)
            async with scripted(replies(json_answer({**RESPONSE, "tools": "none", **more}))) as server:
                async with client_of(server, _strict_response_validation=True) as client:
                    with pytest.raises(APIResponseValidationError, match="tools"):
                        await client.responses.create(model="m", input="hi")

        run(main())
