"""The helpers of both clients against one server: the same requests, events in the same order, and values."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import openaiasync
from conftest import run
from forms import parts_of
from official.sequences import (
    CHATS,
    RESPONSES,
    RUN,
    TEXT,
    function_call,
    message,
    named_events,
    response,
    run_of,
)
from openaiasync import lib
from scripted import LAST_CHUNK, STREAM_HEAD, Seen, event, events, json_answer, scripted

openai = pytest.importorskip("openai")
pydantic = pytest.importorskip("pydantic")

pytestmark = [pytest.mark.peers, pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore")]

P = pydantic.create_model("P", x=(int, ...), name=(str, ...))
HI = [{"role": "user", "content": "hi"}]
TOOLS = {
    "chat": (openai.pydantic_function_tool, lib.pydantic_function_tool),
    "responses": (openai.pydantic_responses_function_tool, lib.pydantic_responses_function_tool),
}
_NO_STREAM = ("stream", False)  # what the official client says, and what goes without saying


@asynccontextmanager
async def clients(raw: bytes | Any) -> AsyncIterator[tuple[list[Any], list[Seen]]]:
    """Both clients of a server that says this to everybody: bytes, or what a function makes of the request."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw if isinstance(raw, bytes) else raw(seen))

    async with scripted(script) as server:
        options: dict[str, Any] = {"base_url": server.url, "api_key": "k", "max_retries": 0}
        async with openai.AsyncOpenAI(**options) as theirs, openaiasync.AsyncOpenAI(**options) as ours:
            yield [theirs, ours], server.seen


def asked(seen: list[Seen]) -> list[Any]:
    """What was asked: method, path, and the body without what differs in nothing but words."""
    return [(one.method, one.target, _body(one)) for one in seen]


def _body(seen: Seen) -> Any:
    kind = seen.headers.get("content-type", "")
    if kind.startswith("multipart/"):
        return sorted((part.name, part.content, part.file_name) for part in parts_of(kind, seen.body))
    body = seen.json() if seen.body else None
    return {key: value for key, value in body.items() if (key, value) != _NO_STREAM} if body else body


async def each(raw: Any, call: Any) -> tuple[list[Any], list[Any]]:
    """What both clients make of a call ``(number, client) → anything``, and what both asked."""
    results: list[Any] = []
    requests: list[Any] = []
    async with clients(raw) as (pair, seen):
        for number, client in enumerate(pair):
            try:
                results.append(await call(number, client))
            except Exception as error:
                results.append(error)
            requests.append(asked(seen))
            seen.clear()
    return results, requests


def shown(one: Any) -> dict[str, Any]:
    """An event's fields that both have, but for `parsed` of a text that goes on, which is shown in another way."""
    names = "delta snapshot content refusal name index arguments arguments_delta parsed_arguments text sequence_number"
    names += "" if one.type.endswith("delta") else " parsed"
    found = {name: getattr(one, name) for name in names.split() if hasattr(one, name) and one.type != "chunk"}
    if isinstance(found.get("content"), list):
        found["content"] = [token.token for token in found["content"]]
    if isinstance(found.get("refusal"), list):
        found["refusal"] = [token.token for token in found["refusal"]]
    if isinstance(found.get("snapshot"), list):
        found["snapshot"] = [token.token for token in found["snapshot"]]
    return {"type": one.type, **copy.deepcopy(found)}


