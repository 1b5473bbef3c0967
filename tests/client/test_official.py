"""What users of the official client rely on beside its methods: raw answers, defaults, verbs, environment, logs."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

import openaiasync
from conftest import run
from openaiasync import APIError, AsyncCursorPage, AsyncOpenAI, AsyncStream, BaseModel, Client, omit
from openaiasync.engine.raw import RawResponse
from openaiasync.types.beta.assistant_stream_event import ThreadRunCompleted
from openaiasync.types.chat import ChatCompletion, ChatCompletionChunk
from scripted import CHAT, STREAM_HEAD, Scripted, Seen, answer, chat, chunk, event, json_answer, scripted

MESSAGES: Any = [{"role": "user", "content": "hi"}]
PAGE = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "o"}], "has_more": False}


def client_of(server: Scripted, **options: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=server.url, **{"api_key": "sk-secret-1", **options})


async def pages(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(json_answer(PAGE, X_Request_Id="req-1"))


class TestRawResponses:
    """`with_raw_response` and `with_streaming_response`."""

    def test_an_answer_and_its_facts(self) -> None:
        """Header fields, status, tries and request are there before the answer is decoded, which happens once."""

        async def busy_first(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if seen.headers["x-stainless-retry-count"] == "0":
                writer.write(json_answer({"error": {"message": "busy"}}, 503, Retry_After="0"))
            else:
                writer.write(json_answer(CHAT, X_Request_Id="req-1"))

        async def main() -> None:
            async with scripted(busy_first) as server, client_of(server) as client:
                raw = await client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
                assert (raw.status_code, raw.retries_taken, raw.request_id) == (200, 1, "req-1")
                assert raw.headers["X-Request-ID"] == "req-1"
                assert (raw.method, raw.url) == ("POST", f"{server.url}/chat/completions")
                assert raw.http_request.method == "POST"
                assert "sk-secret" not in repr(raw.http_request) + repr(raw)
                assert raw.json() == CHAT
                parsed = raw.parse()
                assert isinstance(parsed, ChatCompletion)
                assert raw.parse() is parsed
                assert raw.parse(to=dict) == CHAT
                assert parsed._request_id == "req-1"

        run(main())

    def test_a_stream_a_page_and_an_error(self) -> None:
        """A raw stream parses to the open stream, a raw page to the page; an error status raises as ever."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if seen.target.endswith("/files"):
                await pages(seen, writer)
            elif seen.target.endswith("/models"):
                writer.write(json_answer({"error": {"message": "no", "code": "c"}}, 404))
            else:
                await chat(seen, writer)

        async def main() -> None:
            async with scripted(script) as server, client_of(server) as client:
                raw: Any = await client.with_raw_response.chat.completions.create(
                    model="m", messages=MESSAGES, stream=True
                )
                assert isinstance(raw, RawResponse)
                stream: AsyncStream[ChatCompletionChunk] = raw.parse()
                assert "".join([piece.text async for piece in stream]) == "Hello."
                page = (await client.files.with_raw_response.list()).parse()
                assert isinstance(page, AsyncCursorPage)
                assert [item.id async for item in page] == ["m"]
                with pytest.raises(openaiasync.NotFoundError, match="no"):
                    await client.models.with_raw_response.list()

        run(main())

    def test_a_body_that_is_read_as_one_likes(self, tmp_path: Path) -> None:
        """The body of a streamed response comes in lines, pieces, whole, decoded or into a file; leaving frees it."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(answer("été\r\nzwei\n".encode(), content_type="text/plain"))

        async def main() -> None:
            async with scripted(script) as server, client_of(server) as client:
                ways = client.files.with_streaming_response
                async with ways.content("f") as response:
                    assert [line async for line in response.iter_lines()] == ["été", "zwei"]
                    with pytest.raises(RuntimeError, match="read already"):
                        await response.read()
                async with ways.content("f") as response:
                    assert [piece async for piece in response.iter_bytes(4)] == [
                        b"\xc3\xa9t\xc3",
                        b"\xa9\r\nz",
                        b"wei\n",
                    ]
                async with ways.content("f") as response:
                    assert (await response.text(), await response.read()) == ("été\r\nzwei\n", "été\r\nzwei\n".encode())
                async with ways.content("f") as response:
                    await response.stream_to_file(tmp_path / "out")
                assert (tmp_path / "out").read_text(encoding="utf-8") == "été\nzwei\n"
                async with ways.content("f") as response:
                    assert not response.is_closed
                assert response.is_closed
                assert server.connections <= 2, "a body that was read to its end leaves its connection to the next"

        run(main())

    def test_streamed_answers_decode(self) -> None:
        """`parse()` of a streamed response is the method's answer, or its open stream."""

        async def main() -> None:
            async with scripted() as server, client_of(server) as client:
                create = client.chat.completions.with_streaming_response.create
                async with create(model="m", messages=MESSAGES) as response:
                    assert (await response.parse()).text == "Hello."
                async with create(model="m", messages=MESSAGES, stream=True) as response:
                    stream: Any = await response.parse()
                    assert "".join([piece.text async for piece in stream]) == "Hello."

        run(main())


