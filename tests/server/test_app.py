"""The API as a whole: keys, paths, errors, headers, and clients that leave in the middle of an answer."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import run
from openaiasync.demo import DEMO_MODELS, demo_app
from openaiasync.endpoints import ENDPOINTS
from openaiasync.server import ChatRequest, Server, serve
from openaiasync.server.operations import OPERATIONS
from openaiasync.server.validation import body_schema

from .wire import SAY_HELLO, Answer, Wire, request, until

CHAT_PATH = "/v1/chat/completions"


def ask(text: str, *, model: str = "demo-chat", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def call(
    method: str, path: str, body: Any = None, fields: dict[str, str] | None = None, app: Server | None = None
) -> Answer:
    """One call to a fresh server."""

    async def main() -> Answer:
        async with serve(app or demo_app()) as server, Wire(server) as wire:
            return await wire.call(method, path, body, fields)

    return run(main())


def counting(models: str = "m", delay: float = 0.0) -> tuple[Server, list[int]]:
    """A server whose model says a long text, and how many words it has said."""
    app, said = Server(), [0]

    @app.chat(models)
    async def reply(request: ChatRequest) -> AsyncIterator[str]:
        for _ in range(5000):
            await asyncio.sleep(delay)
            said[0] += 1
            yield "word "

    return app, said


def test_every_operation_is_in_the_table() -> None:
    """Operations have the names by which the client calls them, and the schemas know every parameter they have."""
    assert set(OPERATIONS) - {"health", "metrics", "picture"} <= set(ENDPOINTS)
    for name in ("chat.completions.create", "completions.create", "embeddings.create", "responses.create"):
        endpoint = ENDPOINTS[name]
        assert set(body_schema(name)["properties"]) <= endpoint.known | ({"stream"} if endpoint.event else set())


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_paths_with_and_without_version(prefix: str) -> None:
    for method, path, body in (
        ("GET", "/health", None),
        ("GET", "/models", None),
        ("GET", "/models/demo-chat", None),
        ("POST", "/chat/completions", SAY_HELLO),
        ("POST", "/completions", {"model": "demo-complete", "prompt": "The sea"}),
        ("POST", "/embeddings", {"model": "demo-embed", "input": "The sea"}),
    ):
        assert call(method, prefix + path, body).status == 200, path


def test_models() -> None:
    """Listed, looked up (also with an escaped name), and not to be deleted."""
    listed = call("GET", "/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == list(DEMO_MODELS.values())
    app, _ = counting("org/name:1")
    found = call("GET", "/v1/models/org%2Fname:1", app=app).json()
    assert found == {"id": "org/name:1", "object": "model", "created": found["created"], "owned_by": "openaiasync"}
    assert call("GET", "/v1/models/other").error()["code"] == "model_not_found"
    answer = call("DELETE", "/v1/models/demo-chat")
    assert (answer.status, answer.error()["param"]) == (403, "model")
    assert call("DELETE", "/v1/models/other").status == 404


@pytest.mark.parametrize(
    ("key", "status"),
    [(None, 401), ("Bearer wrong", 401), ("secret", 401), ("Bearer secret ", 200), ("Bearer secret", 200)],
)
def test_keys(key: str | None, status: int) -> None:
    """With a key set, only that key is let in; without one, any."""
    fields = {} if key is None else {"Authorization": key}
    answer = call("GET", "/v1/models", None, fields, demo_app(api_key="secret"))
    assert answer.status == status
    if status == 401:
        error = answer.error()
        assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")
        assert "secret" not in error["message"]
    assert call("GET", "/v1/models", None, fields).status == 200
    assert call("GET", "/health", None, fields, demo_app(api_key="secret")).status == 200


def test_key_is_checked_before_anything_else() -> None:
    """A stranger does not learn which paths there are, and a body is not read for one."""
    assert call("GET", "/v1/nothing", app=demo_app(api_key="k")).status == 401

    async def main() -> None:
        async with serve(demo_app(api_key="k")) as server, Wire(server) as wire:
            await wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
            assert (await wire.answer()).status == 401

    run(main())


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "unknown_url"),
        ("GET", "/v1", 404, "unknown_url"),
        ("GET", "/v1/chat", 404, "unknown_url"),
        ("GET", "/v1/models/", 404, "unknown_url"),
        ("GET", "/v2/models", 404, "unknown_url"),
        ("POST", "/v1/videos", 404, "unknown_url"),
        ("PUT", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/embeddings", 405, "method_not_allowed"),
        ("PATCH", "/v1/models/x", 405, "method_not_allowed"),
    ],
)
def test_wrong_paths_and_methods(method: str, path: str, status: int, code: str) -> None:
    answer = call(method, path)
    assert (answer.status, answer.error()["code"]) == (status, code)
    allowed = {"/v1/models": "GET, HEAD", "/v1/embeddings": "POST", "/v1/models/x": "GET, DELETE, HEAD"}
    assert answer.fields.get("allow") == (allowed[path] if status == 405 else None)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'"x"', 400),
        (b'{"model": "demo-chat", "messages": NaN}', 400),
        (b'{"a": "\xff"}', 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 100_000, 400),
        (b'{"model": "demo-chat", "n": 1' + b"0" * 10_000 + b"}", 400),
    ],
)
def test_bodies_that_are_no_json_object(body: bytes, status: int) -> None:
    answer = call("POST", CHAT_PATH, body, {"Content-Type": "application/json"})
    assert (answer.status, answer.error()["type"]) == (status, "invalid_request_error")


@pytest.mark.parametrize(
    ("media", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.x+json", 200),
        ("text/plain", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
    ],
)
def test_media_types(media: str, status: int) -> None:
    assert call("POST", CHAT_PATH, SAY_HELLO, {"Content-Type": media}).status == status


def test_body_cap() -> None:
    """413 with an error object, also for a body in chunks."""
    app = demo_app(max_body=1000)
    assert call("POST", CHAT_PATH, ask("x" * 2000), app=app).status == 413

    async def main() -> None:
        async with serve(app) as server, Wire(server) as wire:
            await wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            await wire.send(b"800\r\n" + b" " * 0x800 + b"\r\n")
            assert (await wire.answer()).error()["message"]

    run(main())


def test_headers() -> None:
    """Every answer has a request id of its own and the time it took; what a model did counts against the limits."""
    first, second, lost = call("POST", CHAT_PATH, SAY_HELLO), call("POST", CHAT_PATH, SAY_HELLO), call("GET", "/v1/x")
    ids = {answer.fields["x-request-id"] for answer in (first, second, lost)}
    assert len(ids) == 3
    assert int(first.fields["openai-processing-ms"]) >= 0
    assert int(lost.fields["openai-processing-ms"]) >= 0
    for name in ("requests", "tokens"):
        limit, remaining = (int(first.fields[f"x-ratelimit-{part}-{name}"]) for part in ("limit", "remaining"))
        assert 0 < remaining < limit
        assert first.fields[f"x-ratelimit-reset-{name}"].endswith("s")


def test_delay_between_tokens() -> None:
    """The option and the query slow a stream and a whole answer; the query refuses nonsense."""

    async def main() -> None:
        async with serve(demo_app(token_delay=0.02)) as server, Wire(server) as wire:
            for stream in (True, False):
                start = asyncio.get_running_loop().time()
                answer = await wire.call("POST", CHAT_PATH, ask("Hello", stream=stream))
                assert answer.status == 200
                assert asyncio.get_running_loop().time() - start > 0.1
            for wrong in ("x", "-1", "11", "nan", "inf"):
                answer = await wire.call("POST", f"{CHAT_PATH}?token_delay={wrong}", SAY_HELLO)
                assert (answer.status, answer.error()["param"]) == (400, "token_delay")
        async with serve(demo_app(token_delay=10.0)) as server, Wire(server) as wire:
            answer = await wire.call("POST", f"{CHAT_PATH}?token_delay=0", ask("Hello", stream=True))
            assert answer.status == 200

    run(main())


@pytest.mark.parametrize("delay", [0.0, 0.002])
def test_client_that_leaves_stops_the_work(delay: float) -> None:
    """In mid-stream: no further token is made, no task remains, other clients are served."""

    async def main() -> None:
        app, said = counting(delay=delay)
        async with serve(app) as server:
            before = asyncio.all_tasks()
            async with Wire(server) as wire:
                await wire.send(request("POST", CHAT_PATH, ask("go", model="m", stream=True)))
                await wire.reader.readuntil(b"word")
            await until(lambda: server.in_flight == 0)
            count = said[0]
            assert 0 < count < 5000
            await asyncio.sleep(0.05)
            assert said[0] == count
            assert asyncio.all_tasks() == before
            async with Wire(server) as wire:
                assert (await wire.call("GET", "/v1/models")).status == 200

    run(main())


def test_client_that_leaves_before_a_whole_answer() -> None:
    """An answer that takes a minute is given up at once."""

    async def main() -> None:
        app, _ = counting(delay=0.01)
        async with serve(app) as server:
            before = asyncio.all_tasks()
            async with Wire(server) as wire:
                await wire.send(request("POST", CHAT_PATH, ask("go", model="m")))
                await until(lambda: server.in_flight == 1)
                await asyncio.sleep(0.05)
                assert server.in_flight == 1
            await until(lambda: server.in_flight == 0, timeout=5)
            assert asyncio.all_tasks() == before

    run(main())


@pytest.mark.parametrize("stream", [True, False])
def test_client_that_does_not_read(stream: bool) -> None:
    """The application itself gives it up after its send timeout, whatever server runs it, and leaves nothing behind."""

    async def main() -> None:
        stuck = asyncio.Event()
        sent: list[Any] = []
        question = json.dumps(ask("count to 100", stream=stream)).encode()
        body = iter([{"type": "http.request", "body": question, "more_body": False}])

        async def receive() -> Any:
            try:
                return next(body)
            except StopIteration:
                await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) > (5 if stream else 1):  # after the head and some pieces, or with the whole body
                stuck.set()
                await asyncio.Event().wait()

        app = demo_app(send_timeout=0.1)
        scope = {"type": "http", "method": "POST", "path": CHAT_PATH, "raw_path": CHAT_PATH.encode(), "headers": [],
                 "query_string": b""}  # fmt: skip
        await asyncio.wait_for(app(scope, receive, send), 5)
        assert stuck.is_set()
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_cancelled_application() -> None:
    """A server that shuts down may cancel a stream: the cancellation passes through, the watcher goes with it."""

    async def main() -> None:
        async with serve(demo_app(token_delay=0.01), grace=0) as server, Wire(server) as wire:
            await wire.send(request("POST", CHAT_PATH, ask("count to 1000", stream=True)))
            await wire.reader.readuntil(b"content")
            await server.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def broken(**options: Any) -> Server:
    app = Server(**options)

    @app.chat("m")
    async def reply(request: ChatRequest) -> str:
        raise ZeroDivisionError("inside the model")

    @app.chat("late")
    async def late(request: ChatRequest) -> AsyncIterator[str]:
        yield "first "
        raise ZeroDivisionError("inside the model")

    return app


def test_model_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """500 without the exception's text, which is logged and shown with `debug` only; the connection goes on."""

    async def main() -> None:
        async with serve(broken()) as server, Wire(server) as wire:
            for stream in (False, True):
                answer = await wire.call("POST", CHAT_PATH, ask("x", model="m", stream=stream))
                assert (answer.status, answer.error()["type"]) == (500, "server_error")
                assert b"inside" not in answer.body
            assert (await wire.call("GET", "/v1/models")).status == 200
        async with serve(broken(debug=True)) as server, Wire(server) as wire:
            answer = await wire.call("POST", CHAT_PATH, ask("x", model="m"))
            assert answer.error()["message"] == "ZeroDivisionError: inside the model"

    run(main())
    assert "inside the model" in caplog.text


