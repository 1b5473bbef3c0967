"""The Responses API over chat handlers, strictly as the description says, and batches over all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from conftest import run
from openaiasync import APIStatusError, AsyncOpenAI, BadRequestError, Client, NotFoundError
from openaiasync.server import ChatRequest, Finish, ReasoningDelta, RefusalDelta, ResponseRequest, Server, ToolCallDelta

TOOLS: list[Any] = [{"type": "function", "name": "f", "parameters": {"type": "object"}},
                    {"type": "custom", "name": "note"}]  # fmt: skip


def app() -> Server:
    """A model that does what the user's text names, and else says all it was told."""
    made = Server()

    @made.chat("m")
    async def reply(request: ChatRequest) -> AsyncIterator[Any]:
        if request.text == "think":
            yield ReasoningDelta("hm ")
            yield ReasoningDelta("hm")
        if request.text == "refuse":
            yield RefusalDelta("No.")
        elif request.text == "tools":
            yield ToolCallDelta(request.tools[0]["function"]["name"], '{"a"')
            yield ToolCallDelta(arguments=": 1}")
            yield ToolCallDelta(request.tools[1]["custom"]["name"], "text", kind="custom")
        elif request.text == "cut":
            yield "cut"
            yield Finish("length")
        elif request.text == "format":
            yield json.dumps(request.response_format)
        else:
            for message in request.messages:
                calls = "".join(call[call["type"]]["name"] for call in message.tool_calls)
                yield f"{message.role}:{message.text}{calls} "

    return made


def checked(coroutine: Any) -> Any:
    """Run a function with a strict client on the server."""

    async def main() -> Any:
        async with app().serving() as url, Client(api_base=url, model="m", strict=True) as client:
            return await coroutine(client)

    return run(main())


def test_input_becomes_messages() -> None:
    """Text, messages with parts, instructions, calls of tools with their outputs."""

    async def main(client: Client) -> None:
        async def said(**more: Any) -> str:
            return (await client.responses.create(model="m", **more)).output_text

        assert await said(input="hi") == "user:hi "
        parts: Any = [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]}
        ]
        assert await said(input=parts, instructions="Be brief.") == "system:Be brief. user:a b "
        talk: Any = [
            {"role": "developer", "content": "x"},
            {"type": "reasoning", "id": "r", "summary": []},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "2", "name": "note", "input": "i"},
            {"type": "function_call_output", "call_id": "1", "output": "one"},
            {"type": "custom_tool_call_output", "call_id": "2", "output": "two"},
        ]
        assert await said(input=talk) == "developer:x assistant:fnote tool:one tool:two "
        form: Any = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}}
        wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}
        assert json.loads(await said(input="format", text=form)) == wanted

    checked(main)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("hi", ["message"]),
        ("think", ["reasoning", "message"]),
        ("tools", ["function_call", "custom_tool_call"]),
        ("refuse", ["message"]),
        ("cut", ["message"]),
    ],
)
def test_both_forms_are_the_same(text: str, kinds: list[str]) -> None:
    """Events come in order, items open and close, and add up to the whole response."""

    async def main(client: Client) -> None:
        whole = await client.responses.create(model="m", input=text, tools=TOOLS)
        assert [item.type for item in whole.output] == kinds
        status = "incomplete" if text == "cut" else "completed"
        assert whole.status == status
        assert whole.incomplete_details is None or whole.incomplete_details.reason == "max_output_tokens"
        assert whole.usage is not None
        assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
        async with await client.responses.create(model="m", input=text, tools=TOOLS, stream=True) as stream:
            events = [event async for event in stream]
        names = [event.type for event in events]
        assert names[:2] == ["response.created", "response.in_progress"]
        assert names[-1] == f"response.{status}"
        assert [event.sequence_number for event in events] == list(range(len(events)))
        for word in ("output_item", "content_part"):
            assert names.count(f"response.{word}.added") == names.count(f"response.{word}.done")
        assert names.count("response.output_item.added") == len(kinds)
        last: Any = events[-1]

        def plain(response: Any) -> list[dict[str, Any]]:
            return [
                {name: one for name, one in item.to_dict().items() if not name.endswith("id")}
                for item in response.output
            ]

        assert plain(last.response) == plain(whole)
        deltas: dict[int, str] = {}
        for event in events:
            if event.type.endswith(".delta"):
                found: Any = event
                deltas[found.output_index] = deltas.get(found.output_index, "") + found.delta
        for place, item in enumerate(whole.to_dict()["output"]):
            content = item.get("content") or [{}]
            full = item.get("arguments") or item.get("input") or content[0].get("text") or content[0].get("refusal")
            assert deltas[place] == full

    checked(main)


def test_conversations_go_on() -> None:
    """A stored response is looked up, continued, listed and deleted; one that is not stored is not."""

    async def main(client: Client) -> None:
        first = await client.responses.create(model="m", input="one")
        second = await client.responses.create(model="m", input="two", previous_response_id=first.id)
        assert second.output_text == "user:one assistant:user:one  user:two "
        assert (await client.responses.retrieve(first.id)).output_text == first.output_text
        items = [item async for item in client.responses.input_items.list(second.id)]
        assert len(items) == 3
        await client.responses.delete(first.id)
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(first.id)
        hidden = await client.responses.create(model="m", input="x", store=False)
        with pytest.raises(NotFoundError) as caught:
            await client.responses.create(model="m", input="y", previous_response_id=hidden.id)
        assert caught.value.param == "previous_response_id"

    checked(main)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [{"role": "alien", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0]"),
        ({"input": 5}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"temperature": 3}, "temperature"),
        ({"tools": [{"type": "rocket"}]}, "tools[0].type"),
    ],
)
def test_wrong_requests(body: dict[str, Any], param: str) -> None:
    async def main(client: Client) -> None:
        with pytest.raises(BadRequestError) as caught:
            await client.responses.create(**{"model": "m", "input": "x", **body})
        assert (caught.value.param or "").startswith(param)

    checked(main)