class TestDefaults:
    """Header fields and query parameters of every request."""

    def test_defaults_and_what_a_call_makes_of_them(self) -> None:
        """They are sent with every request; a call replaces them, or leaves them out with `omit`."""

        async def main() -> None:
            headers = {"X-Team": "a", "User-Agent": "mine/1", "X-Gone": omit}
            async with scripted(pages) as server:
                client = client_of(server, default_headers=headers, default_query={"v": "1"}, project="p")
                async with client:
                    await client.models.list()
                    await client.models.list(extra_headers={"x-team": "b", "user-agent": omit}, extra_query={"w": 2})
                    await client.models.list(extra_query={"v": 2})
                    await client.copy(default_headers={"X-More": "1"}, set_default_query={"z": 3}).models.list()
                    await client.copy(set_default_headers={"X-Only": "1"}, organization="o").models.list()
                first, second, _, third, fourth = server.seen
                assert (first.headers["x-team"], first.headers["user-agent"]) == ("a", "mine/1")
                assert first.headers["openai-project"] == "p"
                assert "x-gone" not in first.headers
                assert second.headers["x-team"] == "b"
                assert "user-agent" not in second.headers
                assert [seen.target for seen in server.seen[:4]] == [
                    "/v1/models?v=1",
                    "/v1/models?v=1&w=2",
                    "/v1/models?v=2",
                    "/v1/models?z=3",
                ]
                assert (third.headers["x-team"], third.headers["x-more"]) == ("a", "1")
                assert "x-team" not in fourth.headers
                assert (fourth.headers["x-only"], fourth.headers["openai-organization"]) == ("1", "o")

        run(main())

    def test_keys_of_two_kinds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Administration endpoints get the administration key, all others the usual one; a header field beats both."""
        monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-env")

        async def main() -> None:
            async with scripted(pages) as server:
                async with client_of(server) as client:
                    await client.admin.organization.projects.list()
                    await client.models.list()
                    await client.with_options(admin_api_key="sk-admin-2").admin.organization.projects.list()
                    await client.models.list(extra_headers={"Authorization": "Custom 1"})
                    client.api_key = "sk-new"
                    await client.models.list()
                assert [seen.headers["authorization"] for seen in server.seen] == [
                    "Bearer sk-admin-env",
                    "Bearer sk-secret-1",
                    "Bearer sk-admin-2",
                    "Custom 1",
                    "Bearer sk-new",
                ]

        run(main())

    def test_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Organisation, project and header fields of the environment are sent; arguments win over them."""
        monkeypatch.setenv("OPENAI_ORG_ID", "org-env")
        monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-env")
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-One: 1\nX-Two:two: three\nno header\n")

        async def main() -> None:
            async with scripted(pages) as server:
                async with client_of(server) as client:
                    await client.models.list()
                async with client_of(server, project="mine", default_headers={"X-One": "arg"}) as client:
                    await client.models.list()
                first, second = (seen.headers for seen in server.seen)
                assert (first["openai-organization"], first["openai-project"]) == ("org-env", "proj-env")
                assert (first["x-one"], first["x-two"]) == ("1", "two: three")
                assert (second["openai-project"], second["x-one"]) == ("mine", "arg")

        run(main())

    def test_another_base_for_namespaces_in_use(self) -> None:
        """Setting `base_url` changes where all methods go, those of namespaces taken before included."""

        async def main() -> None:
            async with scripted() as first, scripted() as second, client_of(first) as client:
                completions = client.chat.completions
                await completions.create(model="m", messages=MESSAGES)
                client.base_url = second.url + "/"
                assert client.base_url == second.url + "/"
                await completions.create(model="m", messages=MESSAGES)
                assert (len(first.seen), len(second.seen)) == (1, 1)

        run(main())

    def test_the_count_of_retries(self) -> None:
        """Each try says its number, unless the call omits or replaces the field; `Client` never says it."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            first = len(server_of[0].seen) % 2 == 1
            writer.write(
                json_answer({"error": {"message": "busy"}}, 503, Retry_After="0") if first else json_answer(PAGE)
            )

        server_of: list[Scripted] = []

        async def main() -> None:
            name = "x-stainless-retry-count"
            async with scripted(script) as server:
                server_of.append(server)
                async with client_of(server) as client:
                    await client.models.list()
                    await client.models.list(extra_headers={name: omit})
                    await client.models.list(extra_headers={"X-Stainless-Retry-Count": "42"})
                async with Client(api_base=server.url) as ours:
                    await ours.models.list()
                counts = [seen.headers.get(name) for seen in server.seen]
                assert counts == ["0", "1", None, None, "42", "42", None, None]

        run(main())


class TestVerbs:
    """`get`, `post`, `put`, `patch`, `delete` with `cast_to`."""

    def test_what_is_sent_and_what_comes(self) -> None:
        """Path, query, header fields and body as given; the answer as the type that is asked for."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer({"id": seen.target, "n": 1}))

        class Thing(BaseModel):
            id: str

        async def main() -> None:
            async with scripted(script) as server, client_of(server) as client:
                thing = await client.post("/things?a=1", cast_to=Thing, body={"x": 1}, options={"params": {"b": 2}})
                assert isinstance(thing, Thing)
                assert (thing.id, thing.extra) == ("/v1/things?a=1&b=2", {"n": 1})
                assert await client.get("things", cast_to=dict[str, Any]) == {"id": "/v1/things", "n": 1}
                assert await client.put("/things", cast_to=bytes, body=[1]) == b'{"id": "/v1/things", "n": 1}'
                assert "/v1/things" in await client.patch(
                    "/things", cast_to=str, body={}, options={"headers": {"X": "1"}}
                )
                assert await client.delete("/things", cast_to=type(None)) is None
                assert [seen.method for seen in server.seen] == ["POST", "GET", "PUT", "PATCH", "DELETE"]
                assert [seen.body for seen in server.seen] == [b'{"x":1}', b"", b"[1]", b"{}", b""]
                assert server.seen[3].headers["x"] == "1"
                assert {seen.headers["authorization"] for seen in server.seen} == {"Bearer sk-secret-1"}
                with pytest.raises(ValueError, match="below the API base"):
                    await client.get("http://elsewhere/x", cast_to=dict)
                with pytest.raises(TypeError, match="options has no 'header'"):
                    await client.get("/x", cast_to=dict, options={"header": {}})

        run(main())

    def test_streams_and_lists(self) -> None:
        """A stream of a given event, and a list of a given item, from any path."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if seen.target.startswith("/v1/list"):
                more = "after=m" not in seen.target
                writer.write(json_answer({**PAGE, "has_more": more, "last_id": "m"}))
            else:
                await chat(seen, writer)

        async def main() -> None:
            async with scripted(script) as server, client_of(server) as client:
                stream: Any = await client.post(
                    "/chat/completions",
                    cast_to=ChatCompletion,
                    body={"stream": True},
                    stream=True,
                    stream_cls=AsyncStream[ChatCompletionChunk],
                )
                assert "".join([piece.text async for piece in stream]) == "Hello."
                items = client.get_api_list("/list", model=openaiasync.types.Model, page=AsyncCursorPage)
                assert [item.id async for item in items] == ["m", "m"]

        run(main())


class TestParameters:
    """What may stand in a parameter's place."""

    def test_markers_of_the_official_client(self) -> None:
        """`NOT_GIVEN` and `omit`, ours or of classes with their names, leave parameters out wherever they may stand."""
        not_given = type("NotGiven", (), {"__bool__": lambda self: False})()

        async def main() -> None:
            async with scripted() as server, client_of(server) as client:
                await client.chat.completions.create(
                    model="m",
                    messages=MESSAGES,
                    stream=not_given,  # type: ignore[arg-type]
                    temperature=omit,  # type: ignore[arg-type]
                    top_p=openaiasync.NOT_GIVEN,  # type: ignore[arg-type]
                    timeout=not_given,
                    extra_headers=not_given,
                    extra_query=not_given,
                    extra_body=not_given,
                )
                assert server.seen[0].json() == {"model": "m", "messages": MESSAGES}
                assert server.seen[0].target == "/v1/chat/completions"
                await client.models.with_raw_response.retrieve("m", extra_query={"a": omit, "b": 1})
                assert server.seen[1].target == "/v1/models/m?b=1"

        run(main())

    def test_a_thing_with_an_error_is_no_error(self) -> None:
        """An object without a schema may have a field `error`; an error object with status 200 raises."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            thing = {"error": {"message": "once failed"}}
            writer.write(json_answer({"id": "turn-1", **thing} if "turn-1" in seen.target else thing))

        async def main() -> None:
            async with scripted(script) as server, client_of(server, max_retries=0) as client:
                retrieve = client.beta.agents.sessions.turns.retrieve
                turn = await retrieve("turn-1", session_id="s")
                assert turn.extra["error"].message == "once failed"
                with pytest.raises(APIError, match="once failed"):
                    await retrieve("turn-2", session_id="s")

        run(main())


class TestLogging:
    """`OPENAI_LOG` and the log ``openaiasync``."""

    def test_lines_without_secrets(self, caplog: pytest.LogCaptureFixture) -> None:
        """At INFO a line for each answer, at DEBUG what was sent and came; no key, no header field of the user's."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer(CHAT, X_Echo=seen.headers["authorization"], X_Request_Id="req-1"))

        async def main() -> None:
            async with scripted(script) as server:
                client = client_of(server, default_headers={"X-Api-Key": "sk-secret-2"}, admin_api_key="sk-secret-3")
                async with client:
                    await client.chat.completions.create(
                        model="m", messages=MESSAGES, extra_headers={"X-Token": "sk-secret-4"}
                    )

        with caplog.at_level(logging.INFO, "openaiasync"):
            run(main())
        assert any("/chat/completions: 200 in" in line for line in caplog.messages)
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "openaiasync"):
            run(main())
        assert "req-1" in caplog.text
        assert "sk-secret" not in caplog.text

    @pytest.mark.parametrize(("value", "level"), [("debug", logging.DEBUG), ("INFO", logging.INFO), ("x", None)])
    def test_the_environment_switches_it_on(
        self, value: str, level: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`OPENAI_LOG=info` or `debug` sets the level when a client is made; anything else changes nothing."""
        logger = logging.getLogger("openaiasync")
        monkeypatch.setattr(logger, "level", logging.NOTSET)
        logger.manager._clear_cache()  # type: ignore[attr-defined]
        monkeypatch.setenv("OPENAI_LOG", value)
        try:
            AsyncOpenAI(api_key="k")
            assert logger.level == (logging.NOTSET if level is None else level)
        finally:
            logger.setLevel(logging.NOTSET)


def test_events_of_assistants_have_their_names() -> None:
    """What an assistant's event is stands outside of its data: it is the object's `event`, and tells its class."""
    run_of = {"id": "run-1", "object": "thread.run", "thread_id": "t", "status": "completed"}

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        lines = f"event: thread.run.completed\ndata: {json.dumps(run_of)}\n\nevent: done\ndata: [DONE]\n\n".encode()
        writer.write(STREAM_HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(lines), lines))

    async def main() -> None:
        async with scripted(script) as server, client_of(server) as client:
            stream = await client.beta.threads.runs.create("t", assistant_id="a", stream=True)
            (event,) = [one async for one in stream]
            assert isinstance(event, ThreadRunCompleted)
            assert (event.event, event.data.id, event.data.thread_id) == ("thread.run.completed", "run-1", "t")

    run(main())


def test_a_stream_can_be_left_like_the_official_one() -> None:
    """`response`, `close` and `async with` of an open stream are there."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + event(chunk("a")))
        while True:  # until the client is gone
            writer.write(event(chunk("b")))
            await writer.drain()
            await asyncio.sleep(0.01)

    async def main() -> None:
        async with scripted(script) as server, client_of(server) as client:
            stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            assert stream.response.status_code == 200
            async with stream:
                assert (await stream.__anext__()).text == "a"
            async with asyncio.timeout(5):
                while server.open:
                    await asyncio.sleep(0.01)

    run(main())


def test_callable_namespaces_answer_raw_too() -> None:
    """`client.chat` seen raw can be called as itself; what cannot be called says so."""

    async def main() -> None:
        async with scripted() as server, Client(api_base=server.url, model="m") as client:
            raw = await client.chat.with_raw_response("hi")
            assert raw.status_code == 200
            assert raw.parse().text == "Hello."
            assert (await client.with_raw_response.chat("hi")).parse().text == "Hello."
            async with client.chat.with_streaming_response("hi") as response:
                assert (await response.parse()).text == "Hello."
            with pytest.raises(TypeError, match="cannot be called"):
                client.files.with_raw_response("hi")

    run(main())