def values_of(answer: Any) -> list[Any]:
    """What was made of a chat answer."""
    found: list[Any] = []
    for choice in answer.choices:
        calls = choice.message.tool_calls or []
        arguments = [call.function.parsed_arguments for call in calls]
        found.append((choice.message.content, choice.message.parsed, arguments, choice.finish_reason))
    return found


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("with_tools", [True, False])
@pytest.mark.parametrize("name", CHATS)
def test_chat_streams(name: str, typed: bool, with_tools: bool) -> None:
    """The same events, then the same answer; or the same error after the same events."""

    async def call(number: int, client: Any) -> Any:
        options: dict[str, Any] = {"response_format": P} if typed else {}
        if with_tools:
            options["tools"] = [TOOLS["chat"][number](P)]
        if name == "two choices":
            options["n"] = 2
        found: list[Any] = []
        try:
            async with client.chat.completions.stream(model="m", messages=HI, **options) as stream:
                async for one in stream:
                    found.append(shown(one))
                found.append(values_of(await stream.get_final_completion()))
        except Exception as error:
            found.append((type(error).__name__, error.completion.choices[0].message.content))  # type: ignore[attr-defined]
        return found

    async def main() -> None:
        (theirs, ours), (here, there) = await each(events(CHATS[name]), call)
        assert ours == theirs
        assert there == here

    run(main())


@pytest.mark.parametrize(
    "content",
    [TEXT, '{"x": "one"}', "no JSON", ""],
)
@pytest.mark.parametrize("finish", ["stop", "length", "content_filter"])
def test_chat_parse(content: str, finish: str) -> None:
    """The same request, and the same values of the same answer; an error where the official client has one."""
    call_ = {"id": "1", "type": "function", "function": {"name": "P", "arguments": TEXT}}
    choice = {"role": "assistant", "content": content, "refusal": None, "tool_calls": [call_]}
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    raw = json_answer(
        {**answer, "choices": [{"index": 0, "finish_reason": finish, "logprobs": None, "message": choice}]}
    )

    async def call(number: int, client: Any) -> Any:
        tool = TOOLS["chat"][number](P)
        parse = client.chat.completions.parse
        return values_of(await parse(model="m", messages=HI, response_format=P, tools=[tool]))

    async def main() -> None:
        (theirs, ours), (here, there) = await each(raw, call)
        assert there == here
        if isinstance(theirs, pydantic.ValidationError):
            assert isinstance(ours, openaiasync.StructuredOutputError)
        elif isinstance(theirs, Exception):
            assert type(ours).__name__ == type(theirs).__name__
        else:
            assert ours == theirs

    run(main())


RESPONSE_OPTIONS: list[dict[str, Any]] = [
    {"text_format": P, "tools": True, "model": "m", "input": "q"},
    {"model": "m", "input": "q"},
    {"text_format": P, "response_id": "r", "starting_after": 5},
    {"response_id": "r", "model": "m"},
    {"text": {"format": {"type": "text"}}, "text_format": P, "model": "m", "input": "q"},
    {"starting_after": 3, "model": "m", "input": "q"},
]


@pytest.mark.parametrize("number_of_options", range(len(RESPONSE_OPTIONS)))
@pytest.mark.parametrize("name", RESPONSES)
def test_response_streams(name: str, number_of_options: int) -> None:
    """The same events, then the same response; errors of the same kind for what cannot be asked or has no end."""

    async def call(number: int, client: Any) -> Any:
        options = {**RESPONSE_OPTIONS[number_of_options]}
        if options.pop("tools", None):
            options["tools"] = [TOOLS["responses"][number](P)]
        found: list[Any] = []
        try:
            async with client.responses.stream(**options) as stream:
                async for one in stream:
                    found.append(shown(one))
                final = await stream.get_final_response()
                arguments = [getattr(one, "parsed_arguments", None) for one in final.output]
                found.append((final.output_parsed, final.output_text, arguments, final.status))
        except (TypeError, ValueError, RuntimeError) as error:
            found.append(next(kind for kind in (TypeError, ValueError, RuntimeError) if isinstance(error, kind)))
        return found

    async def main() -> None:
        raw = STREAM_HEAD + b"".join(map(event, RESPONSES[name])) + LAST_CHUNK
        (theirs, ours), (here, there) = await each(raw, call)
        assert ours == theirs
        assert there == here

    run(main())