def test_a_model_that_speaks_it_itself() -> None:
    """Its objects and events are passed on as they are."""
    made = Server()

    @made.response("own")
    async def respond(request: ResponseRequest) -> AsyncIterator[dict[str, Any]]:
        response = {"id": "resp_1", "object": "response", "output": [], "model": request.model, "metadata": {"n": "1"}}
        yield {"type": "response.created", "sequence_number": 0, "response": response}
        yield {"type": "response.completed", "sequence_number": 1, "response": response}

    async def main() -> None:
        async with made.serving() as url, Client(api_base=url) as client:
            whole = await client.responses.create(model="own", input="x")
            assert (whole.id, whole.metadata) == ("resp_1", {"n": "1"})
            async with await client.responses.create(model="own", input="x", stream=True) as stream:
                assert [event.type async for event in stream] == ["response.created", "response.completed"]

    run(main())


class TestBatches:
    """Files of requests that run in the background over the same handlers."""

    def test_there_and_back(self) -> None:
        """Each line has its answer under its id, in the order of the input; failures are in a file of their own."""

        async def main(client: Client) -> None:
            lines = [
                {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": {
                    "model": "m" if number != 3 else "nobody", "messages": [{"role": "user", "content": str(number)}]}}
                for number in range(20)
            ]  # fmt: skip
            content = b"\n".join(json.dumps(line).encode() for line in lines)
            file = await client.files.create(file=("in.jsonl", content), purpose="batch")
            batch = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
            )
            assert (batch.status, batch.metadata) == ("in_progress", {"a": "b"})
            while batch.status == "in_progress":
                await asyncio.sleep(0.01)
                batch = await client.batches.retrieve(batch.id)
            assert batch.request_counts is not None
            assert (batch.request_counts.completed, batch.request_counts.failed) == (19, 1)
            output = (await client.files.content(batch.output_file_id or "")).content
            found = [json.loads(line) for line in output.splitlines()]
            assert [one["custom_id"] for one in found] == [str(number) for number in range(20) if number != 3]
            assert found[6]["response"]["body"]["choices"][0]["message"]["content"] == "user:7 "
            (failed,) = (await client.files.content(batch.error_file_id or "")).content.splitlines()
            assert (json.loads(failed)["custom_id"], json.loads(failed)["response"]["status_code"]) == ("3", 404)
            assert [one.id async for one in client.batches.list()] == [batch.id]
            with pytest.raises(APIStatusError, match="completed"):
                await client.batches.cancel(batch.id)

        checked(main)

    def test_cancelled(self) -> None:
        """What is running ends, what was finished is kept."""
        made = Server()

        @made.chat("m")
        async def reply(request: ChatRequest) -> str:
            await asyncio.sleep(0.0 if int(request.text) < 5 else 1000)
            return "x"

        async def main() -> None:
            async with made.serving() as url, AsyncOpenAI(base_url=url, api_key="k") as client:
                content = b"".join(
                    json.dumps({"custom_id": str(number), "url": "/v1/chat/completions", "body": {
                        "model": "m", "messages": [{"role": "user", "content": str(number)}]}}).encode() + b"\n"
                    for number in range(30)
                )  # fmt: skip
                file = await client.files.create(file=("in.jsonl", content), purpose="batch")
                batch = await client.batches.create(
                    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
                )
                while (await client.batches.retrieve(batch.id)).request_counts.completed < 5:  # type: ignore[union-attr]
                    await asyncio.sleep(0.01)
                cancelled = await client.batches.cancel(batch.id)
                assert cancelled.status == "cancelled"
                output = (await client.files.content(cancelled.output_file_id or "")).content
                assert len(output.splitlines()) == 5

        run(main())

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b'{"custom_id": "a", "url": "/v1/embeddings", "body": {}}',
            b'{"custom_id": "a", "url": "/v1/chat/completions"}',
            b'{"url": "/v1/chat/completions", "body": {}}',
            b'{"custom_id": "a", "url": "/v1/chat/completions", "body": {}}\n' * 2,
        ],
    )
    def test_wrong_files(self, content: bytes) -> None:
        """Refused as a whole, with the line."""

        async def main(client: Client) -> None:
            file = await client.files.create(file=("in.jsonl", content), purpose="batch")
            with pytest.raises(BadRequestError) as caught:
                await client.batches.create(
                    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
                )
            assert caught.value.param == "input_file_id"

        checked(main)


def test_a_model_is_optional() -> None:
    """The description requires no model of a response: the first chat handler answers."""

    async def calls(client: Client) -> None:
        response = await client.responses.create(input="hello")
        assert response.output_text.strip() == "user:hello"
        events = [event.type async for event in await client.responses.create(input="hello", stream=True)]
        assert events[-1] == "response.completed"

    checked(calls)


def test_rows_take_the_default_model() -> None:
    """`client.map` over responses sends the client's model with rows that name none."""

    async def calls(client: Client) -> list[Any]:
        rows = await client.map(["a", {"input": "b", "model": "m"}], endpoint="responses")
        return [(row.text.strip(), row.answer.model) for row in rows]

    assert checked(calls) == [("user:a", "m"), ("user:b", "m")]