def test_model_that_fails_in_mid_stream(caplog: pytest.LogCaptureFixture) -> None:
    """What came stays, an error event ends the stream without ``[DONE]``, and the connection goes on."""

    async def main() -> None:
        async with serve(broken()) as server, Wire(server) as wire:
            answer = await wire.call("POST", CHAT_PATH, ask("x", model="late", stream=True))
            assert answer.status == 200
            assert b"first " in answer.body
            assert b"inside" not in answer.body
            last = answer.body.strip().rpartition(b"\n\n")[2]
            assert json.loads(last.removeprefix(b"data: "))["error"]["type"] == "server_error"
            assert (await wire.call("GET", "/v1/models")).status == 200

    run(main())
    assert "inside the model" in caplog.text


def test_many_streams_take_turns() -> None:
    """A long stream without a delay does not hold up a small call."""

    async def main() -> None:
        app, _ = counting()
        async with serve(app) as server, Wire(server) as long, Wire(server) as short:
            await long.send(request("POST", CHAT_PATH, ask("go", model="m", stream=True)))
            await long.reader.readuntil(b"word")
            reading = asyncio.create_task(long.reader.read(-1))
            assert (await short.call("GET", "/v1/models")).status == 200
            assert server.in_flight == 1
            reading.cancel()

    run(main())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=4) | st.just("function"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "name", "a"]), inner),
    max_leaves=5,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value, as a container and a key."""
    pairs = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return [(value, key) for key, _ in pairs] + [place for _, inner in pairs for place in places(inner)]


FULL = {
    "model": "demo-chat",
    "messages": [
        {"role": "system", "content": "Answer in French, briefly."},
        {"role": "user", "content": [{"type": "text", "text": "Weather in Paris for 3 days?"}], "name": "judy"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": '{"a": 1}'},
        {"role": "user", "content": "What is the weather?"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "weather of a city",
                "parameters": {
                    "type": "object",
                    "properties": {"a": {"anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["x"]}]}},
                    "required": ["a"],
                },
            },
        }
    ],
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "weather"}}]},
    },
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"type": "array", "items": {"type": "string", "maxLength": 5}}},
    },
    "n": 2,
    "stop": ["x"],
    "stream_options": {"include_usage": True},
    "stream": True,
    "metadata": {"a": "b"},
    "store": True,
    "logprobs": True,
    "top_logprobs": 2,
    "max_tokens": 50,
    "seed": 1,
}


ITEMS = [
    {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "clear"},
    {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:,"}]},
]


@given(st.data())
def test_no_request_breaks_the_server(data: st.DataObject) -> None:
    """Whatever stands anywhere in a request: an answer or a refusal, never a failure of the server."""
    body = copy.deepcopy(FULL)
    for _ in range(data.draw(st.integers(0, 3))):
        container, key = data.draw(st.sampled_from(places(body)))
        if data.draw(st.booleans()):
            container[key] = data.draw(json_values)
        else:
            del container[key]
    path = data.draw(
        st.sampled_from(["/chat/completions", "/completions", "/embeddings", "/responses", "/moderations"])
    )
    if path == "/responses":
        body["input"] = (
            body.pop("messages", "x") + copy.deepcopy(ITEMS) if isinstance(body.get("messages"), list) else "x"
        )
        for _ in range(data.draw(st.integers(0, 3))):
            container, key = data.draw(st.sampled_from(places(body)))
            container[key] = data.draw(json_values)
    encoded = json.dumps(body).encode()
    sent: list[Any] = []

    async def receive() -> Any:
        if sent:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": encoded}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
    run(demo_app()(scope, receive, send))
    assert sent[0]["status"] in (200, 400), sent
    assert not sent[-1].get("more_body")


def test_two_handlers_of_one_model() -> None:
    """A model has one handler of each kind, and any models have one."""
    app, _ = counting()
    with pytest.raises(ValueError, match="already has a handler of chat"):
        app.chat("other", "m")(lambda request: "x")
    app.chat()(lambda request: "x")
    with pytest.raises(ValueError, match="already a handler of chat completions for any"):
        app.chat()(lambda request: "x")


def test_only_http() -> None:
    async def main() -> None:
        async def nothing(*args: Any) -> Any:
            raise AssertionError

        with pytest.raises(ValueError, match="unknown"):
            await demo_app()({"type": "unknown"}, nothing, nothing)

    run(main())