@pytest.mark.parametrize(
    "output",
    [
        [message(TEXT), function_call(TEXT)],
        [message("hm", phase="commentary"), message(TEXT, phase="final_answer")],
        [function_call(TEXT, namespace="P"), function_call(TEXT, namespace="other")],
        [message("no JSON")],
        [],
    ],
)
def test_response_parse(output: list[Any]) -> None:
    """The same request, and the same values of the same response."""

    async def call(number: int, client: Any) -> Any:
        tool = TOOLS["responses"][number](P)
        answer = await client.responses.parse(model="m", input="q", text_format=P, tools=[tool])
        return answer.output_parsed, [getattr(one, "parsed_arguments", None) for one in answer.output]

    async def main() -> None:
        (theirs, ours), (here, there) = await each(json_answer(response("completed", output)), call)
        assert there == here
        if isinstance(theirs, Exception):
            assert isinstance(ours, openaiasync.StructuredOutputError)
        else:
            assert ours == theirs

    run(main())


def test_tools_of_the_official_client() -> None:
    """They may be passed to ours: their calls' arguments become their models."""
    choice = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "P", "arguments": TEXT}}],
    }
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}

    async def main() -> None:
        raw = json_answer({**answer, "choices": [{"index": 0, "finish_reason": "tool_calls", "message": choice}]})
        async with clients(raw) as (pair, _):
            tool = openai.pydantic_function_tool(P)
            made = await pair[1].chat.completions.parse(model="m", messages=HI, tools=[tool])
            assert made.choices[0].message.tool_calls[0].function.parsed_arguments == P(x=1, name="ab")

    run(main())


def logging_handler(base: Any) -> tuple[Any, list[Any]]:
    """A handler that notes its calls, and the notes."""
    log: list[Any] = []

    def noting(name: str) -> Any:
        async def note(self: Any, *values: Any) -> None:
            log.append((name, [getattr(value, "value", type(value).__name__) for value in values]))

        return note

    names = [name for name in dir(base) if name.startswith("on_")]
    return type("Noting", (base,), {name: noting(name) for name in names})(), log


def test_assistants_streams() -> None:
    """A handler is told of the same in the same order; but a call that is done is done once."""

    async def call(number: int, client: Any) -> Any:
        handler, log = logging_handler((openai, openaiasync)[number].AsyncAssistantEventHandler)
        stream = client.beta.threads.runs.stream(thread_id="th", assistant_id="as", event_handler=handler)
        async with stream as told:
            await told.until_done()
        async with client.beta.threads.create_and_run_stream(assistant_id="as") as other:
            log.append([text async for text in other.text_deltas])
        return [(name, names) for name, names in log[:-1] if name != "on_event"], log[-1]

    async def main() -> None:
        (theirs, ours), (here, there) = await each(named_events(RUN), call)
        again = ("on_tool_call_done", ["FunctionToolCall"])
        assert theirs[0].count(again) == 2
        last = len(theirs[0]) - 1 - theirs[0][::-1].index(again)
        assert ours == (theirs[0][:last] + theirs[0][last + 1 :], theirs[1])
        assert there == here

    run(main())


def _poll_answer(seen: Seen) -> bytes:
    """An object that is finished at the second look."""
    if "runs" in seen.target:
        return json_answer(run_of("completed" if seen.method == "GET" else "queued"))
    status = "completed" if seen.method == "GET" else "in_progress"
    status = "processed" if seen.target.startswith("/v1/files/") else status
    counts = dict.fromkeys(("in_progress", "completed", "failed", "cancelled", "total"), 0)
    return json_answer({"id": "obj", "status": status, "file_counts": counts}, openai_poll_after_ms="1")


POLLS: dict[str, Any] = {
    "wait_for_processing": lambda c: c.files.wait_for_processing("f", poll_interval=0.001),
    "files.poll": lambda c: c.vector_stores.files.poll("f", vector_store_id="vs"),
    "files.create_and_poll": lambda c: c.vector_stores.files.create_and_poll("f", vector_store_id="vs"),
    "files.upload": lambda c: c.vector_stores.files.upload(vector_store_id="vs", file=b"x"),
    "files.upload_and_poll": lambda c: c.vector_stores.files.upload_and_poll(
        vector_store_id="vs", file=("a.txt", b"x"), attributes={"a": 1}, poll_interval_ms=1
    ),
    "batches.poll": lambda c: c.vector_stores.file_batches.poll("b", vector_store_id="vs", poll_interval_ms=1),
    "batches.create_and_poll": lambda c: c.vector_stores.file_batches.create_and_poll("vs", file_ids=["f"]),
    "batches.upload_and_poll": lambda c: c.vector_stores.file_batches.upload_and_poll(
        "vs", files=[b"x"], file_ids=["f"], max_concurrency=1
    ),
    "videos.poll": lambda c: c.videos.poll("v"),
    "videos.create_and_poll": lambda c: c.videos.create_and_poll(prompt="p", poll_interval_ms=1),
    "runs.poll": lambda c: c.beta.threads.runs.poll("run", "th"),
    "runs.create_and_poll": lambda c: c.beta.threads.runs.create_and_poll(thread_id="th", assistant_id="as"),
    "create_and_run_poll": lambda c: c.beta.threads.create_and_run_poll(assistant_id="as", poll_interval_ms=1),
    "submit_tool_outputs_and_poll": lambda c: c.beta.threads.runs.submit_tool_outputs_and_poll(
        thread_id="th", run_id="run", tool_outputs=[{"tool_call_id": "c", "output": "o"}]
    ),
}


@pytest.mark.parametrize("name", POLLS)
def test_polling(name: str) -> None:
    """The same requests in the same order, with the header fields by which servers know that somebody waits."""
    told: list[Any] = []

    def answer(seen: Seen) -> bytes:
        told.append([seen.headers.get(f"x-stainless-{what}") for what in ("poll-helper", "custom-poll-interval")])
        return _poll_answer(seen)

    async def call(number: int, client: Any) -> Any:
        found = await POLLS[name](client)
        return found.id, found.status

    async def main() -> None:
        (theirs, ours), (here, there) = await each(answer, call)
        assert ours == theirs
        assert there == here
        if name != "wait_for_processing":  # where the official client says nothing of it
            assert told[: len(told) // 2] == told[len(told) // 2 :]

    run(main())


@pytest.mark.parametrize("given", ["bytes", "path"])
def test_chunked_uploads(given: str, tmp_path: Path) -> None:
    """The same upload, the same parts, the same end."""
    path = tmp_path / "big.txt"
    path.write_bytes(b"0123456789" * 10)
    file: dict[str, Any] = {"file": path}
    if given == "bytes":
        file = {"file": path.read_bytes(), "filename": "big.txt", "bytes": 100}

    def answer(seen: Seen) -> bytes:
        return json_answer({"id": "part-1" if seen.target.endswith("parts") else "up-1"})

    async def call(number: int, client: Any) -> Any:
        upload = await client.uploads.upload_file_chunked(
            **file, mime_type="text/plain", purpose="assistants", part_size=30, md5="sum"
        )
        return upload.id

    async def main() -> None:
        (theirs, ours), (here, there) = await each(answer, call)
        assert ours == theirs == "up-1"
        assert there == here
        assert len(here) == 6

    run(main())


def test_where_raw_answers_are() -> None:
    """A helper has a raw twin exactly where the official one has."""
    pair = [openai.AsyncOpenAI(api_key="k"), openaiasync.AsyncOpenAI(api_key="k")]
    places = ["chat.completions", "responses", "files", "uploads", "videos", "vector_stores.files"]
    places += ["vector_stores.file_batches", "beta.threads", "beta.threads.runs"]
    names = "parse stream poll create_and_poll upload upload_and_poll wait_for_processing upload_file_chunked create"
    names += " create_and_run_poll create_and_run_stream create_and_stream submit_tool_outputs_and_poll"
    for place in places:
        found: list[set[str]] = []
        for client in pair:
            space: Any = client
            for word in place.split("."):
                space = getattr(space, word)
            found.append({name for name in names.split() if hasattr(space.with_raw_response, name)})
        assert found[0] == found[1], place
